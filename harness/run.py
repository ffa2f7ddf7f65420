"""Carries out one fit and its evaluations: train or load, score, measure, record."""

from __future__ import annotations

import contextlib
import datetime
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.dataset import Dataset
from harness.errors import DeviceLost, Diverged, EndsTheRun, HarnessError, Unwritable, line_in, told
from harness.extras import asked_for, with_recorded
from harness.fits import NotKept
from harness.fitting import Fitting
from harness.machine import answers
from harness.method import Run
from harness.plan import Evaluation, Fit, changes, outstanding
from harness.plugins import Plugins, aside
from harness.provenance import Provenance, provenance
from harness.records import Record, Store
from harness.reporter import Reporter
from harness.scoring import Scoring, TestImages
from harness.seeding import seeded

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Worker:
    """Where fits are carried out, and with what."""

    plugins: Plugins
    store: Store
    data: Path
    device: str
    reporter: Reporter
    faster_by: tuple[str, ...] = Run.faster_by
    jobs: int = 1
    """How many fits the device carries out at a time."""
    trains: bool = True
    """Whether it trains what is not kept, or else leaves it out."""
    left_out: set[str] = field(default_factory=set)
    """The fits that it has left out."""

    def __post_init__(self):
        provenance(self.device)  # asks for the commit now: when a record is made the checkout may be another one

    def carry_out(self, fit: Fit, evaluations: Sequence[Evaluation]) -> list[Record]:
        """Train a fit, or load it where it is finished, and record its evaluations. What fails is recorded as failed; a
        fit that would have to be trained, where nothing is to be, is left out.

        Raises:
            DataMissing: the data set is not there; nothing was trained.
            Unwritable: the results folder takes no more. What was trained is recorded if it takes that.
            DeviceLost: something failed, which is recorded, and the GPU answers no more.
        """
        try:
            with seeded(fit.seed), aside():
                dataset = self.dataset(fit)
                # Before training, so that nothing is found missing only after it.
                anomaly = (name for evaluation in evaluations for name in evaluation.anomaly)
                test = TestImages.load(dataset, tuple(dict.fromkeys([*fit.normal, *anomaly])))
                fitting = Fitting(self, fit, dataset, test.images.shape[1:])
                fitting.find_or_train(evaluations[0].fit_digests)
                scoring = Scoring(fitting, test)
                records = [scoring.evaluate(evaluation) for evaluation in evaluations]
            fitting.forget_checkpoints()
            if fitting.unkept:
                raise fitting.unkept
            return records
        except (KeyboardInterrupt, EndsTheRun):
            raise
        except NotKept:
            self.left_out.add(fit.id)
            return []
        except BaseException as error:
            failed = [self.fail(evaluation, error) for evaluation in evaluations]
            self.require_device(fit)
            return failed

    def require_device(self, fit: Fit) -> None:
        """See that the device is still of use, now that something of a fit has failed.

        Raises:
            DeviceLost: it is not.
        """
        if not answers(self.device):
            what = f"{fit.method}, seed {fit.seed}"
            raise DeviceLost(f"{self.device} answers no more since {what} failed; run the same command to go on")

    def outstanding(self, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
        """Those that have yet to be carried out, and what other runs have added to their records since the plan was
        made."""
        found = {one.key: self.store.find(one.key) for one in evaluations}
        return [with_recorded(one, found[one.key], self.plugins) for one in outstanding(evaluations, found.get)]

    def require_data(self, jobs: Sequence[tuple[Fit, Sequence[Evaluation]]]) -> None:
        """See that the files of every class that the jobs need are there, before anything trains.

        Raises:
            DataMissing: they are not.
        """
        if jobs:
            fit = jobs[0][0]  # a plan is made for one data set
            train = dict.fromkeys(name for fit, _ in jobs for name in fit.normal)
            test = dict.fromkeys([*train, *(name for _, each in jobs for e in each for name in e.anomaly)])
            dataset = self.dataset(fit)
            with self.plugins.blame("dataset", fit.dataset, "require"):
                dataset.require(tuple(train), tuple(test))

    def dataset(self, fit: Fit) -> Dataset:
        params = self.plugins.get("dataset", fit.dataset).Params(**fit.dataset_params)
        return self.plugins.dataset(fit.dataset, self.data, params)

    def record(
        self,
        evaluation: Evaluation,
        device: str | None = None,
        trained_with: tuple[Provenance, ...] = (),
        **values: Any,
    ) -> Record:
        """The record of an evaluation, with what it was made with; on this device, if not on the worker's."""
        made_with = provenance(device or self.device)
        fit = evaluation.fit
        finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return Record(
            protocol=evaluation.protocol,
            dataset=fit.dataset,
            case=evaluation.case,
            declared_as=evaluation.declared_as if evaluation.declared_as != fit.dataset else "",
            anomaly_set=evaluation.anomaly_set,
            method=fit.method,
            seed=fit.seed,
            recipe=evaluation.recipe,
            settings=evaluation.settings,
            params=evaluation.params,
            recipe_values=fit.recipe,
            dataset_params=fit.dataset_params,
            clusters=evaluation.clusters,
            labels=fit.labels,
            anomaly=evaluation.anomaly,
            normal=evaluation.normal,
            digests=evaluation.digests,
            fit=fit.id,
            provenance=made_with | self._plugin(fit.method) | {"finished": finished},
            fit_provenance=trained_with if trained_with != (made_with,) else (),
            **values,
        )

    def _plugin(self, method: str) -> dict[str, str]:
        """Where a method comes from, if it is not bundled."""
        for entry in self.plugins.entries:
            if (entry.kind, entry.name) == ("method", method) and entry.source.origin != "bundled":
                source = entry.source
                return {"plugin": source.path.name if source.origin == "--plugins" else source.origin}
        return {}

    def skip(self, evaluation: Evaluation, reason: str) -> Record:
        return self.store.write(self.record(evaluation, status="skipped", reason=reason))

    def write(self, record: Record, scores: Mapping[str, np.ndarray] | None = None) -> Record:
        """Keep a record and its per-image scores. What failed does not take the place of numbers that still hold, when
        no more than a further score or metric was asked for; who asks for it again has it tried again.

        Raises:
            Unwritable: the disk is full, say; what was there before still is.
        """
        if record.status == "failed" and (before := self.store.find(record.key)) and before.status == "ok":
            changed = changes(before, record)
            if changed == asked_for(changed):
                return record
        return self.store.write(record, scores)

    def fail(self, evaluation: Evaluation, error: BaseException) -> Record:
        """Record an evaluation as failed, with the error as its reason and its traceback in a file: see `write`.

        Raises:
            Unwritable: the results folder does not even take that.
        """
        self.keep_traceback(evaluation.fit, error)
        # The errors of our own say all there is to say.
        files = () if isinstance(error, HarnessError | Diverged) else [one.path for one in self.plugins.sources]
        reason = told(error) + line_in(error, files)
        record = self.record(evaluation, status="failed", reason=reason)
        self.reporter.failed(evaluation, reason)
        return self.write(record)

    def keep_traceback(self, fit: Fit, *errors: BaseException) -> None:
        """As far as the results folder takes it."""
        texts = ["".join(traceback.format_exception(error)) for error in errors]
        with contextlib.suppress(Unwritable):
            if texts:
                self.store.fits.keep_failure(fit.id, "\n".join(texts))
