"""Decoded pictures, kept beside the files that they come from, so that each is decoded once.

    <root>/.harness-cache/<split>/<class>/<size>-<how many>.<digest>.npy    (N, 3, H, W) uint8

The digest is that of the files' names, sizes and times, so a changed picture is decoded anew. A file appears in one
step, whole, and is then mapped into memory, not read. The folder can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import sweep, whole_file

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = ".harness-cache"
VERSION = 2
"""To be raised whenever pictures are decoded or resized in another way."""


def cached(place: Path, files: Sequence[Path], make: Callable[[], Tensor]) -> Tensor:
    """What `make` returns, from the disk if it is there.

    Args:
        place: the kept file without its digest and ending, under a root's `FOLDER`.
        files: the pictures that `make` decodes, at least one.
        make: returns (N, 3, H, W) uint8, one image for each file.

    Returns:
        The same; what is written to it stays in memory. Where the disk takes nothing, a line says so, once.
    """
    sweep(place.parent)
    path = place.with_name(f"{place.name}.{_digest(files)}.npy")
    found = _mapped(path, len(files))
    if found is not None:
        return found
    images = make()
    try:
        _keep(images, path)
    except OSError as error:
        _say_once(path.parents[2], error.strerror)
        return images
    with contextlib.suppress(OSError):
        for old in place.parent.glob(f"{place.name}.*.npy"):
            if old != path:
                old.unlink()
    found = _mapped(path, len(files))
    return images if found is None else found


def _digest(files: Sequence[Path]) -> str:
    import PIL  # whose versions need not decode alike

    # By the time of change, too: copies and archives set that of modification back, and many pictures have one size.
    states = [(file.name, (at := file.stat()).st_size, at.st_mtime_ns, at.st_ctime_ns) for file in files]
    return hashlib.sha256(json.dumps([VERSION, PIL.__version__, states]).encode()).hexdigest()[:16]


def _mapped(path: Path, n: int) -> Tensor | None:
    """The images in a file; None if there is none, or not a whole one of n images."""
    import numpy as np
    import torch

    try:
        images = np.load(path, mmap_mode="c", allow_pickle=False)
        whole = path.stat().st_size == images.offset + images.nbytes
    except Exception:  # NumPy reads a damaged header as Python, which raises almost anything
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and len(images) == n
    return torch.from_numpy(images) if fits and whole else None


def _keep(images: Tensor, path: Path) -> None:
    import numpy as np

    with whole_file(path) as file:
        np.save(file, images.numpy())


@cache
def _say_once(folder: Path, reason: str) -> None:
    logging.getLogger("harness").warning(
        f"harness: {folder}: can't keep decoded pictures there ({reason}); every run decodes them again"
    )
