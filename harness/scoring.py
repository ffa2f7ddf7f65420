"""The scores of a method: asked for, checked, and made ready to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.method import Method

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CHUNK = 2000
"""Test images handed to a method at a time: bounds the memory, whatever a method makes of them."""


def checked_scores(method: Method, images: Tensor) -> dict[str, np.ndarray]:
    """A method's scores of test images, each (M,) float64, seen to be what its contract promises.

    Raises:
        ValueError: a score is missing, of the wrong shape, or not finite.
    """
    import numpy as np
    import torch

    parts: dict[str, list[np.ndarray]] = {name: [] for name in method.scores}
    for chunk in images.split(CHUNK):
        given = method.score(chunk)
        if not isinstance(given, Mapping) or set(given) != set(method.scores):
            names = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise ValueError(f"score() returned {names}, but the method declares {', '.join(method.scores)}")
        for name, values in given.items():
            values = torch.as_tensor(values).detach().cpu().double().numpy()
            if values.shape != (len(chunk),):
                raise ValueError(f"score {name} has shape {values.shape} for {len(chunk)} images; want ({len(chunk)},)")
            if not np.isfinite(values).all():
                raise ValueError(f"score {name} is not finite for {int((~np.isfinite(values)).sum())} test image(s)")
            parts[name].append(values)
    return {name: _storable(np.concatenate(values)) for name, values in parts.items()}


def compact(values: np.ndarray) -> np.ndarray:
    """float32 where that keeps the values as they are, else float64."""
    import numpy as np

    narrow = values.astype(np.float32)
    return narrow if (narrow == values).all() else values


def _storable(values: np.ndarray) -> np.ndarray:
    """Rounded to float32 where this keeps every order and tie, so that the records stay small; else untouched."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    distinct = len(np.unique(narrow)) == len(np.unique(values)) and np.isfinite(narrow).all()
    return narrow.astype(np.float64) if distinct else values
