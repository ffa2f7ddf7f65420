"""Thousands of fits of a trivial method in one run: every record there, memory flat, and what each fit costs.

    uv run python tests/campaigns/load.py --fits 5000 --executor local
    uv run python tests/campaigns/load.py --fits 5000 --executor ray

The method keeps the mean of the normal images, so what is measured is the harness. The memory of the process, and of
Ray's workers, is read after each tenth of the fits. Then the same command, and those that read all records, are timed.
Takes some minutes; exits with 1 if a record is missing or the memory has grown by more than a tenth since the first
tenth of the fits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import plugin

from harness.records import Store

OWN = "self.mean = train.images.float().mean(0) + run.seed"
"""So that each seed has scores, and a file of them, of its own."""
HARNESS = (sys.executable, "-m", "harness")
GROWTH = 1.1
"""How much the memory may have grown from the first tenth of the fits to the last: there is a record more for each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--fits", type=int, default=5000)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seeds = ",".join(map(str, range(wanted.fits)))
        words = ("--protocol", "test2", "--case", "2", "--method", plugin(fit=OWN), "--seed", seeds)
        run = ("run", *words, "--executor", wanted.executor)
        samples, ended = _load(run, wanted.fits)
        missing = _missing(wanted.fits)
        files = [path.stat().st_size for path in Path("results").rglob("*") if path.is_file()]
        first, last = samples[0], samples[-1]
        fits = wanted.fits
        print(f"records: {fits} expected, {fits - len(missing)} found; {len(files)} files, {sum(files) / 1e6:.0f} MB")
        print(f"to the first fit {first.seconds:.1f} s, from the last to the table {ended - last.seconds:.1f} s")
        pace = (last.seconds - first.seconds) / (last.fits - first.fits)
        work = (last.work - first.work) / (last.fits - first.fits)
        print(f"a fit: {1000 * pace:.1f} ms, {1000 * work:.1f} ms of processors")
        for again in (run, ("plan", *words), ("leaderboard",), ("results", "--format", "csv")):
            print(f"afterwards, harness {again[0]}: {_seconds(*again):.1f} s", flush=True)
        grown = [kind for kind in last.rss if last.rss[kind] > GROWTH * samples[1].rss.get(kind, last.rss[kind])]
        print(f"grown: {', '.join(grown) or 'nothing'}")
        sys.exit(bool(missing or grown))


@dataclass
class Sample:
    """A run after so many fits."""

    fits: int
    seconds: float
    rss: dict[str, int]
    """kB: of the process, of the largest of Ray's workers, and of the largest of Ray's own processes."""
    work: float
    """Seconds of processors, of all these processes so far."""

    def __str__(self) -> str:
        memory = ", ".join(f"{kind} {size / 1000:.0f} MB" for kind, size in sorted(self.rss.items()))
        return f"{self.fits:6} fits, {self.seconds:7.1f} s: {memory}"


def _load(words: tuple, fits: int) -> tuple[list[Sample], float]:
    """Run it; samples after the first fit and after each tenth, and how many seconds it took in all."""
    command, done, samples = [*HARNESS, *map(str, words)], 0, []
    started = time.monotonic()
    with (
        Path("table.md").open("w") as table,
        subprocess.Popen(command, stdout=table, stderr=subprocess.PIPE, text=True) as process,
    ):
        for line in process.stderr:
            done += ": AUROC " in line
            if ": AUROC " in line and (done == 1 or done % max(fits // 10, 1) == 0):
                samples.append(Sample(done, time.monotonic() - started, *_usage(process.pid)))
                print(samples[-1], flush=True)
            if ": AUROC " not in line and "] training " not in line:
                print(line, end="", flush=True)
    assert process.returncode == 0, process.returncode
    return samples, time.monotonic() - started


def _usage(root: int) -> tuple[dict[str, int], float]:
    """Memory and processor seconds of a process and of all that it has started."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,rss=,cputimes=,args="], capture_output=True, text=True, check=True)
    rows = {int(pid): more for pid, *more in (line.split(maxsplit=4) for line in found.stdout.splitlines())}
    rss: dict[str, int] = {}
    work = 0.0
    for pid, (_, size, seconds, name) in rows.items():
        ancestor = pid
        while ancestor in rows and ancestor != root:
            ancestor = int(rows[ancestor][0])
        if ancestor == root and not name.startswith("ps "):
            fits = name.startswith("ray::") and not name.startswith("ray::Board")
            kind = "process" if pid == root else "worker" if fits else "Ray itself"
            rss[kind] = max(rss.get(kind, 0), int(size))
            work += float(seconds)
    return rss, work


def _missing(fits: int) -> set[int]:
    """The seeds of which there is no whole record, with its scores."""
    store = Store(Path("results"))
    return set(range(fits)) - {r.seed for r in store.records() if r.status == "ok" and len(store.scores(r)) == 2}


def _seconds(*words: object) -> float:
    started = time.monotonic()
    subprocess.run([*HARNESS, *map(str, words)], check=True, capture_output=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
