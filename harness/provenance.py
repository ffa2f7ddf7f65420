"""What a number was made with: packages, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import harness
from harness.machine import processor

Provenance = dict[str, str | bool | dict[str, str] | None]


@cache
def provenance(device: str) -> Provenance:
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


@cache
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
