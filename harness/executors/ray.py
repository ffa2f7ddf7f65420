"""Fits as tasks of a Ray cluster: the GPUs and processors of this machine, or of many.

The driver makes the plan, holds the claims, and shows the progress. A task is one fit with its evaluations, sent as
plain data; its worker makes method and data set by name, from the harness and the data folder of its own machine. A
worker that sees the results folder writes there; one that does not sends everything back. A task whose machine is lost
is carried out again elsewhere: what it has recorded is not done again, and what it was training goes on from its last
checkpoint, if others see that.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness.errors import HarnessError
from harness.executors.local import PATIENCE
from harness.executors.remote import Board, FitFiles, Outcome, Setup, carry_out
from harness.plan import Evaluation, Fit, Plan, outstanding
from harness.run import Worker

# Read when Ray is imported. Under `uv run`, it would upload the current folder, data and results included, and build an
# environment anew in every worker; each machine's own environment is used instead, as it is.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

RETRIES = 5
"""How often a fit is begun again whose worker was lost. After that it is recorded as failed."""
QUEUE = 64
"""Fits that wait for a free worker; what comes after them is left for other processes to take."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what a fit asks of it."""

    address: str | None = None
    """`host:port` of a running cluster, or `auto`; None: the one that this machine belongs to, else a new local one."""
    gpus: float | None = None
    """GPUs for each fit; None: 1 where the cluster has any, else 0."""
    cpus: float = 1
    """Processor cores for each fit."""
    device: str = "auto"
    """`auto`, `cuda`, or `cpu`: leave GPUs alone."""


def execute(plan: Plan, worker: Worker, cluster: Cluster) -> None:
    """Carry out whatever a plan has to do on a cluster, and record it.

    Args:
        worker: the driver's, which trains nothing itself.

    Raises:
        DataMissing: the data set is not there, here or on a machine of the cluster.
        Unwritable: the results folder takes no more.
        HarnessError: there is no such cluster, it can't give a fit what it asks for, or it has another harness.
    """
    with _connected(cluster.address), _token(worker.store.root) as token:
        gpus = _gpus(cluster)
        jobs = plan.jobs()
        worker.require_data(jobs)
        for one in plan.skips():
            worker.skip(one.evaluation, one.reason)
        own = [source.path for source in worker.plugins.sources if source.origin == "--plugins"]
        setup = Setup(
            results=worker.store.root.resolve(),
            token=token,
            data=worker.data.resolve(),
            device="cuda" if gpus or cluster.device == "cuda" else "cpu",
            plugins=tuple((path, path.read_bytes()) for path in own),
            version=harness.__version__,
        )
        worker.reporter.begin(plan)
        driver = _Driver(worker, setup, gpus, cluster.cpus)
        try:
            driver.work_through(jobs)
        finally:
            driver.stop()
            worker.reporter.end()


