"""Two fits at once beside one after the other, each way with both processor cores, as a user would start them."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys

from tiny import harness

CORES = 2


def test_two_fits_at_once(beside, here):
    words = ["run", "--protocol", "test2", "--method", "rotnet", "--case", "3,4,5", "--seed", "0,1"]
    environment = os.environ | {"OMP_NUM_THREADS": str(CORES)}
    made = iter(range(100))
    last = {}

    def run(jobs: int) -> None:
        last[jobs] = f"results-{next(made)}"
        command = [sys.executable, "-m", "harness", *words, "--jobs", str(jobs), "--results", last[jobs]]
        subprocess.run(command, capture_output=True, check=True, env=environment)

    def aurocs(jobs: int) -> list[float]:
        table = harness("results", "--format", "csv", "--results", last[jobs]).out
        return [float(row["auroc"]) for row in csv.DictReader(io.StringIO(table))]

    beside("6 fits of digits, two at once", lambda: run(CORES), {"one after the other": lambda: run(1)}, rounds=2)
    for one, other in zip(aurocs(1), aurocs(CORES), strict=True):
        assert abs(one - other) < 0.005
