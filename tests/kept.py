"""What a results folder keeps, apart from when and where it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TIMES = ("fit_seconds", "score_seconds", "seconds", "provenance")


def kept(folder: str | Path) -> dict[str, bytes]:
    """Every file of a results folder, by its path, as bytes; of JSON files, without times and provenance."""
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
    return json.dumps({name: value for name, value in values.items() if name not in TIMES}, indent=1).encode()
