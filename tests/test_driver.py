"""What a driver makes of that which workers send back that don't see its results folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from kept import differences, kept
from tiny import DISTANCE, harness, hook, plugin, records

from harness.errors import HarnessError, Unwritable
from harness.executors.driver import Driver, begun, setup
from harness.executors.remote import Outcome, carry_out
from harness.fits import Fits
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.records import Store
from harness.reporter import Reporter
from harness.run import Worker


class Apart(Driver):
    """Its workers are this process, with a results folder of their own for each fit."""

    def __init__(self, worker: Worker):
        super().__init__(worker)
        self.setup = setup(worker, device="cpu", token="a file that is not there")
        self.outcomes: list[Outcome] = []

    def room(self) -> int:
        return 1

    def start(self, *task) -> int:
        self.outcomes.append(carry_out(self.setup, *task, lambda *event: None))
        return len(self.outcomes) - 1

    def finished(self) -> list[int]:
        return list(self.running)

    def outcome(self, task: int) -> Outcome:
        return self.outcomes[task]

    def events(self) -> list:
        return []


class Told(Reporter):
    def __init__(self):
        self.failures: list[str] = []

    def failed(self, evaluation, reason):
        self.failures.append(reason)


def carried_out(driver: type[Driver] = Apart, **request) -> list[str]:
    """Carry a request out; the failures that the reporter is told of."""
    plugins, store, told = Plugins(), Store(Path("results")), Told()
    plan = make_plan(Request(protocols=("test2",), cases=("2",), **request), plugins, store)
    store.prepare()
    worker = Worker(plugins, store, Path("data"), "cpu", told)
    with begun(plan, worker) as jobs:
        driver(worker).work_through(jobs)
    return told.failures


def test_a_fit_that_can_not_be_kept_is_recorded_before_the_run_ends(here):
    method = plugin()
    Path("results").mkdir()
    Path("results/fits").touch()  # no folder
    with pytest.raises(Unwritable, match="results/fits: can't write there: File exists"):
        carried_out(methods=(str(method),), seeds=(0, 1))
    assert [(record.seed, record.status) for record in records()] == [(0, "ok")]
    Path("results/fits").unlink()
    carried_out(methods=(str(method),), seeds=(0, 1))
    harness("run", "--protocol", "test2", "--case", "2", "--method", method, "--seed", "0,1", "--results", "whole")
    (first, _) = records()
    assert all(name.startswith(f"fits/{first.fit}.") for name in differences(kept("whole"), kept("results")))


def test_a_failure_leaves_the_numbers_that_hold(here):
    fails = "import pathlib; assert not pathlib.Path(__file__).with_name('busy').exists(), 'no memory'; "
    request = {"methods": (str(plugin(score=fails + DISTANCE)),)}
    carried_out(**request)
    before = records()
    Path("busy").touch()
    assert "no memory" in carried_out(**request, metrics=(str(hook("metric", "Good", "(a, b):\n    return 1.0")),))[0]
    assert records() == before


class Two(Apart):
    """Takes two fits at a time, which are over at once."""

    def room(self) -> int:
        return 2


def test_what_is_done_is_recorded_though_a_machine_is_refused(here):
    class Refused(Two):
        def outcome(self, task):
            return Outcome("m", refusal=HarnessError("another version")) if task == 0 else super().outcome(task)

    with pytest.raises(HarnessError, match="on m: another version"):
        carried_out(Refused, methods=(str(plugin()),), seeds=(0, 1))
    assert [(record.seed, record.status) for record in records()] == [(1, "ok")]


def test_a_fit_that_another_run_leaves_behind_is_taken_over_while_a_longer_one_goes_on(here):
    """Of seed 0, another process has the claim until it dies; seed 1 is not over before seed 0 is begun."""

    class Slow(Two):
        def __init__(self, worker):
            super().__init__(worker)
            self.seeds, self.other = [], None

        def work_through(self, jobs):
            self.other = contextlib.ExitStack()
            self.other.enter_context(self.worker.store.fits.claim(jobs[0][0].id))
            super().work_through(jobs)

        def start(self, fit, *task):
            self.seeds.append(fit.seed)
            return super().start(fit, *task)

        def finished(self):
            self.other.close()
            return list(self.running) if len(self.seeds) == 2 else self.look()

        def look(self):
            self.looks = getattr(self, "looks", 0) + 1
            assert self.looks < 5, "nobody takes over what was left behind"
            return []

    carried_out(Slow, methods=(str(plugin()),), seeds=(0, 1))
    assert [record.status for record in records()] == ["ok", "ok"]


def test_a_fit_that_can_not_be_read_is_trained_anew(here, monkeypatch):
    words = {"methods": (str(plugin()),)}
    carried_out(**words)
    before, (path,) = records(), Path("results/records").rglob("*.json")
    path.unlink()
    monkeypatch.setattr(Fits, "files", lambda self, fit: None)  # as where they may not be read
    carried_out(**words)
    assert [(r.key, r.scores) for r in records()] == [(r.key, r.scores) for r in before]
