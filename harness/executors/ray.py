"""Fits as tasks of a Ray cluster: the GPUs and processors of this machine, or of many.

A task's worker makes method and data set by name, from the harness and the data folder of its own machine. A worker
that sees the results folder writes there; one that does not sends everything back. A task whose machine is lost is
carried out again elsewhere: what it has recorded is not done again, and what it was training goes on from its last
checkpoint, if others see that.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.executors.driver import PATIENCE, Driver, Lost, begun, setup
from harness.executors.remote import Outcome, Setup, carry_out
from harness.fits import FitFiles
from harness.plan import Evaluation, Fit, Plan
from harness.run import Worker

# Read when Ray is imported. Under `uv run`, it would upload the current folder, data and results included, and build an
# environment anew in every worker; each machine's own environment is used instead, as it is.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

RETRIES = 5
"""How often a fit is begun again whose worker was lost. After that it is recorded as failed."""
QUEUE = 64
"""Fits that wait for a free worker."""
ABSENCE = 120.0
"""Seconds without any machine that could carry a fit out, after which a run ends."""


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
        DeviceLost: a GPU answers its worker no more.
        HarnessError: there is no such cluster, it can't give a fit what it asks for, or it has another harness.
    """
    with _connected(cluster.address), _token(worker.store.root) as token:
        gpus = _gpus(cluster)
        device = "cuda" if gpus or cluster.device == "cuda" else "cpu"
        with begun(plan, worker) as jobs:
            sharing = int(1 / gpus) if 0 < gpus < 1 else 1  # fits that ask for a part of a GPU
            driver = _Ray(worker, setup(worker, device=device, token=token, jobs=sharing), gpus, cluster.cpus)
            try:
                driver.work_through(jobs)
            finally:
                driver.stop()


class _Ray(Driver):
    """A fit is a task of Ray, which begins it again where its machine is lost."""

    def __init__(self, worker: Worker, setup: Setup, gpus: float, cpus: float):
        import ray

        super().__init__(worker)
        self.gpus, self.cpus = gpus, cpus
        self.able = time.monotonic()
        """When a machine was last seen that can carry a fit out."""
        self.setup = ray.put(setup)
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self.reading = self.board.read.remote()
        self.task = _remote_task(gpus, cpus)

    def room(self) -> int:
        import ray

        return QUEUE + int(ray.cluster_resources().get("CPU", 0) / self.cpus)

    def start(self, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None) -> Any:
        return self.task.remote(self.setup, fit, evaluations, trained, files, self.board)

    def finished(self) -> list[Any]:
        import ray

        if not ray.wait(list(self.running), timeout=PATIENCE)[0]:
            self._require_a_machine()
        return ray.wait(list(self.running), num_returns=len(self.running), timeout=0)[0]

    def _require_a_machine(self) -> None:
        """Ray waits for ever for one to come, and says nothing."""
        try:
            _require(self.gpus, self.cpus)
        except HarnessError:
            if time.monotonic() - self.able > ABSENCE:
                raise
        else:
            self.able = time.monotonic()

    def outcome(self, task: Any) -> Outcome:
        import ray

        try:
            return ray.get(task)
        except ray.exceptions.RayTaskError as error:  # not of the fit, whose errors are records by now
            other = isinstance(error.cause, ImportError | AttributeError | TypeError)
            mend = "install the same harness on every machine" if other else "mend that, and run the same command again"
            raise HarnessError(f"a worker of the cluster: {error.cause!r}; {mend}") from error
        except ray.exceptions.RayError as error:
            raise Lost(f"{type(error).__name__}: {error}") from error

    def events(self) -> Iterable[tuple[str, str, tuple]]:
        import ray

        events: list[tuple[str, str, tuple]] = []
        if ray.wait([self.reading], timeout=0)[0]:
            with contextlib.suppress(ray.exceptions.RayError):  # the board is lost with its machine, and made anew
                events = ray.get(self.reading)
            self.reading = self.board.read.remote()
        return events

    def stop(self) -> None:
        import ray

        for task in self.running:
            with contextlib.suppress(Exception):
                ray.cancel(task, force=True)
        super().stop()
        ray.kill(self.board)


def _task(
    setup: Setup, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None, board: Any
) -> Outcome:
    return carry_out(setup, fit, evaluations, trained, files, board.tell.remote)


def _remote_task(gpus: float, cpus: float) -> Any:
    """`_task`, as Ray carries it out: in a new process if it takes a GPU, so that none keeps the memory of one.

    Ray does so for a task that is declared with a GPU, and not for one that gets it by `options`.
    """
    import ray

    return ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD")(_task)


class Board:
    """An actor, where workers tell what they are at, for the driver to read."""

    def __init__(self):
        self.events: list[tuple[str, str, tuple]] = []

    def tell(self, *event: Any) -> None:
        self.events.append(event)

    def read(self) -> list[tuple[str, str, tuple]]:
        read, self.events = self.events, []
        return read


def _gpus(cluster: Cluster) -> float:
    """How many GPUs each fit asks for.

    Raises:
        HarnessError: no machine of the cluster can give a fit what it asks for.
    """
    gpus = cluster.gpus
    if cluster.device == "cpu":
        gpus = 0.0
    elif gpus is None:
        gpus = float(cluster.device == "cuda" or any(machine.get("GPU", 0) >= 1 for machine in _machines()))
    _require(gpus, cluster.cpus)
    return gpus


def _require(gpus: float, cpus: float) -> None:
    if not any(machine.get("GPU", 0) >= gpus and machine.get("CPU", 0) >= cpus for machine in _machines()):
        raise HarnessError(
            f"no machine of the cluster has {gpus:g} GPU(s) and {cpus:g} CPU(s) for a fit; start one that has, "
            f"or ask for less with --ray-gpus and --ray-cpus"
        )


def _machines() -> list[dict[str, float]]:
    """What the machines of the cluster have."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster, for as long as the run takes."""
    try:
        import ray
    except ImportError:
        raise HarnessError(
            "--executor ray: Ray is not installed; `uv sync --extra ray` or `uv pip install ray`"
        ) from None
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises just that where its own processes are not there in time
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if address is None:
            more = "it may be too busy a machine; --executor local needs no Ray, and --jobs runs several fits at once"
            raise HarnessError(f"--executor ray: Ray does not start here: {first}; {more}") from None
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
