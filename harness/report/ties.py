"""Which numbers of a row are the best, or can't be told from it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from numpy.typing import NDArray

from harness.metrics import Comparison, Placements, compare_placements, delong_half_width, placements, reach, unlike
from harness.records import Record

Scores = Callable[[Record], Mapping[str, NDArray]]
"""The per-image scores of a record, as `Store.scores` gives them."""
Key = tuple[str, tuple[int, ...]]
"""A score, and the id() in memory of the records of one case, one per seed."""


@dataclass(frozen=True)
class Entry:
    """What one number of a table is made from."""

    score: str
    cases: tuple[tuple[Record, ...], ...]
    """For each case that it is the mean of, the records that have the score: one per seed."""

    @cached_property
    def mean(self) -> float:
        return statistics.fmean([_mean(case, self.score) for case in self.cases])

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """The mean over the cases, for each seed that all of them have: fits of one seed begin alike, and so may err
        together."""
        common = set.intersection(*({record.seed for record in case} for case in self.cases))
        found: dict[int, list[float]] = {seed: [] for seed in sorted(common)}
        for record in (record for case in self.cases for record in case if record.seed in common):
            found[record.seed].append(record.scores[self.score].auroc)
        return {seed: statistics.fmean(values) for seed, values in found.items()}

    @cached_property
    def fits(self) -> list[set[tuple[str, int]]]:
        """The trainings that it is made from, case by case."""
        return [{(record.fit, record.seed) for record in case} for case in self.cases]

    @property
    def keys(self) -> list[Key]:
        return [(self.score, tuple(map(id, case))) for case in self.cases]


@dataclass(frozen=True)
class Difference:
    """One number minus another, with its 95 % interval."""

    value: float
    low: float
    high: float


def best_of_each(rows: Sequence[Sequence[Entry]], scores: Scores) -> list[list[bool]]:
    """For each of several numbers of the same cases, whether it is the highest or statistically tied with that one.

    Of several rows at once, such as those of a table and their average, so that all scores are read at most once.

    A number is tied if it, and every number between it and the highest, differs from the highest by no more than the
    95 % interval of that difference reaches below it: so none is tied that is lower than one that is not. What the
    images do is compared image by image (`compare`, by the mean over seeds of each image's placement); over several
    cases these half-widths are averaged, since cases may share images and err together. What the seeds do is added by
    `reach`: seed by seed where both numbers come from the same fits, else apart.
    """
    bests = [max(row, key=lambda entry: entry.mean) for row in rows]
    ceilings = [_ceiling(best, row) for best, row in zip(bests, rows, strict=True)]
    duels = [
        [entry for entry in row if ceiling < entry.mean < best.mean]
        for best, row, ceiling in zip(bests, rows, ceilings, strict=True)
    ]
    by_images = _by_images([(best, entry) for best, row in zip(bests, duels, strict=True) for entry in row], scores)
    found = []
    for best, row, ceiling, doubtful in zip(bests, rows, ceilings, duels, strict=True):
        below = [entry.mean for entry in doubtful if _difference(best, entry, by_images).low > 0]
        found.append([entry.mean > max([ceiling, *below]) for entry in row])
    return found


def _ceiling(best: Entry, row: Sequence[Entry]) -> float:
    """The highest number that is told from the best without a look at the scores: by more than the interval of the
    difference can reach, however the errors of the two are correlated."""
    lower = (entry.mean for entry in row if best.mean - entry.mean > _reach_at_most(best, entry))
    return max(lower, default=float("-inf"))


def _reach_at_most(a: Entry, b: Entry) -> float:
    """How far below the difference of two numbers its interval reaches at most. The deviation of a difference is never
    more than the sum of both deviations."""
    images = []
    for one, other in zip(a.cases, b.cases, strict=True):
        apart = _mean(one, a.score) - _mean(other, b.score)
        pairs = min(one[0].n_normal, one[0].n_anomaly)
        images.append(max(_half(one, a.score) + _half(other, b.score), unlike(pairs) * (1 + apart)))
    # A wider half adds to the variance, but also to what is known of it: the most is at one of the ends.
    return max(reach(half, *_seeds(a, b)) for half in (0.0, statistics.fmean(images)))


def _mean(case: Sequence[Record], score: str) -> float:
    return statistics.fmean([record.scores[score].auroc for record in case])


def _half(case: Sequence[Record], score: str) -> float:
    return statistics.fmean([delong_half_width(record.scores[score]) for record in case])


def differences(pairs: Sequence[tuple[Entry, Entry]], scores: Scores) -> list[Difference]:
    """How far apart the numbers of each pair are, both of the same cases, as `best_of_each` compares them."""
    by_images = _by_images(pairs, scores)
    return [_difference(a, b, by_images) for a, b in pairs]


def _difference(a: Entry, b: Entry, by_images: Mapping[tuple[Key, Key], Comparison]) -> Difference:
    compared = [by_images[pair] for pair in zip(a.keys, b.keys, strict=True)]
    below = statistics.fmean([one.difference - one.low for one in compared])
    above = statistics.fmean([one.high - one.difference for one in compared])
    seeds, value = _seeds(a, b), a.mean - b.mean
    return Difference(value, max(value - reach(below, *seeds), -1.0), min(value + reach(above, *seeds), 1.0))


def _seeds(a: Entry, b: Entry) -> list[list[float]]:
    """What tells how far the seeds carry a difference: their differences where both come from the same fits, else the
    values of either."""
    own, its = a.by_seed, b.by_seed
    paired = a.fits == b.fits
    seeds = [[own[seed] - its[seed] for seed in own]] if paired else [list(own.values()), list(its.values())]
    return [values for values in seeds if values]


def _by_images(duels: Iterable[tuple[Entry, Entry]], scores: Scores) -> dict[tuple[Key, Key], Comparison]:
    """Each pair of numbers of one case, compared image by image."""
    together: dict[tuple, dict[tuple[Key, Key], tuple]] = {}
    for best, entry in duels:
        for a, b, *pair in zip(best.cases, entry.cases, best.keys, entry.keys, strict=True):
            together.setdefault((a[0].case, a[0].anomaly_set), {})[tuple(pair)] = (a, b)
    found: dict[tuple[Key, Key], Comparison] = {}
    for pairs in together.values():  # no more than the placements of one case are held at a time
        cases = {key: case for pair, both in pairs.items() for key, case in zip(pair, both, strict=True)}
        placed = _placed(cases, scores)
        for a, b in pairs:
            found[a, b] = compare_placements(placed[a], placed[b])
    return found


def _placed(cases: Mapping[Key, Sequence[Record]], scores: Scores) -> dict[Key, Placements]:
    """The placements by each score, as means over seeds; each record's scores are read once."""
    wanted: dict[int, tuple[Record, dict[str, list[Key]]]] = {}
    for key, case in cases.items():
        for record in case:
            wanted.setdefault(id(record), (record, {}))[1].setdefault(key[0], []).append(key)
    found: dict[Key, Placements] = {}
    for record, keys_of in wanted.values():
        read = scores(record)
        for score, keys in keys_of.items():
            placed = placements(read[f"normal.{score}"], read[f"anomaly.{score}"])
            for key in keys:
                of_anomalies, of_normals = (part / len(key[1]) for part in placed)
                before = found.get(key, (0, 0))
                found[key] = before[0] + of_anomalies, before[1] + of_normals
    return found
