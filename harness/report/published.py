"""What the paper prints, number by number: protocols/published/*.csv, whose README explains the columns."""

from __future__ import annotations

import csv
from pathlib import Path

from harness import paths
from harness.errors import HarnessError
from harness.spec import Spec, check

AVERAGE = "average"
"""The case of a printed average."""


class Published(Spec):
    """One printed number."""

    protocol: str
    dataset: str
    """Several, joined by "+", where an average runs over them."""
    case: str
    anomaly_set: str
    method: str
    score: str
    """"-" where the paper names none."""
    value: float | None
    """None where the paper prints a dash."""
    printed_as: str
    table: str
    note: str = ""
    """What is wrong or doubtful about it."""
    half_unit: float = 0
    """Half a unit of the last decimal: how far the number may be from the one that was rounded."""

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.dataset.split("+"))


def read_published(folder: Path | None = None) -> list[Published]:
    """Every printed number, table by table, in the printed order.

    Raises:
        HarnessError: a file or line is not as it should be.
    """
    folder = folder or paths.PROTOCOLS / "published"
    return [row for path in sorted(folder.glob("*.csv")) for row in _read(path)]


def _read(path: Path) -> list[Published]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HarnessError(f"{path}: not readable as CSV: {error}") from None
    # A line that is too short has None, and one that is too long a key None: both are refused here.
    rows = [
        check(Published, {str(k): (v or None) if k == "value" else v for k, v in line.items()}, f"{path}:{number}")
        for number, line in enumerate(lines, 2)
    ]
    # By the table and not by the number, since Tables 3 and 4 leave out zeros at the end: their 0.7 has three decimals.
    decimals: dict[str, int] = {}
    for row in rows:
        decimals[row.table] = max(decimals.get(row.table, 0), len(row.printed_as.partition(".")[2]))
    return [row.model_copy(update={"half_unit": 0.5 * 10 ** -decimals[row.table]}) for row in rows]
