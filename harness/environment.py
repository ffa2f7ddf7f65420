"""The machine and the moment: device, random state, and what a number was made with."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import harness
from harness.errors import HarnessError

CORES_LIMIT, MEMORY_LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")
"""Where a Linux container is told how much it may use: "200000 100000" are two cores; "max" is no limit."""
PROCESSOR = Path("/proc/cpuinfo")
WIDEST = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512, bfloat16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""The instructions that networks are trained by, the fastest first: by them two processors of one name can differ
fivefold."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed inside; outside, every generator goes on as if nothing had happened."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.random.fork_rng(range(torch.cuda.device_count())), exact:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


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


@cache
def provenance(device: str) -> dict[str, Any]:
    """What a number was made with: packages, commit, device. The time is added per record."""
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "faiss-cpu")
    versions = {name: _version(name) for name in packages}
    commit, dirty = _commit()
    return {
        "harness": harness.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(device),
        "packages": {name: version for name, version in versions.items() if version},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that the harness runs from, and whether it was changed since; None when installed."""

    def git(*words: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if top != Path(__file__).resolve().parents[1]:
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


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
