"""Several fits at once on this machine, each in a process of its own: a small one leaves a device half idle."""

from __future__ import annotations

import concurrent.futures
import contextlib
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


class _Pool(Driver):
    """A fit is a task of a process pool. If a process dies, whichever fits it may have been are begun again, each
    alone; one that is lost alone has failed."""

    def __init__(self, worker: Worker, jobs: int, size: int, devices: Sequence[str]):
        super().__init__(worker)
        self.jobs, self.size, self.devices = jobs, size, devices
        self.setup = setup(worker, device=devices[0], jobs=-(-jobs // len(devices)))
        self.suspects: set[str] = set()
        self.others = set(multiprocessing.active_children())
        self._open()

    def _open(self) -> None:
        self.told = SPAWN.Queue()
        threads = max(1, cores() // self.jobs)
        self.pool = concurrent.futures.ProcessPoolExecutor(
            self.size, SPAWN, _begin, (self.setup, self.devices, SPAWN.Value("i", 0), threads, self.told)
        )
        # All are begun now, since the pool looks after those that were there at its last task; and deaf to a Ctrl-C,
        # which would end them with a traceback each, until they have got so far as to ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        for _ in range(self.size):
            self.pool.submit(os.getpid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _reopen(self) -> None:
        self.pool.shutdown()
        self._open()

    def room(self) -> int:
        if not self.suspects:
            return self.size
        left = {fit.id for fit, *_ in (*self.waiting, *self.running.values())}
        return 1 if self.suspects & left else self.size

    def start(self, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None) -> Any:
        try:
            return self.pool.submit(_work, fit, evaluations, trained, files)
        except BrokenProcessPool as error:
            if not self.running:  # it was broken by others, of which the last is over
                self._reopen()
                return self.pool.submit(_work, fit, evaluations, trained, files)
            # A process has died while nobody waited for it: this fit is lost with the others.
            lost: concurrent.futures.Future = concurrent.futures.Future()
            lost.set_exception(error)
            return lost

    def finished(self) -> list[Any]:
        return list(concurrent.futures.wait(self.running, PATIENCE, concurrent.futures.FIRST_COMPLETED).done)

    def outcome(self, task: concurrent.futures.Future) -> Outcome:
        try:
            return task.result()
        except BrokenProcessPool as error:
            raise Lost("the process that carried it out died, perhaps for want of memory") from error

    def retries(self, fit: Fit) -> bool:
        if not self.running:  # the last that the broken pool had
            self._reopen()
        if fit.id in self.suspects:
            self.suspects.discard(fit.id)
            return False
        self.suspects.add(fit.id)
        return True

    def events(self) -> Iterable[tuple[str, str, tuple]]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.told.get_nowait()

    def stop(self) -> None:
        over = threading.Event()
        children = set(multiprocessing.active_children()) - self.others
        threading.Thread(target=_interrupt, args=(children, over), daemon=True).start()
        self.pool.shutdown(cancel_futures=True)
        over.set()
        super().stop()


def _interrupt(children: Iterable[Any], over: threading.Event) -> None:
    """Again and again: a process that has just begun is deaf to it, and then takes the fit that waits for it."""
    while not over.is_set():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                if child.is_alive():
                    os.kill(child.pid, signal.SIGINT)
        over.wait(PATIENCE)


def _begin(setup: Setup, devices: Sequence[str], counter: Any, threads: int, told: Any) -> None:
    """What a new process does first."""
    import torch

    global _setup, _told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(threads)
    told.cancel_join_thread()
    sys.stderr = sys.stderr and Forgiving(sys.stderr, OSError)  # to which methods print
    with counter.get_lock():
        place, counter.value = counter.value, counter.value + 1
    _setup, _told = replace(setup, device=devices[place % len(devices)]), told


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
