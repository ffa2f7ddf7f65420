"""Several fits at once on this machine, each in a process of its own: a small one leaves a device half idle."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from harness.executors.driver import PATIENCE, Driver, Lost, begun, setup
from harness.executors.remote import Outcome, Setup, carry_out
from harness.fits import FitFiles
from harness.machine import cores, memory
from harness.plan import Evaluation, Fit, Plan
from harness.run import Worker
from harness.streams import Forgiving

SPAWN = multiprocessing.get_context("spawn")  # a forked process can't use a GPU that its parent uses

MEMORY = 4 << 30
"""Bytes that there have to be for each fit where nobody says how many: the largest published one took 3 GiB."""
ATTEMPTS = 10
"""How often a process is asked to end, `PATIENCE` apart, before it is made to."""


def at_once(plan: Plan, devices: Sequence[str]) -> int:
    """How many fits at a time, where nobody says: on a CPU as many as there are cores and memory for, on each GPU one.

    Two fits on a core each are trained half as fast again as one after the other on both cores. What is done already
    counts, so that a run which was interrupted goes on in the same way, to the same numbers.
    """
    room = min(cores(), memory() // MEMORY) if devices[0] == "cpu" else len(devices)
    fits = {one.evaluation.fit.id for one in plan.planned if one.status != "skipped"}
    return max(1, min(len(fits), room))


def execute(plan: Plan, worker: Worker, jobs: int, devices: Sequence[str]) -> None:
    """Carry out whatever a plan has to do, and record it.

    Args:
        worker: the driver's, which trains nothing itself.
        jobs: how many fits at a time, at most. Each has its share of the processor's threads, even if fewer are left:
            a run that was interrupted is to end with the same numbers.
        devices: the processes take them in turn.

    Raises:
        DataMissing: the data set is not there.
        Unwritable: the results folder takes no more.
        DeviceLost: a GPU answers no more.
    """
    with begun(plan, worker) as waiting:
        if not waiting:
            return
        pool = _Pool(worker, jobs, min(jobs, len(waiting)), devices)
        try:
            pool.work_through(waiting)
        finally:
            pool.stop()


class _Slot:
    """A process that carries out one fit at a time; one that has died is replaced."""

    def __init__(self, setup: Setup, threads: int):
        self.setup, self.threads = setup, threads
        self._open()

    def _open(self) -> None:
        # Of its own, since one that dies could leave it locked for others.
        self.told = SPAWN.Queue()
        self.pool = concurrent.futures.ProcessPoolExecutor(1, SPAWN, _begin, (self.setup, self.threads, self.told))
        # The process is begun now, and deaf to a Ctrl-C, which would end it with a traceback, until it has got so far
        # as to ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.pool.submit(os.getpid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def submit(self, *task: Any) -> concurrent.futures.Future:
        try:
            return self.pool.submit(_work, *task)
        except BrokenProcessPool:
            self.pool.shutdown()
            self._open()
            return self.pool.submit(_work, *task)


class _Pool(Driver):
    """Each fit has a process to itself. One whose process has died is begun again, after all others and alone, since
    memory may have been short; one that is lost again has failed."""

    def __init__(self, worker: Worker, jobs: int, size: int, devices: Sequence[str]):
        super().__init__(worker)
        self.others = set(multiprocessing.active_children())
        common = setup(worker, device=devices[0], jobs=-(-jobs // len(devices)))
        places = (replace(common, device=devices[place % len(devices)]) for place in range(size))
        self.slots = [_Slot(one, max(1, cores() // jobs)) for one in places]
        self.free = list(reversed(self.slots))
        self.slot_of: dict[concurrent.futures.Future, _Slot] = {}
        self.lost: set[str] = set()

    def room(self) -> int:
        running = [fit for fit, *_ in self.running.values()]
        following = [fit for fit, _ in self.waiting[-1:]]
        return 1 if any(fit.id in self.lost for fit in running + following) else len(self.slots)

    def start(self, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None) -> Any:
        slot = self.free.pop()
        task = slot.submit(fit, evaluations, trained, files)
        self.slot_of[task] = slot
        return task

    def finished(self) -> list[Any]:
        return list(concurrent.futures.wait(self.running, PATIENCE, concurrent.futures.FIRST_COMPLETED).done)

    def outcome(self, task: concurrent.futures.Future) -> Outcome:
        self.free.append(self.slot_of.pop(task))
        try:
            return task.result()
        except BrokenProcessPool as error:
            raise Lost("the process that carried it out died, perhaps for want of memory") from error

    def retries(self, fit: Fit) -> bool:
        again = fit.id not in self.lost
        self.lost.add(fit.id)
        return again

    def events(self) -> Iterable[tuple[str, str, tuple]]:
        for slot in self.slots:
            with contextlib.suppress(queue.Empty):
                while True:
                    yield slot.told.get_nowait()

    def stop(self) -> None:
        over = threading.Event()
        children = set(multiprocessing.active_children()) - self.others
        threading.Thread(target=_interrupt, args=(children, over), daemon=True).start()
        with concurrent.futures.ThreadPoolExecutor(len(self.slots)) as together:
            together.map(lambda slot: slot.pool.shutdown(cancel_futures=True), self.slots)
        over.set()
        super().stop()


def _interrupt(children: Iterable[Any], over: threading.Event) -> None:
    """Again and again: a process that has just begun is deaf to it, and then takes the fit that waits for it. One that
    stays deaf, in a library's long call, say, is killed."""
    for turn in itertools.count():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                if child.is_alive():
                    os.kill(child.pid, signal.SIGINT if turn < ATTEMPTS else signal.SIGKILL)
        if over.wait(PATIENCE):
            return


def _begin(setup: Setup, threads: int, told: Any) -> None:
    """What a new process does first."""
    import torch

    global _setup, _told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(threads)
    told.cancel_join_thread()
    sys.stderr = sys.stderr and Forgiving(sys.stderr, OSError)  # to which methods print
    _setup, _told = setup, told


def _end_with_the_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None) -> Outcome:
    with _interruptible():
        return carry_out(_setup, fit, evaluations, trained, files, lambda *event: _told.put(event))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A Ctrl-C ends a fit, once the write in hand is done; a process that waits for one is ended by its parent."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
