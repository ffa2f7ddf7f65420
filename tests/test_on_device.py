"""The script that measures a GPU runs on a processor too, and counts what it says it counts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "benchmarks/on_device.py"
SMALL = ["--device=cpu", "--network=wrn-10-1", "--images=40", "--batch=20", "--side=128", "--rounds=1"]


def test_its_lines_agree_with_one_another():
    done = subprocess.run([sys.executable, SCRIPT, *SMALL], capture_output=True, text=True, check=True)
    machine, *ratios, share, start, whole = done.stdout.splitlines()
    assert "torch" in machine
    for name, line in zip(("subcluster", "rotnet"), ratios, strict=True):
        ours, theirs, ratio = re.fullmatch(
            rf"train {name}: engine ([\d,]+) images/s, reference ([\d,]+), ratio ([\d.]+)", line
        ).groups()
        assert float(ratio) == pytest.approx(float(ours.replace(",", "")) / float(theirs.replace(",", "")), rel=0.1)
    speed, each, reached, part, peak = map(float, re.findall(r"(?<![\w-])\d[\d.]*(?=[ %])", share.replace(",", "")))
    assert speed * each == pytest.approx(reached * 1000, rel=0.02)
    assert reached / peak == pytest.approx(part / 100, abs=0.02)
    assert re.fullmatch(r"wrn-10-1: start-up [\d.]+ s", start)
    # Test 2 has one to five classes of 5000 images, for 200 epochs; the labels serve from two classes on.
    views = 5000 * 200 * (14 + 15 * 4 + 15 * 4)
    hours = float(re.search(r": ([\d.e+]+) h by the above", whole)[1])
    assert hours == pytest.approx(views / speed / 3600, rel=0.02)


def test_operations_are_those_of_the_literature(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from on_device import operations

    # Zagoruyko & Komodakis's WRN-28-10 has 5.2 billion multiplications and additions an image; backward takes twice
    # what forward takes.
    assert operations("wrn-28-10", 32) == pytest.approx(5.2e9 * 2 * 3, rel=0.02)
