"""One fit after the other, in this process; other processes on the same results folder take their share."""

from __future__ import annotations

from collections.abc import Sequence

from harness.executors.driver import begun, wait_for_others
from harness.plan import Evaluation, Fit, Plan
from harness.run import Worker


def execute(plan: Plan, worker: Worker) -> None:
    """Carry out whatever a plan has to do, and record it.

    Raises:
        DataMissing: the data set is not there.
        Unwritable: the results folder takes no more.
        DeviceLost: a GPU answers no more.
    """
    with begun(plan, worker) as waiting:
        while waiting:
            left = [job for job in waiting if not _attempt(*job, worker)]
            if len(left) == len(waiting):
                wait_for_others(left, worker)
            waiting = left


def _attempt(fit: Fit, evaluations: Sequence[Evaluation], worker: Worker) -> bool:
    """Carry out a fit, unless another process is at it; what that one has recorded meanwhile is not done again."""
    with worker.store.fits.claim(fit.id) as ours:
        if not ours:
            return False
        missing = worker.outstanding(evaluations)
        if missing:
            worker.carry_out(fit, missing)
        worker.reporter.fit_finished(fit)
        return True