class _Driver:
    """Keeps the cluster busy, and takes in what it sends back."""

    def __init__(self, worker: Worker, setup: Setup, gpus: float, cpus: float):
        import ray

        self.worker, self.setup, self.cpus = worker, setup, cpus
        self.running: dict[Any, tuple[Fit, list[Evaluation], contextlib.ExitStack]] = {}
        self.shown: set[str] = set()
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self.reading = self.board.read.remote()
        self.task = ray.remote(carry_out).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
        )

    def work_through(self, jobs: Sequence[tuple[Fit, list[Evaluation]]]) -> None:
        import ray

        waiting, taken = list(reversed(jobs)), []
        while waiting or taken or self.running:
            room = QUEUE + int(ray.cluster_resources().get("CPU", 0) / self.cpus)
            while waiting and len(self.running) < room:
                job = waiting.pop()
                if not self._submit(*job):
                    taken.append(job)
            if self.running:
                ray.wait(list(self.running), timeout=PATIENCE)
                done, _ = ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
                self._show()
                for task in done:
                    self._take(task)
            elif taken:  # by other processes, which may have died or be done by now
                time.sleep(PATIENCE)
                waiting, taken = taken, []

    def _submit(self, fit: Fit, evaluations: list[Evaluation]) -> bool:
        """Hand a fit over, unless another process is at it."""
        store, claim = self.worker.store, contextlib.ExitStack()
        if not claim.enter_context(store.claim(fit.id)):
            return False
        missing = outstanding(evaluations, store)
        if not missing:
            claim.close()
            self.worker.reporter.fit_finished(fit)
            return True
        self._hand_over(fit, missing, claim)
        return True

    def _hand_over(
        self, fit: Fit, evaluations: list[Evaluation], claim: contextlib.ExitStack, files: FitFiles | None = None
    ) -> None:
        trained = self.worker.store.has_fit(fit.id)
        task = self.task.remote(self.setup, fit, evaluations, trained, files, self.board)
        self.running[task] = fit, evaluations, claim

    def _take(self, task: Any) -> None:
        """Record what a task has sent back."""
        import ray

        fit, evaluations, claim = self.running.pop(task)
        with claim:
            try:
                outcome: Outcome = ray.get(task)
                if outcome.wants_files:
                    self._hand_over(fit, evaluations, claim.pop_all(), self.worker.store.get_fit(fit.id))
                    return
            except ray.exceptions.RayTaskError as error:  # not of the fit, whose errors are records by now
                raise HarnessError(
                    f"a worker of the cluster: {error.cause!r}; install the same harness on every machine"
                ) from error
            except ray.exceptions.RayError as error:
                for evaluation in outstanding(evaluations, self.worker.store):
                    self.worker.fail(evaluation, error)
            else:
                self._record(fit, evaluations, outcome)
        self.worker.reporter.fit_finished(fit)

    def _record(self, fit: Fit, evaluations: list[Evaluation], outcome: Outcome) -> None:
        store, reporter = self.worker.store, self.worker.reporter
        if outcome.refusal:
            raise type(outcome.refusal)(f"on {outcome.machine}: {outcome.refusal}")
        if outcome.begun and fit.id not in self.shown:
            getattr(reporter, outcome.begun)(fit)
        if outcome.brought:
            if outcome.fit:
                store.put_fit(fit.id, *outcome.fit)
            if outcome.traceback:
                store.keep_failure(fit.id, outcome.traceback)
            for record, scores in zip(outcome.records, outcome.scores, strict=True):
                store.write(record, scores)
        for evaluation, record in zip(evaluations, outcome.records, strict=True):
            if record.status == "failed":
                reporter.failed(evaluation, record.reason)
            else:
                reporter.evaluated(evaluation, record)

    def _show(self) -> None:
        """Hand on to the reporter what the workers have told so far."""
        import ray

        if not ray.wait([self.reading], timeout=0)[0]:
            return
        fits = {fit.id: fit for fit, _, _ in self.running.values()}
        with contextlib.suppress(ray.exceptions.RayError):  # the board is lost with its machine, and made anew
            for event, fit_id, more in ray.get(self.reading):
                if fit_id in fits:
                    self.shown.add(fit_id)
                    getattr(self.worker.reporter, event)(fits[fit_id], *more)
        self.reading = self.board.read.remote()

    def stop(self) -> None:
        """Let go of whatever still runs."""
        import ray

        for task, (_, _, claim) in self.running.items():
            with contextlib.suppress(Exception):
                ray.cancel(task, force=True)
            claim.close()
        ray.kill(self.board)


def _gpus(cluster: Cluster) -> float:
    """How many GPUs each fit asks for.

    Raises:
        HarnessError: no machine of the cluster can give a fit what it asks for.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = cluster.gpus
    if cluster.device == "cpu":
        gpus = 0.0
    elif gpus is None:
        gpus = float(cluster.device == "cuda" or any(machine.get("GPU", 0) >= 1 for machine in machines))
    if not any(machine.get("GPU", 0) >= gpus and machine.get("CPU", 0) >= cluster.cpus for machine in machines):
        raise HarnessError(
            f"no machine of the cluster has {gpus:g} GPU(s) and {cluster.cpus:g} CPU(s) for a fit; start one that has, "
            f"or ask for less with --ray-gpus and --ray-cpus"
        )
    return gpus


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster, for as long as the run takes."""
    try:
        import ray
    except ImportError:
        raise HarnessError("--executor ray: Ray is not installed; add it with uv sync --extra ray") from None
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HarnessError(f"--ray-address {address}: no Ray cluster answers there: {first}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _token(results: Path) -> Iterator[str]:
    name = f".{uuid.uuid4().hex}.ray"
    (results / name).touch()
    try:
        yield name
    finally:
        (results / name).unlink(missing_ok=True)
