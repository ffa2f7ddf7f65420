"""Carries out one fit and its evaluations: train or load, score, measure, record."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import kit
from harness.dataset import Dataset
from harness.digests import plugged_networks, require_named
from harness.environment import processor, provenance, seeded, threads
from harness.errors import DataDamaged, DataMissing, Diverged, HarnessError, Unwritable, line_in, told
from harness.extras import added_metrics, added_scores, names_of
from harness.fits import KeptFit
from harness.fitting import cluster_index, describe, fit_another, switch_to_scoring
from harness.method import Images, Method, Run, Task
from harness.metrics import measure
from harness.peak import Peak
from harness.plan import Evaluation, Fit
from harness.plugins import Plugins, aside
from harness.progress import Reporter
from harness.recipe import recipe_of_fit
from harness.records import Record, Store
from harness.scoring import checked_scores, compact

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NEIGHBOURS = 200
"""K of the k-nearest-neighbour accuracy that is always computed (Ye et al. 2019)."""


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

    def carry_out(self, fit: Fit, evaluations: Sequence[Evaluation]) -> list[Record]:
        """Train a fit, or load it where it is finished, and record its evaluations. What fails is recorded as failed.

        Raises:
            DataMissing: the data set is not there; nothing was trained.
        """
        try:
            with seeded(fit.seed), aside():
                dataset = self.dataset(fit)
                # Before training, so that nothing is found missing only after it.
                anomaly = (name for evaluation in evaluations for name in evaluation.anomaly)
                test = TestImages.load(dataset, tuple(dict.fromkeys([*fit.normal, *anomaly])))
                fitting = _Fitting(self, fit, dataset)
                fitting.find_or_train(evaluations[0].fit_digests)
                scoring = _Scoring(fitting, test)
                records = [scoring.evaluate(evaluation) for evaluation in evaluations]
            fitting.forget_checkpoints()
            return records
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if concerns_every_fit(error):
                raise
            return [self.fail(evaluation, error) for evaluation in evaluations]

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

    def record(self, evaluation: Evaluation, **values: Any) -> Record:
        """The record of an evaluation, with what it was made with."""
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
            provenance=provenance(self.device) | self._plugin(fit.method) | {"finished": finished},
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

    def fail(self, evaluation: Evaluation, error: BaseException) -> Record:
        """Record an evaluation as failed, with the error as its reason and its traceback in a file.

        Raises:
            Unwritable: the results folder does not even take that.
        """
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(Unwritable):
            self.store.fits.keep_failure(evaluation.fit.id, text)
        # The errors of our own say all there is to say.
        files = () if isinstance(error, HarnessError | Diverged) else [one.path for one in self.plugins.sources]
        reason = told(error) + line_in(error, files)
        record = self.record(evaluation, status="failed", reason=reason)
        self.reporter.failed(evaluation, reason)
        return self.store.write(record)


def concerns_every_fit(error: BaseException) -> bool:
    """Whether the other fits would fare no better, so that there is no use in recording this one as failed."""
    return isinstance(error, DataMissing) and not isinstance(error, DataDamaged)


class _Fitting:
    """A method, fitted: from the store if its fit is finished there, else by training."""

    def __init__(self, worker: Worker, fit: Fit, dataset: Dataset):
        self.worker, self.fit, self.dataset = worker, fit, dataset
        self.epochs = 1
        """That were reported; a method that reports none has looked at its images once, as far as anyone knows."""
        cls = worker.plugins.get("method", fit.method)
        self.method: Method = cls(cls.Params(**fit.params))
        recipe = recipe_of_fit(fit.recipe)
        self.run = Run(worker.device, fit.seed, recipe, self.method.params, self._epoch, faster_by=worker.faster_by)
        self.run.fitted = self._another

    def find_or_train(self, digests: dict[str, str]) -> None:
        """See to it that the method is fitted; `about` then says what its fit was, and how it went."""
        for name in plugged_networks(self.fit.recipe):
            kit.BUILDERS[name] = self.worker.plugins.get("network", name)
        fits = self.worker.store.fits
        self.checkpoints = fits.checkpoints(self.fit.id, digests)
        found = fits.find(self.fit.id, digests)
        self.about = self._load(*found) if found else self._train(digests)
        switch_to_scoring(self.method)

    def _load(self, kept: KeptFit, state: Mapping[str, Tensor]) -> KeptFit:
        """Fill the method with what it learnt; checkpoints of an earlier attempt are of no more use."""
        self.worker.reporter.fit_reused(self.fit)
        self.method.build(Task(**kept.task), self.run)
        here = {name: tensor if name in kept.on_cpu else tensor.to(self.run.device) for name, tensor in state.items()}
        self.method.load(here)
        self.run.notes, self.run.numerics = dict(kept.diagnostics), dict(kept.numerics)
        self.forget_checkpoints()
        return kept

    def _train(self, digests: dict[str, str]) -> KeptFit:
        """Train the method, and keep what it learnt if it says what that is."""
        fit, run = self.fit, self.run
        self.worker.reporter.fit_started(fit)
        images, classes = self.dataset.load("train", fit.normal)
        labels = cluster_index(fit.clusters, fit.normal)[classes] if fit.labels else None
        task = describe(images, len(fit.clusters) if fit.labels else None)
        run.checkpoints = self.checkpoints
        peak, started = Peak(run.device), time.perf_counter()
        # A method may go elsewhere; and what a data set has drawn, or seeded, in loading is nothing to the training.
        with seeded(fit.seed), contextlib.chdir("."):
            self.method.build(task, run)
            self.method.fit(Images(images, labels), run)
        seconds = time.perf_counter() - started + run.seconds_before
        run.numerics = {"threads": threads(), **run.numerics, "device": run.device, "processor": processor(run.device)}
        if self.worker.jobs > 1:
            run.numerics["jobs"] = self.worker.jobs
        kept = KeptFit(
            fit=fit.model_dump(mode="json"),
            task=asdict(task),
            digests=digests,
            seconds=seconds,
            images_per_second=per_second(len(images) * self.epochs, seconds),
            peak_memory_mib=peak.mib,
            diagnostics=run.notes,
            numerics=run.numerics,
        )
        state = self.method.state()
        if state is not None:
            self.worker.store.fits.keep(fit.id, kept, state)
            self.forget_checkpoints()  # else they are all that is left of the training, until all is scored
        return kept

    def _epoch(self, epoch: int, epochs: int, loss: float) -> None:
        self.epochs = max(self.epochs, epoch)
        self.worker.reporter.epoch(self.fit, epoch, epochs, loss)

    def forget_checkpoints(self) -> None:
        """Also those of other versions of the method or the data."""
        for folder in self.checkpoints.parent.glob(f"{self.fit.id}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _another(self, name: str, images: Tensor) -> Method:
        """See `Run.fitted`."""
        cls = self.worker.plugins.get("method", name)
        require_named(self.worker.plugins, name, self.fit.params)
        slot = self.run.next_checkpoint()
        own = {"checkpoints": slot and slot.with_suffix(""), "trainings": 0}
        method, run = fit_another(cls, images, self.run, recipe=recipe_of_fit(self.fit.recipe, name), **own)
        self.run.seconds_before = run.seconds_before
        return method


class _Scoring:
    """A fitted method's evaluations, on test images that they share."""

    def __init__(self, fitting: _Fitting, test: TestImages):
        self.worker, self.fit, self.dataset = fitting.worker, fitting.fit, fitting.dataset
        self.method, self.run, self.about = fitting.method, fitting.run, fitting.about
        self.test = test
        self.scored: dict[str, tuple[dict[str, np.ndarray], float]] = {}
        self.knn_accuracies: dict[int, float] = {}

    def evaluate(self, evaluation: Evaluation) -> Record:
        """Score one evaluation and record it, as failed if the scores are not what a method promises."""
        try:
            scores, seconds = self._score(evaluation)
            normal, anomaly = self.test.places(evaluation.normal), self.test.places(evaluation.anomaly)
            record = self.worker.record(
                evaluation,
                status="ok",
                scores={name: measure(values[normal], values[anomaly]) for name, values in scores.items()},
                metrics=added_metrics(
                    names_of("metric", evaluation.digests), scores, normal, anomaly, self.worker.plugins
                ),
                accuracy=self._accuracy(),
                knn_accuracy=self._knn_accuracy(evaluation),
                n_normal=len(normal),
                n_anomaly=len(anomaly),
                fit_seconds=round(self.about.seconds, 3),
                score_seconds=round(seconds, 3),
                n_train=self.about.task["n_images"],
                train_images_per_second=self.about.images_per_second,
                score_images_per_second=per_second(len(self.test.images), seconds),
                peak_memory_mib=self.about.peak_memory_mib,
                diagnostics=self.run.notes,
                numerics=self.run.numerics,
            )
            parts = {"normal": normal, "anomaly": anomaly}
            arrays = {f"{p}.{name}": compact(values[at]) for p, at in parts.items() for name, values in scores.items()}
            record = self.worker.store.write(record, arrays)
            self.worker.reporter.evaluated(evaluation, record)
            return record
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if concerns_every_fit(error):
                raise
            return self.worker.fail(evaluation, error)

    def _score(self, evaluation: Evaluation) -> tuple[dict[str, np.ndarray], float]:
        """Scores of every test image, and seconds. Evaluations share them; other scoring parameters ask for more."""
        added = names_of("score", evaluation.digests)
        key = repr([sorted(evaluation.scoring.items()), added])
        if key not in self.scored:
            self.worker.reporter.scoring(self.fit)
            self.method.params = self.run.params = type(self.method.params)(**evaluation.params)
            started = time.perf_counter()
            with seeded(self.fit.seed), contextlib.chdir("."):
                scores = checked_scores(self.method, self.test.images)
                scores |= added_scores(added, self.method, self.test.images, self.run, self.worker.plugins)
            self.scored[key] = scores, time.perf_counter() - started
        return self.scored[key]

    def _accuracy(self) -> float | None:
        """The share of normal test images whose sub-cluster is predicted right. Only the harness sees these labels."""
        predict = getattr(self.method, "predict", None)
        if predict is None or not self.fit.labels:
            return None
        places = self.test.places(self.fit.normal)
        truth = cluster_index(self.fit.clusters, self.test.classes)[self.test.labels[places]]
        return round((predict(self.test.images[places]) == truth).double().mean().item(), 6)

    def _knn_accuracy(self, evaluation: Evaluation) -> dict[str, float]:
        """The same for the classes of the K nearest training images: the K that the method scores by, and 200."""
        if not hasattr(self.method, "embed"):
            return {}
        from harness.kit.neighbours import knn_accuracy

        wanted = sorted({evaluation.scoring.get("k", NEIGHBOURS), NEIGHBOURS})
        for k in wanted:
            if k not in self.knn_accuracies and k <= len(self._embedded[0]):
                self.knn_accuracies[k] = round(knn_accuracy(*self._embedded, k), 6)
        return {str(k): self.knn_accuracies[k] for k in wanted if k in self.knn_accuracies}

    @cached_property
    def _embedded(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The training images and their classes, the normal test images and theirs."""
        images, labels = self.dataset.load("train", self.fit.normal)
        places = self.test.places(self.fit.normal)
        truth = cluster_index([[name] for name in self.fit.normal], self.test.classes)[self.test.labels[places]]
        return self.method.embed(images), labels, self.method.embed(self.test.images[places]), truth


@dataclass
class TestImages:
    """The test images of some classes."""

    classes: tuple[str, ...]
    images: Tensor
    labels: Tensor

    @classmethod
    def load(cls, dataset: Dataset, classes: tuple[str, ...]) -> TestImages:
        return cls(classes, *dataset.load("test", classes))

    def places(self, classes: Sequence[str]) -> np.ndarray:
        """The indices of the images of some of the classes: class by class, each in the data set's order."""
        import numpy as np

        labels = self.labels.numpy()
        return np.concatenate([np.flatnonzero(labels == self.classes.index(name)) for name in classes])


def per_second(images: int, seconds: float) -> float:
    """To four digits."""
    return float(f"{images / max(seconds, 1e-9):.4g}")
