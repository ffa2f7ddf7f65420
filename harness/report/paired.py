"""Methods beside one another: how far apart their numbers are, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.errors import HarnessError, suggest
from harness.report.compare import MORE, ONE_SEED, WITHIN
from harness.report.leaderboard import Leaderboard, Line, entry_of
from harness.report.names import label, place_of
from harness.report.table import Cell, Table
from harness.report.ties import Difference, Entry, Scores, differences

READING = (
    "Difference: the first number minus the second, with its 95 % interval. The two are compared image by image "
    "(DeLong), and seed by seed where they come from the same fits; more than noise: 0 is outside.",
    "Each line is one test. Of twenty such differences that are nothing but noise, one is expected to look like more.",
)


def paired(boards: Iterable[Leaderboard], against: str, scores: Scores) -> list[Table]:
    """A table for every leaderboard that has the method to compare with, row by row, score by score.

    Args:
        against: a method, or one of its scores, as in `ssl` or `ssl.KL`; with a recipe, as in `ssl.KL@paper`, the
            tables of other recipes are compared with its numbers, too.
        scores: of a record, by image: `Store.scores`.

    Raises:
        HarnessError: there is no number of it, none to compare it with, or none of the same images.
    """
    boards = list(boards)
    method, score, recipe = parsed(against)
    of_it = [board for board in boards if recipe in (None, board.records[0].recipe)]
    if not of_it:
        hint = suggest(recipe, {board.records[0].recipe for board in boards})
        raise HarnessError(f"--against {against}: no record among these is of recipe {recipe!r}; {hint}")
    there = {(line.variant.method, line.score) for board in of_it for line in board.lines if line.values}
    if not any(method == known and score in ("", name) for known, name in there):
        names = {name for known, name in there if known == method} if score else {known for known, _ in there}
        hint = suggest(score or method, names)
        raise HarnessError(f"--against {against}: there is no number of it among these records; {hint}")
    if recipe is None:
        both = [(board, board) for board in boards]
    else:
        both = [(board, other) for board in boards for other in of_it if _of_the_same(board, other)]
    tables = [table for board, other in both if (table := _table(board, other, method, score, scores))]
    if not tables:
        raise HarnessError(f"--against {against}: there is no other method beside it in any table")
    return tables


def parsed(against: str) -> tuple[str, str, str | None]:
    """Method, score (empty: all of them), and recipe (None: that of each table), as in `ssl.KL@paper`."""
    number, named, recipe = against.partition("@")
    method, _, score = number.partition(".")
    return method, score, recipe if named else None


def _of_the_same(board: Leaderboard, other: Leaderboard) -> bool:
    """Whether two tables differ by no more than the recipe."""
    a, b = board.records[0], other.records[0]
    return all(getattr(a, k) == getattr(b, k) for k in ("protocol", "dataset", "declared_as", "shared_settings"))


def _table(board: Leaderboard, its_board: Leaderboard, method: str, score: str, scores: Scores) -> Table | None:
    pairs = list(_pairs(board, its_board, method, score))
    if not pairs:
        return None
    elsewhere = "" if its_board is board else f"@{its_board.records[0].recipe}"
    found = differences([(a, b) for *_, a, b in pairs], scores)
    one_seed = any(len(entry.by_seed) == 1 for *_, a, b in pairs for entry in (a, b))
    several = len({line.anomaly_set for line in board.lines}) > 1
    layout = board.protocol.table
    its_notes = [f"{elsewhere}: {note}" for note in its_board.table.notes if note not in board.table.notes]
    head = [
        "case" if layout.rows == "methods" else layout.corner,
        *["anomalies"] * several,
        "method",
        "AUROC",
        "against",
        "its AUROC",
    ]
    rows = [
        [place, *[line.anomaly_set] * several, *_number(line, a), *_number(other, b, elsewhere), *_verdict(difference)]
        for (place, line, other, a, b), difference in zip(pairs, found, strict=True)
    ]
    return Table(
        title=f"{board.table.title}: against {method}{f' {score}' if score else ''}{elsewhere}",
        head=[[*head, "difference", "95 % interval low", "95 % interval high", "verdict"]],
        rows=rows,
        notes=[*READING, *[ONE_SEED] * one_seed, *board.table.notes, *its_notes],
    )


def _pairs(
    board: Leaderboard, its_board: Leaderboard, method: str, score: str
) -> Iterator[tuple[str, Line, Line, Entry, Entry]]:
    """Each row's number of another method, of another variant, or of another recipe, beside that of the method."""
    for place, row in enumerate(board.places):
        for other in its_board.lines:
            if other.variant.method != method or score not in ("", other.score):
                continue
            for line in board.lines:
                same = board is its_board and line.variant == other.variant
                if not same and line.anomaly_set == other.anomaly_set:
                    a, b = entry_of(line, place), entry_of(other, place)
                    if a and b:
                        if its_board is not board:  # one table has been looked at
                            check_images(a, b)
                        yield row, line, other, a, b


def check_images(a: Entry, b: Entry) -> None:
    """Refuse to compare numbers that are not of the same images in the same order."""
    if len(a.cases) != len(b.cases):
        one, other = a.cases[0][0], b.cases[0][0]
        raise HarnessError(
            f"{label(one)} and {label(other)} can't be compared: the one is of {len(a.cases)} case(s) together, the "
            f"other of {len(b.cases)}"
        )
    for one, other in zip(a.cases, b.cases, strict=True):
        images, its = (
            (record.digests.get("dataset"), record.n_normal, record.n_anomaly, record.order)
            for record in (one[0], other[0])
        )
        if images != its:
            raise HarnessError(
                f"{label(one[0])}, recipe {one[0].recipe}, and {label(other[0])}, recipe {other[0].recipe}, are not of "
                f"the same images in the same order; run one of them again, or put it away with harness forget: "
                f"{place_of(one[0])}, {place_of(other[0])}"
            )


def _number(line: Line, entry: Entry, elsewhere: str = "") -> tuple[Cell, Cell]:
    return Cell(f"{line.variant} {line.score}{elsewhere}"), Cell(f"{entry.mean:.3f}", entry.mean)


def _verdict(found: Difference) -> tuple[Cell, ...]:
    signed = (Cell(f"{value:+.3f}", value) for value in (found.value, found.low, found.high))
    more = found.low > 0 or found.high < 0
    return (*signed, Cell(MORE if more else WITHIN, bold=more))
