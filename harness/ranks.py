"""Per-image scores kept small for publication: the rank of each image, and a few of the values.

AUROC, its interval, ROC curves and paired differences depend on the order of the scores alone. Ranks keep it exactly,
ties included, in about .6 of the space of float32 and .3 of that of float64; a histogram needs no more than some values
between which to interpolate. Arrays of ranks are `normal.<score>` and `anomaly.<score>`, as scores are, of unsigned
integers; the values are `values.<score>`, of float32 where that tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

KEPT = 257
"""Values that are kept of a score, evenly spread over its ranks, the lowest and the highest among them."""
MANY = 4 * KEPT
"""Distinct values from which on ranks are smaller."""
APART = 8
"""Steps of float64 that neighbours are to be apart, so that they are so whatever machine interpolates."""


def to_ranks(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Per-image scores as ranks from 0 upwards, equal ones with equal ranks, and the values to make scores of again.

    A score stays as it is if it has few values, or if they lie too densely to be told apart once interpolated.
    """
    import numpy as np

    made = dict(scores)
    for name in [one.removeprefix("normal.") for one in scores if one.startswith("normal.")]:
        normal, anomaly = scores[f"normal.{name}"], scores[f"anomaly.{name}"]
        distinct, ranks = np.unique(np.concatenate([normal, anomaly]).astype(np.float64), return_inverse=True)
        if len(distinct) < MANY:
            continue
        kept = distinct[_kept(len(distinct))]
        with np.errstate(over="ignore"):
            short = kept.astype(np.float32)
        for values in (short, kept):
            if _tells_apart(values, len(distinct)):
                ranks = ranks.astype(np.min_scalar_type(len(distinct) - 1))
                made[f"normal.{name}"], made[f"anomaly.{name}"] = ranks[: len(normal)], ranks[len(normal) :]
                made[f"values.{name}"] = values
                break
    return made


def from_ranks(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of what `to_ranks` made: the order and the ties are those of the scores, the values about theirs."""
    made = {name: array for name, array in arrays.items() if not name.startswith("values.")}
    for name in [one.removeprefix("values.") for one in arrays if one.startswith("values.")]:
        parts = [f"normal.{name}", f"anomaly.{name}"]
        count = 1 + max(int(arrays[part].max()) for part in parts)
        values = _interpolated(arrays[f"values.{name}"], count)
        made |= {part: values[arrays[part]] for part in parts}
    return made


def _kept(count: int) -> np.ndarray:
    """The ranks, of `count`, whose values are kept."""
    import numpy as np

    return np.linspace(0, count - 1, KEPT).round().astype(np.int64)


def _tells_apart(values: np.ndarray, count: int) -> bool:
    """Whether what is interpolated between the values grows with each of `count` ranks."""
    import numpy as np

    again = _interpolated(values, count)
    step = np.spacing(np.abs(again))
    return bool(np.isfinite(again).all() and (np.diff(again) > APART * np.maximum(step[1:], step[:-1])).all())


def _interpolated(kept: np.ndarray, count: int) -> np.ndarray:
    import numpy as np

    return np.interp(np.arange(count), _kept(count), np.asarray(kept, np.float64))
