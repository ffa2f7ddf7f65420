"""Records that no method has made, for tests of what is made from records."""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

from harness.metrics import Metrics
from harness.protocol import Case, read_protocol
from harness.records import Record
from harness.report.leaderboard import leaderboards
from harness.report.publish import text_of

RECIPE = {
    "network": "none",
    "optimizer": "none",
    "lr": 0.1,
    "schedule": "constant",
    "epochs": 1,
    "batch": 2,
    "precision": "float32",
}


def metrics(auroc: float, half: float = 0.01) -> Metrics:
    low, high = max(auroc - half, 0), min(auroc + half, 1)
    return Metrics(auroc=auroc, auroc_low=low, auroc_high=high, aupr=0.5, fpr95=0.5)


def record(
    protocol: str, dataset: str, case: str, method: str, scores: dict[str, Metrics] | None = None, **more: Any
) -> Record:
    """A record of a case of a bundled protocol; a method without scores does not apply."""
    cases, digests = _cases(protocol, more.get("declared_as", dataset))
    anomaly_set = more.get("anomaly_set", next(iter(cases[case].anomalies)))
    values = {
        "seed": 0,
        "recipe": "paper",
        "recipe_values": RECIPE,
        "n_normal": 100,
        "n_anomaly": 100,
        "anomaly_set": anomaly_set,
        "clusters": cases[case].clusters,
        "anomaly": cases[case].anomalies[anomaly_set],
        "status": "ok" if scores else "skipped",
        "reason": "" if scores else "needs more",
        "scores": scores or {},
        "digests": {"protocol": digests[case]},
        "fit": f"{method} {case}",
    }
    return Record(protocol=protocol, dataset=dataset, case=case, method=method, **(values | more))


@cache
def _cases(protocol: str, dataset: str) -> tuple[dict[str, Case], dict[str, str]]:
    declared = read_protocol(protocol)
    cases = {case.name: case for case in declared.cases(dataset)}
    return cases, {name: declared.digest(case) for name, case in cases.items()}


def text(records: list[Record], form: str = "md", *paths: str) -> str:
    """The tables of records, written out."""
    return text_of(leaderboards(records, paths), form)


def tidy_rows(records: list[Record]) -> list[dict[str, str]]:
    """The tables of records, a row for each number."""
    return list(csv.DictReader(text(records, "csv").splitlines()))
