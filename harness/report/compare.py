"""Our numbers beside the paper's: ours | paper | difference | is it more than noise?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.metrics import Metrics, Z, half_widths, over_seeds, pooled_interval, reach
from harness.records import Record
from harness.report.cells import shown_value, table_cell
from harness.report.leaderboard import Leaderboard
from harness.report.names import INCOMPLETE, KNN, Variant, data_of, declared_as
from harness.report.published import AVERAGE, Published
from harness.report.table import Cell, Table
from harness.spec import digest

MORE, WITHIN = "more than noise", "within noise"
ONE_SEED = "With one seed the interval does not speak of other seeds: run more before you make much of it."


@dataclass(frozen=True)
class Estimate:
    """One of our numbers with its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int
    classes: frozenset[tuple[str, str]] = field(default_factory=frozenset, repr=False)
    """(data set, class) of the test images that it was measured on."""
    images: tuple[float, float] = (0.0, 0.0)
    """How far the interval reaches below and above by the choice of images alone."""
    by_seed: Mapping[int, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Compared:
    """A printed number, and ours."""

    printed: Published
    variant: Variant
    score: str
    """Ours; the printed table may not name one."""
    ours: Estimate | None
    text: str
    """What the leaderboard shows for ours: the number, or why there is none."""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        if self.ours is None or self.printed.value is None:
            return None
        return self.ours.value - self.printed.value

    @property
    def verdict(self) -> str:
        """More than noise if all of what rounds to the printed number lies outside of our 95 % interval."""
        if self.ours is None or self.printed.value is None:
            return ""
        half, paper = self.printed.half_unit, self.printed.value
        return WITHIN if self.ours.low <= paper + half and paper - half <= self.ours.high else MORE


def compare_rows(
    records: Iterable[Record], published: Iterable[Published], cases: Collection[str] = ()
) -> list[Compared]:
    """Every printed number of which there is a record of the method on the data, in the printed order.

    Args:
        records: of one protocol, recipe and settings, as `leaderboards` groups them; of one or more data sets.
        published: as `read_published` gives them: all, since an average needs the others of its table.
        cases: only these, if any; "average" is one.
    """
    records, published = list(records), list(published)
    found: dict[tuple, list[Record]] = {}
    variants: dict[str, dict[Variant, None]] = {}
    for record in records:
        variant = Variant.of(record)
        found.setdefault((declared_as(record), record.case, record.anomaly_set, variant), []).append(record)
        variants.setdefault(record.method, {})[variant] = None
    seeds: dict[str, list[int]] = {}
    for record in records:
        if record.seed not in seeds.setdefault(declared_as(record), []):
            seeds[declared_as(record)].append(record.seed)
    run_on = {(record.protocol, declared_as(record), record.method) for record in records}

    rows = []
    for printed in (one for one in published if not cases or one.case in cases):
        if not any((printed.protocol, dataset, printed.method) in run_on for dataset in printed.datasets):
            continue
        for variant in sorted(variants[printed.method], key=str):
            for score in _scores(printed, variant, records):
                if printed.case == AVERAGE:
                    cells = [_ours(found, one, variant, score, seeds) for one in _averaged(printed, published)]
                    mean = mean_of([ours for ours, _ in cells])
                    ours = (mean, f"{mean.value:.3f}") if mean else (None, INCOMPLETE)
                else:
                    ours = _ours(found, printed, variant, score, seeds)
                rows.append(Compared(printed, variant, score, *ours))
    return rows


def comparisons(
    boards: Iterable[Leaderboard], published: Sequence[Published], cases: Collection[str] = ()
) -> list[Table]:
    """A table for every protocol, recipe and setting, over its data sets, since a printed average may be too.

    Raises:
        HarnessError: the paper has no number for anything in these leaderboards.
    """
    boards = list(boards)
    groups: dict[tuple, list[Leaderboard]] = {}
    for board in boards:
        record = board.records[0]
        stand_in = record.dataset if record.declared_as else ""
        key = (record.protocol, record.recipe, digest(record.shared_settings), stand_in)
        groups.setdefault(key, []).append(board)
    tables = [table for group in groups.values() if (table := _table(group, published, cases))]
    if not tables and cases:
        said = f"the paper prints no number of {', '.join(cases)} for the methods on record"
        raise HarnessError(f"{said}; leave out --case")
    if not tables:
        names = dict.fromkeys(f"{board.records[0].protocol} on {declared_as(board.records[0])}" for board in boards)
        ran = {board.records[0].protocol for board in boards}
        printed = dict.fromkeys(f"{p.protocol} on {p.dataset}" for p in published if p.protocol in ran)
        raise HarnessError(
            f"the paper prints no number for the methods on record of {', '.join(names)}; "
            f"it has numbers of {', '.join(printed) or 'none of these protocols'}"
        )
    return tables


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n independent images (Wilson 1927)."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def estimate(records: Sequence[Record], score: str) -> Estimate | None:
    """Mean and 95 % interval over the seeds of one cell; None where the leaderboard has no number either."""
    seeds = {record.seed: metrics for record in records if (metrics := _metrics(record, score))}
    if not seeds or any(record.status != "ok" for record in records):
        return None
    classes = {(r.dataset, name) for r in records for name in (*(n for one in r.clusters for n in one), *r.anomaly)}
    every, by_seed = list(seeds.values()), {seed: one.auroc for seed, one in seeds.items()}
    mean = over_seeds(list(by_seed.values())).mean
    return Estimate(mean, *pooled_interval(every), len(seeds), frozenset(classes), half_widths(every), by_seed)


def _metrics(record: Record, score: str) -> Metrics | None:
    if score != KNN:
        return record.scores.get(score)
    share = shown_value(record, score)
    if share is None:
        return None
    low, high = wilson(share, record.n_normal)
    # Seeds pool for an accuracy as they do for an AUROC; the other metrics have no meaning here.
    return Metrics.model_construct(auroc=share, auroc_low=low, auroc_high=high)


def _ours(
    found: dict[tuple, list[Record]], printed: Published, variant: Variant, score: str, seeds: dict[str, list[int]]
) -> tuple[Estimate | None, str]:
    here = found.get((printed.dataset, printed.case, printed.anomaly_set, variant), [])
    return estimate(here, score), table_cell([here], score, seeds.get(printed.dataset, [])).text


def _scores(printed: Published, variant: Variant, records: list[Record]) -> list[str]:
    """Our scores that a printed number is for: the one that it names, or all."""
    if printed.score != "-":
        return [printed.score]
    return list(dict.fromkeys(s for r in records if Variant.of(r) == variant for s in r.scores)) or ["-"]


def _averaged(average: Published, published: Iterable[Published]) -> list[Published]:
    """The printed numbers that a printed average is of."""
    same = ("table", "anomaly_set", "method", "score")
    return [p for p in published if p.case != AVERAGE and all(getattr(p, k) == getattr(average, k) for k in same)]


def mean_of(cases: Sequence[Estimate | None]) -> Estimate | None:
    """The mean over cases, with the widest interval that the images which they share allow; None if a case has none.

    Cases that share a class of test images may err together, to an extent that is not known: what the images do adds
    up, which is an upper bound. Groups of cases without a common class are independent: theirs adds in squares. What
    the seeds do shows in the mean of each, as for paired differences (`harness.report.ties`).
    """
    parts = [case for case in cases if case]
    if not parts or len(parts) < len(cases):
        return None
    groups: list[tuple[set, float, float]] = []
    for part in parts:
        classes, (below, above) = set(part.classes), part.images
        for group in [group for group in groups if group[0] & classes]:
            groups.remove(group)
            classes, below, above = classes | group[0], below + group[1], above + group[2]
        groups.append((classes, below, above))
    n, value = len(parts), math.fsum(part.value for part in parts) / len(parts)
    below, above = (math.hypot(*(group[side] for group in groups)) / n for side in (1, 2))
    common = set.intersection(*(set(part.by_seed) for part in parts))
    means = {seed: math.fsum(part.by_seed[seed] for part in parts) / n for seed in sorted(common)}
    if len(means) >= min(2, max(part.seeds for part in parts)):
        seeds = [list(means.values())]
    else:  # each case has seeds of its own
        seeds = [[one / n for one in part.by_seed.values()] for part in parts]
    low, high = max(value - reach(below, *seeds), 0.0), min(value + reach(above, *seeds), 1.0)
    everything = frozenset().union(*(part.classes for part in parts))
    return Estimate(value, low, high, min(part.seeds for part in parts), everything, (below, above), means)


# The table

COLUMNS = (
    *(("", "data set"), ("", "case"), ("", "anomalies"), ("", "method"), ("", "score"), ("", "ours")),
    *(("95 % interval", "low"), ("95 % interval", "high"), ("", "seeds")),
    *(("", "paper"), ("", "difference"), ("", "verdict"), ("", "note")),
)


def _table(boards: list[Leaderboard], published: Sequence[Published], cases: Collection[str]) -> Table | None:
    rows = compare_rows((record for board in boards for record in board.records), published, cases)
    if not rows:
        return None
    # What else there is of this protocol is of data that the paper has no number for.
    compared = {dataset for row in rows for dataset in row.printed.datasets}
    boards = [board for board in boards if declared_as(board.records[0]) in compared]
    records = [record for board in boards for record in board.records]
    marks: dict[str, str] = {}
    lines = [_line(row, marks) for row in rows]
    # One data set is in the title; one anomaly set, or no note, says nothing.
    says = {"data set": len({row.printed.dataset for row in rows}) > 1, "note": bool(marks)}
    says["anomalies"] = len({row.printed.anomaly_set for row in rows}) > 1
    keep = [place for place, (_, name) in enumerate(COLUMNS) if says.get(name, True)]
    tables = ", ".join(dict.fromkeys(row.printed.table for row in rows))
    data = ", ".join(dict.fromkeys(row.printed.dataset for row in rows if "+" not in row.printed.dataset))
    return Table(
        title=f"{tables}, {data}: ours and the paper's",
        head=[[COLUMNS[place][row] for place in keep] for row in (0, 1)],
        rows=[[line[place] for place in keep] for line in lines],
        notes=[*_reading(rows, records), *(f"{mark} {text}" for text, mark in marks.items()), *_context(boards)],
    )


def _line(row: Compared, marks: dict[str, str]) -> list[Cell]:
    printed, ours = row.printed, row.ours
    mark = marks.setdefault(printed.note, f"[{len(marks) + 1}]") if printed.note else ""
    return [
        *map(Cell, (printed.dataset, printed.case, printed.anomaly_set, str(row.variant), row.score)),
        Cell(row.text, ours.value if ours else None),
        _number(ours and ours.low),
        _number(ours and ours.high),
        Cell(str(ours.seeds) if ours else ""),
        Cell("–" if printed.value is None else printed.printed_as, printed.value),
        _number(row.difference, "+.3f"),
        Cell(row.verdict, bold=row.verdict == MORE),
        Cell(mark),
    ]


def _number(value: float | None, form: str = ".3f") -> Cell:
    return Cell("") if value is None else Cell(format(value, form), value)


def _reading(rows: list[Compared], records: list[Record]) -> list[str]:
    """How to read the table."""
    judged = [row for row in rows if row.verdict]
    more = sum(row.verdict == MORE for row in judged)
    one_seed = any(row.ours and row.ours.seeds == 1 for row in judged)
    chance = "up to 1 in 20 would by chance" + ", with one seed more" * one_seed
    notes = [
        f"{more} of {len(judged)} numbers differ by more than noise; {chance}.",
        "Difference: ours minus the paper's. More than noise: all that rounds to the printed number lies outside our "
        "95 % interval, which speaks of the choice of test images and, with more than one seed, of the seeds. How much "
        "the paper's own number would vary from run to run is not known, and not in the verdict.",
    ]
    if one_seed:
        notes.append(ONE_SEED)
    if any(row.printed.case == AVERAGE for row in rows):
        notes.append(
            "Average: over the cases that the paper averages over. What the choice of images does adds up over cases "
            "that share them, the most that is possible, and in squares over others; what the seeds do is taken from "
            "the average of each."
        )
    if any(row.score == KNN for row in rows):
        notes.append(f"{KNN}: no AUROC; its interval for the choice of test images is Wilson's.")
    covered = {(row.variant, row.score) for row in rows}
    extra = dict.fromkeys(f"{v} {s}" for r in records for s in r.scores if (v := Variant.of(r), s) not in covered)
    if extra:
        notes.append(f"On record, but not in the paper's table: {', '.join(extra)}.")
    return notes


def _context(boards: list[Leaderboard]) -> list[str]:
    """What the leaderboards say of how our numbers were made."""
    notes = [
        f"The images are those of a {r.dataset}, which stands for {r.declared_as}: the paper's data only if these are."
        for r in (board.records[0] for board in boards)
        if r.declared_as
    ]
    told = [(f"{data_of(board.records[0])}: " if len(boards) > 1 else "", board.table.notes) for board in boards]
    return list(dict.fromkeys([*notes, *(which + note for which, each in told for note in each)]))
