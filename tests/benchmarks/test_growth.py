"""Ten thousand fits, fifty thousand records, in processor time."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest
from clocks import processor_time
from tiny import harness, plugin

from harness.metrics import Metrics, measure
from harness.plan import Request, make_plan
from harness.plugins import Plugins
from harness.records import Record, Store
from harness.run import _record

pytestmark = pytest.mark.benchmark(timer=processor_time)

METHODS = {"isif": ("kNN",), "jigsaw": ("MAX", "TrueProb"), "rotnet": ("MAX", "ODIN"), "ssl": ("KL", "TrueProb")}


def test_a_plan_of_10_000_fits(within, here):
    request = Request(protocols=["test1"], methods=["rotnet"], seeds=range(1000))
    made = []
    within(
        "plan of 10 000 fits, none on record",
        lambda: made.append(make_plan(request, Plugins(), Store(Path("results")))),
        budget=2,
    )
    assert len(made[-1].jobs()) == 10_000


def write_records(store: Store, seeds: int) -> int:
    """A record for each evaluation of two protocols, without its per-image scores; returns how many.

    The methods lie so far apart that their intervals tell the best: no per-image score is asked for.
    """
    base = measure([0.0, 1.0, 2.0], [1.5, 2.5, 3.5]).model_dump()
    written = 0
    for protocol in ("test1", "test3"):
        request = Request(protocols=[protocol], methods=tuple(METHODS), seeds=range(seeds))
        for one in make_plan(request, Plugins()).planned:
            e = one.evaluation
            made: dict[str, Metrics] = {}
            for place, score in enumerate(METHODS[e.fit.method]):
                auroc = 0.95 - 0.2 * list(METHODS).index(e.fit.method) - 0.1 * place + 1e-5 * (e.fit.seed % 7)
                made[score] = Metrics(**base | {"auroc": auroc, "auroc_low": auroc - 0.02, "auroc_high": auroc + 0.02})
            more = {"commit": "0" * 40, "processor": "x", "packages": dict.fromkeys(("torch", "timm", "numpy"), "2.0")}
            record: Record = _record(e, status="ok", scores=made, n_normal=60, n_anomaly=540, provenance=more)
            path = store.files(record)[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(record.model_dump_json(indent=1))
            written += 1
    return written


def test_a_leaderboard_from_50_000_records(within, here):
    assert write_records(Store(Path("results")), seeds=625) == 50_000
    found = []
    within("leaderboard from 50 000 records", lambda: found.append(harness("leaderboard").out), budget=10, rounds=1)
    assert sum(int(fits) for fits in re.findall(r"(\d+) fits,", found[-1])) == 50_000


def test_memory_does_not_grow_with_the_fits_done(also, here):
    method = plugin("mean-image")
    command = ["run", "--protocol", "test1", "--method", method, "--recipe", "fast", "--case", "0,1", "--seed"]

    def after(first: int, last: int) -> float:
        harness(*command, ",".join(map(str, range(first, last))))
        return tracemalloc.get_traced_memory()[0] / 2**20

    tracemalloc.start()
    try:
        before = after(0, 10)
        grown = after(10, 60) - before
    finally:
        tracemalloc.stop()
    also("MiB that 100 more fits leave occupied", [grown], "budget", [1.0])
    assert grown < 1
