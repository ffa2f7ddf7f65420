"""Records that no method has made, for tests of what is made from records."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from harness.metrics import Metrics, measure
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


TWO = {"subcluster": ("MAX", "ODIN")}
ALL = TWO | {"rotnet": ("MAX", "ODIN"), "ssl": ("KL",)}
"""Methods with their scores."""


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


def records_of(protocol: str, dataset: str, methods: dict[str, tuple[str, ...]], seeds=(0, 1)) -> list[Record]:
    """Records of every case, anomaly set, method and seed, in this order."""
    number = random.Random(0)
    made = []
    for one in read_protocol(protocol).cases(dataset):
        for anomaly_set in one.anomalies:
            for method, scores in methods.items():
                for seed in seeds:
                    found = {score: metrics(number.uniform(0.55, 0.98), 0.02) for score in scores}
                    applies = method != "subcluster" or len(one.clusters) > 1
                    more = {"anomaly_set": anomaly_set, "seed": seed}
                    made.append(record(protocol, dataset, one.name, method, found if applies else None, **more))
    return made


def scored(
    methods: dict[str, tuple[str, ...]], seeds=(0, 1), n=(60, 45)
) -> tuple[list[Record], Callable[[Record], dict[str, np.ndarray]]]:
    """Records of a case, and their scores by image: whole numbers, so that there are ties, and real ones."""
    stream = np.random.default_rng(0)
    scores, made = {}, []
    for method, names in methods.items():
        for seed in seeds:
            here = {}
            for turn, name in enumerate(names):
                normal, anomaly = stream.normal(0, 1, n[0]), stream.normal(0.7 + turn, 1.5, n[1])
                both = [np.round(one) if turn == 0 else one for one in (normal, anomaly)]
                here[f"normal.{name}"], here[f"anomaly.{name}"] = both
            found = {name: measure(here[f"normal.{name}"], here[f"anomaly.{name}"]) for name in names}
            made.append(record("test2", "mnist", "3", method, found, seed=seed))
            scores[method, seed] = here
    return made, lambda one: scores[one.method, one.seed]


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
