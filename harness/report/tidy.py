"""Leaderboards as tidy data: one line per number, for pandas, R and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from harness.report.cells import summary
from harness.report.leaderboard import Leaderboard, Line
from harness.report.names import FAILED, SKIPPED, settings_text
from harness.report.table import spreadsheet_text

COLUMNS = (
    *("protocol", "dataset", "recipe", "row", "anomaly_set", "method", "settings", "heading", "score"),
    *("status", "mean", "std", "runs", "bold"),
)
"""Scripts rely on these names and their order. `status` is ok, not run, skipped, failed or incomplete, and there is a
number only where it is ok. `mean` is an AUROC, or an accuracy where the score says so; `std` is the standard deviation
that the table shows beside it, and `runs` of how many evaluations both are."""


def tidy(boards: Iterable[Leaderboard]) -> str:
    """As CSV: every cell of the tables, at full precision."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for board in boards:
        first = board.records[0]
        of_table = {"protocol": first.protocol, "dataset": first.dataset, "recipe": first.recipe}
        for place, row in enumerate(board.places):
            is_average = board.averaged and place == len(board.places) - 1
            for line in board.lines:
                if line.made_from[place]:  # else the row does not have this anomaly set
                    found = (
                        of_table
                        | {"row": row}
                        | _of_line(line, first.shared_settings)
                        | _of_cell(line, place, is_average)
                    )
                    writer.writerow({name: _csv(value) for name, value in found.items()})
    return file.getvalue()


def _of_line(line: Line, shared: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        "anomaly_set": line.anomaly_set,
        "method": line.variant.method,
        "settings": settings_text(line.settings(shared)),
        "heading": line.group,
        "score": line.score,
    }


def _of_cell(line: Line, place: int, is_average: bool) -> dict[str, str | float | bool | None]:
    cell = line.cells[place]
    if cell.value is None:
        missing = "skipped" if cell.text == SKIPPED else FAILED if FAILED in cell.text else cell.text
        return {"status": missing}
    number = summary(line.made_from[place], line.score)
    std = None if is_average else number.std
    return {"status": "ok", "mean": cell.value, "std": std, "runs": number.n, "bold": cell.bold}


def _csv(value: Any) -> Any:
    return spreadsheet_text(value) if isinstance(value, str) else value
