"""The machine: its devices, its processor, and how much of it may be used."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import HarnessError

OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""Where Linux tells which groups of processes this one is in, such as a container or a job of Slurm, one within the
other; and how much each may use."""
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


def answers(device: str) -> bool:
    """Whether a device does what it is told: a GPU refuses a process everything once an assertion has failed in one of
    its kernels, say."""
    if not device.startswith("cuda"):
        return True
    import torch

    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


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
    """How many of the processor's cores this process may use: what PyTorch takes, but no more than its groups have."""
    found = threads()
    for quota, period in _limits("cpu", ["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        if quota > 0:  # -1 is no limit
            found = min(found, max(1, quota // period))
    return found


def memory() -> int:
    """Bytes of memory that the machine has, or this process's groups."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for (limit,) in _limits("memory", ["memory.max"], ["memory.limit_in_bytes"]))])


def _limits(kind: str, *ways: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """The limits of one kind that the groups of this process have.

    Args:
        ways: in which files the second and the first version of cgroups tell them.
    """
    for group in _groups(kind):
        for names in ways:
            with contextlib.suppress(OSError, ValueError):  # where there is no limit, there is no file, or "max"
                yield tuple(int(word) for name in names for word in (group / name).read_text().split())


def _groups(kind: str) -> Iterator[Path]:
    """The folders of this process's groups, from its own to the outermost one that is to be seen."""
    with contextlib.suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if not kinds or kind in kinds.split(","):
                top = GROUPS / kind if kinds else GROUPS  # the first version had a tree for each kind
                own = top / name.strip("/")
                yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))
