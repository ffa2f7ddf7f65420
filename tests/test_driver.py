"""What a driver makes of that which workers send back that don't see its results folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept import differences, kept
from tiny import DISTANCE, harness, hook, plugin, records

from harness.errors import Unwritable
from harness.executors.driver import Driver, begun, setup
from harness.executors.remote import Outcome, carry_out
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


def carried_out(**request) -> list[str]:
    """Carry a request out; the failures that the reporter is told of."""
    plugins, store, told = Plugins(), Store(Path("results")), Told()
    plan = make_plan(Request(protocols=("test2",), cases=("2",), **request), plugins, store)
    store.prepare()
    worker = Worker(plugins, store, Path("data"), "cpu", told)
    with begun(plan, worker) as jobs:
        Apart(worker).work_through(jobs)
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
