"""Methods beside one another: how far apart their numbers are, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.errors import HarnessError
from harness.report.compare import MORE, ONE_SEED, WITHIN
from harness.report.leaderboard import Leaderboard, Line, entry_of
from harness.report.table import Cell, Table
from harness.report.ties import Difference, Entry, Scores, differences
from harness.spec import suggest

READING = (
    "Difference: the first number minus the second, with its 95 % interval. The two are compared image by image "
    "(DeLong), and seed by seed where they come from the same fits; more than noise: 0 is outside.",
    "Each line is one test. Of twenty such differences that are nothing but noise, one is expected to look like more.",
)


def paired(boards: Iterable[Leaderboard], against: str, scores: Scores) -> list[Table]:
    """A table for every leaderboard that has the method to compare with, row by row, score by score.

    Args:
        against: a method, or one of its scores, as in `ssl` or `ssl.KL`.
        scores: of a record, by image: `Store.scores`.

    Raises:
        HarnessError: there is no number of it, or none to compare it with.
    """
    boards = list(boards)
    method, _, score = against.partition(".")
    there = {(line.variant.method, line.score) for board in boards for line in board.lines if line.values}
    if not any(method == known and score in ("", name) for known, name in there):
        names = {name for known, name in there if known == method} if score else {known for known, _ in there}
        hint = suggest(score or method, names)
        raise HarnessError(f"--against {against}: there is no number of it among these records; {hint}")
    tables = [table for board in boards if (table := _table(board, method, score, scores))]
    if not tables:
        raise HarnessError(f"--against {against}: there is no other method beside it in any table")
    return tables


def _table(board: Leaderboard, method: str, score: str, scores: Scores) -> Table | None:
    pairs = list(_pairs(board, method, score))
    if not pairs:
        return None
    found = differences([(a, b) for *_, a, b in pairs], scores)
    one_seed = any(len(entry.by_seed) == 1 for *_, a, b in pairs for entry in (a, b))
    several = len({line.anomaly_set for line in board.lines}) > 1
    layout = board.protocol.table
    head = [
        "case" if layout.rows == "methods" else layout.corner,
        *["anomalies"] * several,
        "method",
        "AUROC",
        "against",
        "its AUROC",
    ]
    rows = [
        [place, *[line.anomaly_set] * several, *_number(line, a), *_number(other, b), *_verdict(difference)]
        for (place, line, other, a, b), difference in zip(pairs, found, strict=True)
    ]
    return Table(
        title=f"{board.table.title}: against {method}{f' {score}' if score else ''}",
        head=[[*head, "difference", "95 % interval low", "95 % interval high", "verdict"]],
        rows=rows,
        notes=[*READING, *[ONE_SEED] * one_seed, *board.table.notes],
    )


def _pairs(board: Leaderboard, method: str, score: str) -> Iterator[tuple[str, Line, Line, Entry, Entry]]:
    """Each row's number of another method, or of another variant, beside that of the method."""
    for place, row in enumerate(board.places):
        for other in board.lines:
            if other.variant.method != method or score not in ("", other.score):
                continue
            for line in board.lines:
                if line.variant != other.variant and line.anomaly_set == other.anomaly_set:
                    a, b = entry_of(line, place), entry_of(other, place)
                    if a and b:
                        yield row, line, other, a, b


def _number(line: Line, entry: Entry) -> tuple[Cell, Cell]:
    return Cell(f"{line.variant} {line.score}"), Cell(f"{entry.mean:.3f}", entry.mean)


def _verdict(found: Difference) -> tuple[Cell, ...]:
    signed = (Cell(f"{value:+.3f}", value) for value in (found.value, found.low, found.high))
    more = found.low > 0 or found.high < 0
    return (*signed, Cell(MORE if more else WITHIN, bold=more))
