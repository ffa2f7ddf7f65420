"""One fit after the other, in this process."""

from __future__ import annotations

from harness.plan import Plan
from harness.records import Record
from harness.run import Worker


def execute(plan: Plan, worker: Worker) -> list[Record]:
    """Carry out whatever a plan has to do; the records, skips included.

    Raises:
        DataMissing: the data set is not there.
    """
    worker.require_data(plan.jobs())
    records = [worker.skip(one.evaluation, one.reason) for one in plan.skips()]
    worker.reporter.begin(plan)
    try:
        for fit, evaluations in plan.jobs():
            records += worker.carry_out(fit, evaluations)
            worker.reporter.fit_finished()
    finally:
        worker.reporter.end()
    return records
