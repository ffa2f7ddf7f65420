"""Kill -9 a run at random moments, begin it again until it finishes, and compare what it leaves behind, byte for byte,
with a run that nothing interrupted.

    uv run python tests/campaigns/kill.py --kills 50

Every second victim dies within a write of its own, chosen at random; every third has a second process beside it on the
same results folder, and both are killed. Takes some minutes; the suite holds a few such kills, at fixed places.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import victim
from kept import differences, kept

METHODS = "subcluster,rotnet,ssl,isif,jigsaw"
COMMAND = ["run", "--protocol", "test2", "--case", "2", "--method", METHODS, "--set", "recipe.epochs=3"]
COMMAND += ["--set", "jigsaw.orders=6"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="fits at once in each run that is killed")
    wanted = parser.parse_args()
    COMMAND.extend(("--jobs", str(wanted.jobs)))
    draw = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        victim.run(*COMMAND, "--results", "warm-up")
        started = time.monotonic()
        assert victim.run(*COMMAND, "--results", "whole") == 0, Path("log").read_text()
        whole, seconds = _left("whole"), time.monotonic() - started
        print(f"uninterrupted: {seconds:.1f} s, {len(whole)} files", flush=True)
        found: Counter[str] = Counter()
        while found["kills"] < wanted.kills:
            found["rounds"] += 1
            results = f"round-{found['rounds']}"
            _until_done(results, seconds, draw, found)
            different = differences(whole, _left(results))
            if different:
                found["rounds that differ"] += 1
                print(f"{results}: {', '.join(different)}", flush=True)
            print(dict(found), flush=True)
        log = Path("log").read_text()
        found["trainings resumed from a checkpoint"] = len(re.findall("resumed after epoch [12]", log))
        print(dict(found))
        sys.exit(bool(found["rounds that differ"] or "Traceback" in log))


def _until_done(results: str, seconds: float, draw: random.Random, found: Counter[str]) -> None:
    """Begin the command again and again, killing it at random moments, until it comes to its end."""
    seen: set[Path] = set()
    while True:
        deaths = {draw.choice(("fsync", "replace", "unlink")): draw.randrange(9)} if draw.random() < 1 / 2 else {}
        count = 2 if draw.random() < 1 / 3 else 1
        processes = [victim.start(*COMMAND, "--results", results, deaths=deaths) for _ in range(count)]
        deadline = time.monotonic() + draw.uniform(0, 1.5 * seconds)
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
        for process in processes:
            process.kill()
            process.join()
        killed = [process for process in processes if process.exitcode == -signal.SIGKILL]
        found["kills"] += len(killed)
        found["killed in pairs"] += len(killed) == 2
        found["killed with a checkpoint"] += bool(killed and list(Path(results).glob("checkpoints/*/*")))
        parts = set(Path(results).rglob("*.part"))
        found["killed within a write"] += len(parts - seen)
        seen |= parts
        ended = [process.exitcode for process in processes if process not in killed]
        assert set(ended) <= {0}, Path("log").read_text()
        if ended:
            return


def _left(results: str) -> dict[str, bytes]:
    """What a results folder keeps, and the leaderboards made from it."""
    for form in ("md", "csv"):
        table = Path(results) / f"table.{form}"
        assert victim.run("leaderboard", "--results", results, "--format", form, log=table) == 0, table.read_text()
    # Half-written files of killed processes are in no one's way; a later run clears them away.
    left = {name: content for name, content in kept(results).items() if not name.endswith(".part")}
    left["table.md"] = re.sub(rb"\n- \d+ fits, .*", b"", left["table.md"])  # hours of training, processor, commit
    return left


if __name__ == "__main__":
    main()
