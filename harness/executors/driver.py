"""Keeps workers in other processes busy, and takes in what they send back: what Ray and a pool of processes share.

The driver makes the plan, holds the claims, and shows the progress. A task is one fit with its evaluations, sent as
plain data: see `harness.executors.remote`.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import harness
from harness.errors import HarnessError
from harness.executors.remote import Outcome, Setup
from harness.fits import FitFiles
from harness.plan import Evaluation, Fit, Plan
from harness.reporter import tell_of
from harness.run import Worker

PATIENCE = 1.0
"""Seconds between looks at what workers, and other processes on the results folder, are at."""

Job = tuple[Fit, list[Evaluation]]


class Lost(Exception):
    """A worker died, and its fit with it."""


@contextlib.contextmanager
def begun(plan: Plan, worker: Worker) -> Iterator[list[Job]]:
    """What a plan has to do, once it is seen that it can be done; the reporter is told of beginning and end.

    Raises:
        DataMissing: the data set is not there.
    """
    jobs = plan.jobs()
    worker.require_data(jobs)
    for one in plan.skips():
        worker.skip(one.evaluation, one.reason)
    worker.reporter.begin(plan)
    try:
        yield jobs
    finally:
        worker.reporter.end()


def setup(worker: Worker, **more: Any) -> Setup:
    """What others need to do a worker's work."""
    own = [source for source in worker.plugins.sources if source.origin == "--plugins"]
    return Setup(
        results=worker.store.root.resolve(),
        data=worker.data.resolve(),
        plugins=tuple((source.path, source.text) for source in own),
        version=harness.__version__,
        faster_by=worker.faster_by,
        **more,
    )


def wait_for_others(jobs: Sequence[Job], worker: Worker) -> None:
    """Give other processes a moment, which are at all the jobs that are left, or have just died or finished."""
    worker.reporter.waiting([fit for fit, _ in jobs])
    time.sleep(PATIENCE)


class Driver(ABC):
    """Hands fits over, and records what comes back. An executor says how; the worker is the one that reports."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.waiting: list[Job] = []
        self.running: dict[Any, tuple[Fit, list[Evaluation], contextlib.ExitStack]] = {}
        self.shown: set[str] = set()

    @abstractmethod
    def room(self) -> int:
        """How many fits may be handed over at a time; what comes after them is left for other processes to take."""

    @abstractmethod
    def start(self, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None) -> Any:
        """Hand `harness.executors.remote.carry_out` its arguments; returns the task."""

    @abstractmethod
    def finished(self) -> list[Any]:
        """Those of the running tasks that are over: one at least, unless none is within `PATIENCE`."""

    @abstractmethod
    def outcome(self, task: Any) -> Outcome:
        """What a finished task sends back.

        Raises:
            Lost: nothing.
        """

    @abstractmethod
    def events(self) -> Iterable[tuple[str, str, tuple]]:
        """What workers have told since the last look: an event of the reporter, a fit's identity, further values."""

    def retries(self, fit: Fit) -> bool:
        """Whether a fit that was lost is to be begun again, after all others."""
        return False

    def work_through(self, jobs: Sequence[Job]) -> None:
        """Carry all jobs out, but those that other processes do meanwhile."""
        self.waiting, taken = list(reversed(jobs)), []
        while self.waiting or taken or self.running:
            while self.waiting and len(self.running) < self.room():
                job = self.waiting.pop()
                if not self._submit(*job):
                    taken.append(job)
            if self.running:
                done = self.finished()
                self._show()
                self._take_all(done)
            elif taken:
                wait_for_others(taken, self.worker)
            if not self.waiting:  # those who took the rest may have died
                self.waiting, taken = taken, []

    def _submit(self, fit: Fit, evaluations: list[Evaluation]) -> bool:
        """Hand a fit over, unless another process is at it."""
        store, claim = self.worker.store, contextlib.ExitStack()
        if not claim.enter_context(store.fits.claim(fit.id)):
            return False
        missing = self.worker.outstanding(evaluations)
        if not missing:
            claim.close()
            self.worker.reporter.fit_finished(fit)
            return True
        self._hand_over(fit, missing, claim, store.fits.has(fit.id))
        return True

    def _hand_over(
        self,
        fit: Fit,
        evaluations: list[Evaluation],
        claim: contextlib.ExitStack,
        trained: bool,
        files: FitFiles | None = None,
    ) -> None:
        self.running[self.start(fit, evaluations, trained, files)] = fit, evaluations, claim

    def _take_all(self, tasks: Sequence[Any]) -> None:
        """Record what tasks have sent back, whichever of them ends the run."""
        errors = []
        for task in tasks:
            try:
                self._take(task)
            except HarnessError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _take(self, task: Any) -> None:
        """Record what a task has sent back."""
        fit, evaluations, claim = self.running.pop(task)
        with claim:
            try:
                outcome = self.outcome(task)
            except Lost as error:
                if self.retries(fit):
                    self.waiting.insert(0, (fit, evaluations))
                    return
                for evaluation in self.worker.outstanding(evaluations):
                    self.worker.fail(evaluation, error)
            else:
                if outcome.wants_files:
                    files = self.worker.store.fits.files(fit.id)  # None: can't be read, so it is trained anew
                    self._hand_over(fit, evaluations, claim.pop_all(), files is not None, files)
                    return
                self._record(fit, evaluations, outcome)
        self.worker.reporter.fit_finished(fit)

    def _record(self, fit: Fit, evaluations: list[Evaluation], outcome: Outcome) -> None:
        store, reporter = self.worker.store, self.worker.reporter
        if outcome.refusal:
            raise type(outcome.refusal)(f"on {outcome.machine}: {outcome.refusal}")
        if outcome.begun and fit.id not in self.shown:
            getattr(reporter, outcome.begun)(fit)
        if outcome.brought:
            try:
                if outcome.fit:
                    store.fits.put_files(fit.id, outcome.fit)
                if outcome.traceback:
                    store.fits.keep_failure(fit.id, outcome.traceback)
            finally:  # where there is no room for what was learnt, there may be some for the numbers
                for record, scores in zip(outcome.records, outcome.scores, strict=True):
                    self.worker.write(record, scores)
        for evaluation, record in zip(evaluations, outcome.records, strict=True):
            tell_of(record, evaluation, reporter)

    def _show(self) -> None:
        """Hand on to the reporter what the workers have told so far."""
        fits = {fit.id: fit for fit, _, _ in self.running.values()}
        for event, fit_id, more in self.events():
            if fit_id in fits:
                self.shown.add(fit_id)
                getattr(self.worker.reporter, event)(fits[fit_id], *more)

    def stop(self) -> None:
        """Let go of whatever still runs."""
        for _, _, claim in self.running.values():
            claim.close()
