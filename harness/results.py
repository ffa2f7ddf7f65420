"""Records as flat rows, one per score: for reading, for spreadsheets, for scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from harness.records import Record

COLUMNS = (
    *("protocol", "dataset", "case", "anomaly_set", "method", "score", "seed", "status"),
    *("auroc", "auroc_low", "auroc_high", "aupr", "fpr95", "n_normal", "n_anomaly"),
    *("fit_seconds", "score_seconds", "recipe", "reason"),
)
"""Scripts rely on these names and their order."""


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per record and score; one with an empty score for a record that was skipped or failed.

    What plugins measure comes as further columns after the others, where there is any.
    """
    records, found = list(records), []
    added = sorted({name for record in records for metrics in record.metrics.values() for name in metrics})
    for record in records:
        known = record.model_dump(include=set(COLUMNS))
        for score, metrics in (record.scores or {"": None}).items():
            values = known | {"score": score} | (metrics.model_dump() if metrics else {})
            values |= record.metrics.get(score, {})
            found.append({name: values.get(name) for name in (*COLUMNS, *added)})
    return found


def results_text(records: Iterable[Record], form: str) -> str:
    """The rows as `table`, `csv` or `json`."""
    table = rows(records)
    columns = list(table[0]) if table else list(COLUMNS)
    if form == "json":
        return json.dumps(table, indent=1) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        return file.getvalue()
    from tabulate import tabulate

    shown = [name for name in columns if name not in ("auroc_low", "auroc_high", "aupr", "fpr95", "score_seconds")]
    cells = [[f"{v:.3f}" if isinstance(v := row[name], float) else v for name in shown] for row in table]
    return tabulate(cells, headers=shown, disable_numparse=True) + "\n"
