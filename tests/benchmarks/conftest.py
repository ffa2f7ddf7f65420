"""Benchmarks: the harness beside a reference, alternately in one run, so that each result is a ratio.

    uv run pytest tests/benchmarks

A ratio above 1 means that the harness is faster. Times are of the wall clock, except in those files that ask for
processor time, which other work on the machine does not change. Each side gets one processor thread, unless
OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

ROUNDS = 3
LINES = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture
def beside(benchmark, request) -> Callable[..., dict[str, float]]:
    """Times a call and its references in turn, so that whatever else the machine does slows all of them alike.

    `beside("what", ours, {"a reference": reference}, amount=images)` returns for each reference its median time over
    ours, and puts it into the table and into pytest-benchmark's own data.
    """

    def run(
        what: str,
        ours: Callable[[], Any],
        references: dict[str, Callable[[], Any]],
        amount: int = 0,
        rounds: int = ROUNDS,
    ) -> dict[str, float]:
        times: dict[str, list[float]] = {name: [] for name in references}
        marker = request.node.get_closest_marker("benchmark")
        timer = marker.kwargs.get("timer", time.perf_counter) if marker else time.perf_counter

        def take_turns() -> None:
            for name, reference in references.items():
                started = timer()
                reference()
                times[name].append(timer() - started)

        benchmark.pedantic(ours, setup=take_turns, rounds=rounds)
        own = benchmark.stats.stats.median
        ratios = {}
        for name, each in times.items():
            reference = statistics.median(each)
            ratios[name] = benchmark.extra_info[name] = reference / own
            spread = sorted(r / o for r, o in zip(each, benchmark.stats.stats.data, strict=True))
            shown = [f"{amount / t:,.0f}/s" if amount else f"{t:.3f} s" for t in (own, reference)]
            line = (what, shown[0], name, shown[1], f"{ratios[name]:.2f}", f"{spread[0]:.2f} to {spread[-1]:.2f}")
            request.config.stash.setdefault(LINES, []).append(line)
        return ratios

    return run


@pytest.fixture
def within(benchmark, request) -> Callable[..., float]:
    """Times a call that has a budget in seconds instead of a reference; returns the median."""

    def run(what: str, ours: Callable[[], Any], budget: float, rounds: int = ROUNDS) -> float:
        benchmark.pedantic(ours, rounds=rounds)
        stats = benchmark.stats.stats
        spread = f"{budget / stats.max:.2f} to {budget / stats.min:.2f}"
        line = (what, f"{stats.median:.3f} s", "budget", f"{budget:g} s", f"{budget / stats.median:.2f}", spread)
        request.config.stash.setdefault(LINES, []).append(line)
        return stats.median

    return run


@pytest.fixture
def also(request) -> Callable[[str, list[float], str, list[float]], None]:
    """Puts numbers other than times beside each other in the table: mean ± standard deviation."""

    def show(what: str, ours: list[float], name: str, theirs: list[float]) -> None:
        shown = [
            f"{statistics.fmean(each):.3f}" + (f" ± {statistics.stdev(each):.3f}" if len(each) > 1 else "")
            for each in (ours, theirs)
        ]
        request.config.stash.setdefault(LINES, []).append((what, shown[0], name, shown[1], "", ""))

    return show


def pytest_terminal_summary(terminalreporter, config) -> None:
    from tabulate import tabulate

    head = ["what", "harness", "reference", "takes", "ratio", "over the rounds"]
    if LINES in config.stash:
        terminalreporter.write_line(tabulate(config.stash[LINES], headers=head, disable_numparse=True))
