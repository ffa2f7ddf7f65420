"""The machine: its devices, its processor, and how much of it may be used."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path

from harness.errors import HarnessError

CORES_LIMIT, MEMORY_LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")
"""Where a Linux container is told how much it may use: "200000 100000" are two cores; "max" is no limit."""
PROCESSOR = Path("/proc/cpuinfo")
WIDEST = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512, bfloat16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""The instructions that networks are trained by, the fastest first: by them two processors of one name can differ
fivefold."""


def check_device(wanted: str) -> None:
    """Refuse what is no name of a device, without looking whether it is there."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", wanted):
        raise HarnessError(f"--device {wanted}: write auto, cpu, cuda or cuda:N")


def choose_device(wanted: str) -> str:
    """`auto` -> the GPU if there is one; a device that is not there is refused."""
    import torch

    check_device(wanted)
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    number = int(wanted.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise HarnessError(f"--device {wanted}: there is no such GPU here ({torch.cuda.device_count()} found); try cpu")
    return f"cuda:{number}"


def every_device(wanted: str) -> list[str]:
    """All GPUs where any may be used (`auto` and `cuda`), else the one device that is meant."""
    import torch

    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [choose_device(wanted)]


def processor(device: str) -> str:
    """The name of the GPU, or of the processor, its widest instructions and how many cores it has, as in "AMD EPYC
    (AVX2), 2 cores"; only the former needs PyTorch."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        first_core = PROCESSOR.read_text().partition("\n\n")[0]
        told = dict(re.findall(r"^(model name|flags)\s*: *(.*)$", first_core, re.MULTILINE))
        flags = told.get("flags", "").split()
        widest = [word for flag, word in WIDEST.items() if flag in flags]
        if "model name" in told:
            return f"{told['model name']}{f' ({widest[0]})' if widest else ''}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def threads() -> int:
    import torch

    return torch.get_num_threads()


def cores() -> int:
    """How many of the processor's cores this process may use: what PyTorch takes, but no more than a container has."""
    found = threads()
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, CORES_LIMIT.read_text().split())
        found = min(found, max(1, quota // period))
    return found


def memory() -> int:
    """Bytes of memory that the machine has, or the container."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        found = min(found, int(MEMORY_LIMIT.read_text()))
    return found
