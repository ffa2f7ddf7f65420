"""README.md and measured/README.md from their templates (.j2), whose sentences and tables quote the published numbers.

Who is `ahead` of whom, or `level`, is refused where the paired interval says otherwise; other words are the writer's.

    uv run python leaderboard/claims.py          # write both
    uv run python leaderboard/claims.py --check  # are they what the records say?

In a template, `table("test2-mnist-fast")` is a `Quoted`, and `table("test2-mnist-fast", seed=0)` what that seed alone
says, to set beside what was run with it alone. A number is named by its method and score, as in "subcluster.MAX" or
"isif(epochs=40).Cosine", and by its place in the table: a row of the paper's, or "average". names.j2 has the
names that the templates share.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.errors import HarnessError
from harness.records import Store
from harness.report.compare import WITHIN, Compared, compare_rows
from harness.report.leaderboard import Leaderboard, Line, entry_of, leaderboards
from harness.report.names import Variant
from harness.report.paired import check_images
from harness.report.published import AVERAGE, read_published
from harness.report.ties import Difference, Entry, differences

HERE = Path(__file__).parent
STORE = Store(HERE)
PUBLISHED = read_published()


class ClaimError(HarnessError):
    """A sentence says what the records do not."""


class Quoted:
    """One published table, as sentences quote it: `.967`, not `0.967`."""

    def __init__(self, board: Leaderboard) -> None:
        self.board = board

    def __call__(self, name: str, *places: str, on: str = "") -> str:
        """One AUROC or more, separated by commas.

        Args:
            name: method and score.
            places: as the table names them; none: all rows that there are numbers of.
            on: the set of anomalies, where there are several.
        """
        line = self._line(name, on)
        places = places or tuple(
            p for p, cell in zip(self.board.places, line.cells, strict=True) if cell.value is not None
        )
        return ", ".join(short(self.value(name, place, on)) for place in places)

    def value(self, name: str, place: str, on: str = "") -> float:
        value = self._line(name, on).cells[self._place(place)].value
        if value is None:
            raise ClaimError(f"{self.board.name}: there is no number of {name} in {place}")
        return value

    def each(self, name: str, place: str) -> list[float]:
        """The number of each case that a place is the mean of."""
        entry = self._entry(name, place, "")
        return [fmean(record.scores[entry.score].auroc for record in case) for case in entry.cases]

    def interval(self, name: str, place: str, on: str = "") -> str:
        """A number that the paper has too, with its 95 % interval, as `harness compare` gives it."""
        ours = self._beside(name, place, on).ours
        if ours is None:
            raise ClaimError(f"{self.board.name}: there is no number of {name} in {place}")
        return bracketed(ours.value, ours.low, ours.high)

    def printed(self, name: str, *places: str, on: str = "") -> str:
        """The paper's numbers, as it prints them."""
        return ", ".join(self._beside(name, place, on).printed.printed_as.removeprefix("0") for place in places)

    def gaps(self, name: str, *places: str, on: str = "") -> list[float]:
        """Ours minus the paper's; without places, of every row that the paper has a number of, but the average."""
        rows = [
            row for row in self._compared(name, on) if row.printed.value is not None and row.printed.case != AVERAGE
        ]
        found = [self._beside(name, place, on).difference for place in places or [row.printed.case for row in rows]]
        if not found or None in found:
            raise ClaimError(f"{self.board.name}: there is not a number of {name} in every row that the paper has")
        return found

    def verdicts(self, *names: str) -> dict[str, list[float]]:
        """Ours minus the paper's, no averages: `all`, those `within` noise, and those `above` and `below` that."""
        rows = [row for name in names for row in self._compared(name, "") if row.verdict]
        rows = [row for row in rows if row.printed.case != AVERAGE]
        found = {"all": [row.difference for row in rows], "within": [], "above": [], "below": []}
        for row in rows:
            kind = "within" if row.verdict == WITHIN else "above" if row.difference > 0 else "below"
            found[kind].append(row.difference)
        return found

    def difference(self, a: str, b: str, *places: str, on: str = "", of: Quoted | None = None) -> str:
        """a minus b, with its sign, as `ahead`, whoever is: for tables, whose readers see it from the interval."""
        return listed(self._differences(a, b, places, on, of), sign="+")

    def ahead(self, a: str, b: str, *places: str, on: str = "", of: Quoted | None = None) -> str:
        """By how much a is ahead of b, with the paired 95 % interval, as `harness compare --against` gives it.

        Args:
            places: of both; or "A/B" where that of b is another one, with the same images.
            of: the table of b, where it is of another recipe or seed.

        Raises:
            ClaimError: it is not, by more than noise.
        """
        found = self._differences(a, b, places, on, of)
        self._require(found, lambda one: one.low > 0, f"{a} is not ahead of {b}")
        return listed(found)

    def level(self, a: str, b: str, *places: str, on: str = "", of: Quoted | None = None) -> str:
        """How far a is from b, with its sign, as `ahead`.

        Raises:
            ClaimError: that is more than noise.
        """
        found = self._differences(a, b, places, on, of)
        self._require(found, lambda one: one.low <= 0 <= one.high, f"{a} is not level with {b}")
        return listed(found, sign="+")

    def trained(self, variant: str) -> tuple[float, float]:
        """The lowest and the highest accuracy of a method on its own task, on its training views.

        Args:
            variant: a method as in `jigsaw`, or `jigsaw(epochs=100)`.
        """
        told = [record for record in self.board.records if "train_accuracy" in record.diagnostics]
        shares = [r.diagnostics["train_accuracy"] for r in told if name_of(Variant.of(r)) == variant]
        if not shares:
            raise ClaimError(f"{self.board.name}: nothing is known of the training of {variant}")
        return min(shares), max(shares)

    def accuracy(self, name: str, place: str, on: str = "") -> float:
        """The share of normal test images whose sub-cluster a classifier finds; the mean, as of its AUROC.

        Args:
            name: method and score.
            on: the set of anomalies, where there are several.
        """
        cases = [[record.accuracy for record in case] for case in self._entry(name, place, on).cases]
        if any(None in case for case in cases):
            raise ClaimError(f"{self.board.name}: there is no accuracy of {name} in {place}")
        return fmean(map(fmean, cases))

    def _differences(self, a: str, b: str, places: Sequence[str], on: str, of: Quoted | None) -> dict[str, Difference]:
        """By place."""
        if not places:
            raise ClaimError(f"{self.board.name}: {a} beside {b}: say in which row")
        its = of or self
        both = [place.partition("/") for place in places]
        pairs = [(self._entry(a, one, on), its._entry(b, other or one, on)) for one, _, other in both]
        for pair in pairs:
            check_images(*pair)
        return dict(zip(places, differences(pairs, STORE.scores), strict=True))

    def _require(self, found: dict[str, Difference], holds: Callable[[Difference], bool], otherwise: str) -> None:
        for place, one in found.items():
            if not holds(one):
                raise ClaimError(f"{self.board.name}: {otherwise} in {place}: {listed({place: one}, sign='+')}")

    def _entry(self, name: str, place: str, on: str) -> Entry:
        entry = entry_of(self._line(name, on), self._place(place))
        if entry is None:
            raise ClaimError(f"{self.board.name}: there is nothing to compare of {name} in {place}")
        return entry

    def _line(self, name: str, on: str) -> Line:
        found = [line for line in self.board.lines if name_of(line.variant, line.score) == name]
        found = [line for line in found if not on or line.anomaly_set == on]
        if len(found) != 1:
            known = dict.fromkeys(name_of(line.variant, line.score) for line in self.board.lines if line.values)
            raise ClaimError(f"{self.board.name}: {len(found)} lines of {name} {on}; there are {', '.join(known)}")
        return found[0]

    def _place(self, place: str) -> int:
        if place not in self.board.places:
            raise ClaimError(f"{self.board.name}: no place {place}; there are {', '.join(self.board.places)}")
        return self.board.places.index(place)

    def _compared(self, name: str, on: str) -> list[Compared]:
        found = [row for row in self._rows if name_of(row.variant, row.score) == name]
        return [row for row in found if not on or row.printed.anomaly_set == on]

    def _beside(self, name: str, place: str, on: str) -> Compared:
        """The paper's number, and ours."""
        found = [row for row in self._compared(name, on) if row.printed.case == place]
        if len(found) != 1:
            raise ClaimError(f"{self.board.name}: the paper has {len(found)} numbers of {name} in {place}")
        return found[0]

    @cached_property
    def _rows(self) -> list[Compared]:
        return compare_rows(self.board.records, PUBLISHED)


