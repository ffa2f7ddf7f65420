"""Throw malformed input at the tool, and see that it says in one line what is wrong and that nothing is lost.

    uv run python tests/campaigns/hostile.py --examples 5000 --seed 1

Specs, recipes, records, scores, fits, published folders, data files, plugins and command lines: valid ones that were
damaged, a little or beyond recognition. Never a traceback, an exit code other than 0, 1 or 2, a record that is changed
or lost, a file outside of the folders that the command names, or a pickle that is opened. Every hundredth command runs
in a process of its own. Takes some ten minutes; the suite holds a few hundred such examples.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile import KINDS, attacks
from hypothesis import HealthCheck, Phase, given, seed, settings
from world import Fault, World

REAL = 100
"""Of so many commands, one runs in a process of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only these")
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    thrown: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    faults: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))

        @seed(wanted.seed)
        @settings(
            max_examples=wanted.examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(KINDS[wanted.kind](world) if wanted.kind else attacks(world))
        def throw(attack):
            thrown[attack.kind] += 1
            try:
                ended = world.suffer(attack, real=thrown.total() % REAL == 0)
                codes[f"exit {ended.code}"] += 1
            except Fault as fault:  # the campaign goes on: one run is to find them all
                if fault.what not in faults:
                    print(f"{attack.kind}: {fault.what}", flush=True)
                faults.setdefault(fault.what, []).append(str(fault))
            if thrown.total() % 500 == 0:
                print(f"{time.monotonic() - started:.0f} s: {dict(thrown)}, {dict(codes)}", flush=True)

        started = time.monotonic()
        throw()
    print(f"{thrown.total()} thrown in {time.monotonic() - started:.0f} s: {dict(thrown)}; {dict(codes)}")
    for found in faults.values():
        print(f"\n{len(found)} x {min(found, key=len)}")
    print(f"{len(faults)} distinct fault(s)")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
