"""Per-image scores kept small for publication: the rank of each image, and a few of the values.

AUROC, its interval, ROC curves and paired differences depend on the order of the scores alone. Ranks keep it exactly,
ties included, in about half the space of float32 and a quarter of that of float64; a histogram needs no more than some
values between which to interpolate. Of a score X, an archive holds

    rank0.X, rank1.X …   the bytes of its ranks, the lowest first: uint8, (n_normal + n_anomaly,) each, normal images
                         first. Apart, since the high ones repeat themselves and the low ones do not.
    values.X             what is kept of the values, (KEPT,), of float32 where that tells them apart

or, as scores are, `normal.X` and `anomaly.X` where ranks do not suit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

KEPT = 129
"""Values that are kept of a score: the lowest, the highest, and closer together the closer they are to these, where
scores lie far apart and the cases of interest are."""
MANY = 4 * KEPT
"""Distinct values from which on ranks are smaller."""
APART = 8
"""Steps of float64 that neighbours are to be apart, so that they are so whatever machine interpolates."""


def to_ranks(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per-image scores as ranks from 0 upwards, equal ones with equal ranks, and the values to make scores of again.

    A score stays as it is if it has few values, or if they lie too densely to be told apart once interpolated.
    """
    import numpy as np

    made: dict[str, np.ndarray] = {}
    for name in [one.removeprefix("normal.") for one in scores if one.startswith("normal.")]:
        parts = {part: scores[part] for part in (f"normal.{name}", f"anomaly.{name}")}
        distinct, ranks = np.unique(np.concatenate([*parts.values()]).astype(np.float64), return_inverse=True)
        values = _values(distinct)
        if values is None:
            made |= parts
        else:
            made |= {f"rank{i}.{name}": byte for i, byte in enumerate(_bytes(ranks))} | {f"values.{name}": values}
    return made


def from_ranks(arrays: Mapping[str, np.ndarray], n_normal: int) -> dict[str, np.ndarray]:
    """Scores of what `to_ranks` made: the order and the ties are those of the scores, the values about theirs.

    Raises:
        ValueError: no ranks of as many images as there are.
    """
    import numpy as np

    made = dict(arrays)
    for name in [one.removeprefix("values.") for one in arrays if one.startswith("values.")]:
        kept = made.pop(f"values.{name}").astype(np.float64)
        ranks = np.stack([made.pop(f"rank{i}.{name}") for i in range(4) if f"rank{i}.{name}" in made], 1)
        ranks = ranks @ 256 ** np.arange(ranks.shape[1])
        count = 1 + int(ranks.max())
        if count > len(ranks):
            raise ValueError(f"{name}: ranks up to {count - 1} of {len(ranks)} images")
        values = np.interp(np.arange(count), _kept(count), kept)[ranks]
        made |= {f"normal.{name}": values[:n_normal], f"anomaly.{name}": values[n_normal:]}
    return made


def _bytes(ranks: np.ndarray) -> np.ndarray:
    """(bytes, n): those that the highest rank needs, the lowest first."""
    import numpy as np

    return ranks.astype("<u4").view(np.uint8).reshape(-1, 4).T[: (int(ranks.max()).bit_length() + 7) // 8]


def _values(distinct: np.ndarray) -> np.ndarray | None:
    """What is kept of sorted values, if that tells them all apart: interpolated, they grow with each rank."""
    import numpy as np

    count = len(distinct)
    if count < MANY:
        return None
    kept = distinct[_kept(count)]
    with np.errstate(over="ignore"):
        short = kept.astype(np.float32)
    for values in (short, kept):
        again = np.interp(np.arange(count), _kept(count), values.astype(np.float64))
        step = np.spacing(np.abs(again))
        if np.isfinite(again).all() and (np.diff(again) > APART * np.maximum(step[1:], step[:-1])).all():
            return values
    return None


def _kept(count: int) -> np.ndarray:
    """The ranks, of `count`, whose values are kept: neighbours at both ends, further apart with the square of the way
    to the middle."""
    import numpy as np

    half = np.arange(KEPT // 2 + 1)
    lower = np.rint(half + (half / half[-1]) ** 2 * ((count - 1) / 2 - half[-1])).astype(np.int64)
    return np.concatenate([lower, count - 1 - lower[-2::-1]])