def name_of(*parts: object) -> str:
    """How the template calls a variant of a method and its score: `subcluster.MAX`, `isif(epochs=40).Cosine`."""
    return ".".join(map(str, parts)).replace(" ", "").replace("'", "")


def short(value: float, digits: int = 3, sign: str = "") -> str:
    """`.967`, `-.011`, `1.000`."""
    return re.sub(r"\b0\.", ".", f"{value:{sign}.{digits}f}")


def bracketed(value: float, low: float, high: float, sign: str = "") -> str:
    return f"{short(value, sign=sign)} [{short(low)}, {short(high)}]"


@cache
def boards(seed: int | None) -> dict[str, Leaderboard]:
    """Every published table by its name, or what it would be with one seed alone."""
    records = [record for record in STORE.records() if seed in (None, record.seed)]
    return {board.name: board for board in leaderboards(records, folder=STORE.root)}


def table(name: str, seed: int | None = None) -> Quoted:
    if name not in boards(seed):
        raise ClaimError(f"there is no table {name}; there are {', '.join(boards(seed))}")
    return Quoted(boards(seed)[name])


def listed(found: dict[str, Difference], sign: str = "") -> str:
    """Differences with their intervals, separated by commas."""
    return ", ".join(bracketed(one.value, one.low, one.high, sign) for one in found.values())


def cells(text: str) -> str:
    """Numbers separated by commas, with intervals or without, as the cells of a row of a table."""
    return re.sub(r", (?![^\[]*\])", " | ", text)


def written(template: Path) -> str:
    """What a template and the records make."""
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"short": short, "cells": cells}
    environment.globals["table"] = table
    return environment.get_template(template.relative_to(HERE).as_posix()).render()


def main(check: bool) -> int:
    texts = {}
    for template in sorted(HERE.glob("**/*.md.j2")):
        try:
            texts[template.with_suffix("")] = written(template)
        except HarnessError as error:
            print(f"{template}: {error}")
            return 1
    for path, text in texts.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path}: not what {path.name}.j2 and the records make; write it again with leaderboard/claims.py")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
