"""What a results folder keeps, apart from when and where it was made, and how fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MEASURED = ("fit_seconds", "score_seconds", "seconds", "peak_memory_mib", "provenance")
MEASURED += ("train_images_per_second", "score_images_per_second", "images_per_second")


def kept(folder: str | Path) -> dict[str, bytes]:
    """Every file of a results folder, by its path, as bytes; of JSON files, without what differs from run to run."""
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.parent != root / "claims")
    return {str(path.relative_to(root)): _content(path) for path in files}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The files that are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    values: dict[str, Any] = json.loads(path.read_bytes())
    return json.dumps({name: value for name, value in values.items() if name not in MEASURED}, indent=1).encode()
