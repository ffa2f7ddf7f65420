"""Records as flat rows, one per score: for reading, for spreadsheets, for scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from harness.records import Record
from harness.report.names import settings_text

COLUMNS = (
    *("protocol", "dataset", "case", "anomaly_set", "method", "score", "seed", "status"),
    *("auroc", "auroc_low", "auroc_high", "aupr", "fpr95", "n_normal", "n_anomaly"),
    *("fit_seconds", "score_seconds", "recipe", "reason", "settings", "fit"),
)
"""Scripts rely on these names and their order. `settings` is what --set changed, so that variants are told apart."""


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per record and score; one with an empty score for a record that was skipped or failed.

    What plugins measure comes as further columns after the others, where there is any: `metric NAME` if the name is
    that of a column already.
    """
    records, found = sorted(records, key=_place), []
    measured = sorted({name for record in records for metrics in record.metrics.values() for name in metrics})
    added = {f"metric {name}" if name in COLUMNS else name: name for name in measured}
    for record in records:
        known = record.model_dump(include=set(COLUMNS)) | {"settings": settings_text(record.settings)}
        for score, metrics in (record.scores or {"": None}).items():
            values = known | {"score": score} | (metrics.model_dump() if metrics else {})
            own = record.metrics.get(score, {})
            found.append({name: values.get(name) for name in COLUMNS} | {head: own.get(added[head]) for head in added})
    return found


def _place(record: Record) -> tuple[str | int, ...]:
    """Variants beside one another, and seeds in their order."""
    names = (record.protocol, record.dataset, record.recipe, record.method, settings_text(record.settings), record.case)
    return (*names, record.anomaly_set, record.seed)


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

    left_out = {"auroc_low", "auroc_high", "aupr", "fpr95", "n_normal", "n_anomaly", "score_seconds", "fit"}
    usual = {"settings": "", "reason": "", "status": "ok", "anomaly_set": "anomaly"}
    left_out |= {name for name, value in usual.items() if all(row[name] == value for row in table)}
    shown = [name for name in columns if name not in left_out]
    cells = [[f"{v:.3f}" if isinstance(v := row[name], float) else v for name in shown] for row in table]
    return tabulate(cells, headers=shown, disable_numparse=True) + "\n"
