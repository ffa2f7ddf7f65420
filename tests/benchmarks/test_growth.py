"""Ten thousand fits, fifty thousand records, in processor time."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clocks import processor_time
from tiny import harness, plugin

from harness.arrays import npz
from harness.metrics import Metrics, measure
from harness.plan import Evaluation
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.records import Store
from harness.reporter import Reporter
from harness.run import Worker

pytestmark = pytest.mark.benchmark(timer=processor_time)

METHODS = {"isif": ("kNN",), "jigsaw": ("MAX", "TrueProb"), "rotnet": ("MAX", "ODIN"), "ssl": ("KL", "TrueProb")}


Made = tuple[dict[str, Metrics], dict[str, np.ndarray]]
"""What an evaluation measured, by score; and the scores of the images, or none."""


@pytest.mark.parametrize("recorded", [False, True], ids=["none on record", "all on record"])
def test_a_plan_of_10_000_fits(within, here, recorded):
    request = Request(protocols=["test1"], methods=["rotnet"], seeds=range(1000))
    if recorded:
        write_records(Store(Path("results")), request, apart)
    said = []

    def plan() -> None:
        made = make_plan(request, Plugins(), Store(Path("results")))
        said.append(made.summary())

    within(f"plan of 10 000 fits, {'all' if recorded else 'none'} on record", plan, budget=2)
    todo = "(10000 done); nothing to train" if recorded else "(10000 to run); 10000 fit(s) to train or load"
    assert said[-1] == f"10000 evaluations {todo}"


def write_records(store: Store, request: Request, make: Callable[[Evaluation], Made]) -> int:
    """A record for each evaluation of a request; returns how many."""
    planned = make_plan(request, Plugins()).planned
    worker = Worker(Plugins(), store, Path("data"), "cpu", Reporter())
    for one in planned:
        scores, arrays = make(one.evaluation)
        more = {"commit": "0" * 40, "processor": "x", "packages": dict.fromkeys(("torch", "timm", "numpy"), "2.0")}
        record = worker.record(one.evaluation, status="ok", scores=scores, n_normal=60, n_anomaly=540)
        # As `Store.write`, but for the time that a disk takes to have each of them for good.
        data = npz(arrays) if arrays else b""
        sha256 = hashlib.sha256(data).hexdigest() if data else ""
        record = record.model_copy(update={"scores_sha256": sha256, "provenance": more})
        for path, content in zip(store.files(record), (record.model_dump_json(indent=1).encode(), data), strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return len(planned)


def apart(e: Evaluation) -> Made:
    """The methods lie so far apart that their intervals tell the best: no score of an image is asked for."""
    base, made = measure([0.0, 1.0, 2.0], [1.5, 2.5, 3.5]).model_dump(), {}
    for place, score in enumerate(METHODS[e.fit.method]):
        auroc = 0.95 - 0.2 * list(METHODS).index(e.fit.method) - 0.1 * place + 1e-5 * (e.fit.seed % 7)
        made[score] = Metrics(**base | {"auroc": auroc, "auroc_low": auroc - 0.02, "auroc_high": auroc + 0.02})
    return made, {}


def tied(e: Evaluation) -> Made:
    """Every method scores the images nearly alike, but for an error of its own in each case, the same for all seeds:
    the seeds don't tell what is tied, only the scores of the images do."""
    place = list(METHODS).index(e.fit.method)
    random = np.random.default_rng([place, *e.case.encode(), *e.protocol.encode()])
    images = np.random.default_rng(e.fit.seed).normal(size=600) + (np.arange(600) >= 60)
    made, arrays = {}, {}
    for score in METHODS[e.fit.method]:
        values = (images + 0.3 * random.normal(size=600)).astype(np.float32)
        arrays |= {f"normal.{score}": values[:60], f"anomaly.{score}": values[60:]}
        made[score] = measure(values[:60], values[60:])
    return made, arrays


@pytest.mark.parametrize(("make", "records"), [(apart, 50_000), (tied, 5_040)])
def test_a_leaderboard_from_many_records(within, here, make, records):
    written = [
        write_records(Store(Path("results")), Request([protocol], tuple(METHODS), seeds=range(records // 80)), make)
        for protocol in ("test1", "test3")
    ]
    assert sum(written) == records
    found, told = [], "" if make is apart else ", whose scores are all looked at"
    within(
        f"leaderboard from {records} records{told}",
        lambda: found.append(harness("leaderboard").out),
        budget=10,
        rounds=1,
    )
    assert sum(int(fits) for fits in re.findall(r"(\d+) fits,", found[-1])) == records


def test_memory_does_not_grow_with_the_fits_done(also, here):
    method = plugin("mean-image")
    command = ["run", "--protocol", "test1", "--method", method, "--recipe", "fast", "--case", "0,1"]

    def after(first: int, last: int) -> float:
        harness(*command, "--jobs", 1, "--seed", ",".join(map(str, range(first, last))))
        return tracemalloc.get_traced_memory()[0] / 2**20

    tracemalloc.start()
    try:
        before = after(0, 10)
        grown = after(10, 60) - before
    finally:
        tracemalloc.stop()
    also("MiB that 100 more fits leave occupied", [grown], "budget", [1.0])
    assert grown < 1
