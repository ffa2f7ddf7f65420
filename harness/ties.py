"""Which numbers of a row are the best, or can't be told from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from harness.metrics import compare, pooled_interval, student
from harness.records import Record

Scores = Callable[[Record], Mapping[str, NDArray]]
"""The per-image scores of a record, as `Store.scores` gives them."""


@dataclass(frozen=True)
class Entry:
    """What one number of a table is made from."""

    score: str
    cases: tuple[tuple[Record, ...], ...]
    """For each case that it is the mean of, the records that have the score: one per seed."""

    @property
    def mean(self) -> float:
        return statistics.fmean(statistics.fmean(one.scores[self.score].auroc for one in case) for case in self.cases)


def best_or_tied(entries: Sequence[Entry], scores: Scores) -> list[bool]:
    """For each of several numbers of the same cases, whether it is the highest or statistically tied with that one.

    Two numbers are tied if 0 lies in the 95 % interval of their difference, which is paired: by image (`compare`)
    within each seed that both have, and by seed across seeds, as in `pooled_interval`. Over several cases the
    differences are averaged, and so are the half-widths, since cases may share images and err together.
    """
    best = max(entries, key=lambda entry: entry.mean)
    loaded: dict[int, Mapping[str, NDArray]] = {}

    def remembered(record: Record) -> Mapping[str, NDArray]:
        if id(record) not in loaded:
            loaded[id(record)] = scores(record)
        return loaded[id(record)]

    return [entry is best or not _clearly_below(entry, best, remembered) for entry in entries]


def _clearly_below(entry: Entry, best: Entry, scores: Scores) -> bool:
    pairs = list(zip(best.cases, entry.cases, strict=True))
    # However the errors of the two are correlated, intervals that lie apart decide it, without a look at the scores.
    if all(_interval(best.score, a)[0] > _interval(entry.score, b)[1] for a, b in pairs):
        return True
    found = [_difference(best.score, a, entry.score, b, scores) for a, b in pairs]
    return statistics.fmean(d for d, _ in found) > statistics.fmean(reach for _, reach in found)


def _interval(score: str, records: Sequence[Record]) -> tuple[float, float]:
    return pooled_interval([record.scores[score] for record in records])


def _difference(
    score_a: str, a: Sequence[Record], score_b: str, b: Sequence[Record], scores: Scores
) -> tuple[float, float]:
    """The mean AUROC of a less that of b in one case, and how far its 95 % interval reaches below."""
    other = {record.seed: record for record in b}
    pairs = [(record, other[record.seed]) for record in a if record.seed in other]
    if not pairs:  # no seed in common: nothing cancels out
        means = [statistics.fmean(one.scores[s].auroc for one in rs) for s, rs in ((score_a, a), (score_b, b))]
        below, above = means[0] - _interval(score_a, a)[0], _interval(score_b, b)[1] - means[1]
        return means[0] - means[1], math.hypot(below, above)
    found = []
    for one, two in pairs:
        x, y = scores(one), scores(two)
        found.append(
            compare(x[f"normal.{score_a}"], x[f"anomaly.{score_a}"], y[f"normal.{score_b}"], y[f"anomaly.{score_b}"])
        )
    differences = [one.difference for one in found]
    images = statistics.fmean(one.difference - one.low for one in found)
    return statistics.fmean(differences), math.hypot(images, student(differences))
