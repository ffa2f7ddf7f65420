"""The scores of a fitted method: asked for, checked, measured and recorded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.dataset import Dataset, loaded
from harness.errors import EndsTheRun
from harness.extras import Failures, added_metrics, added_scores, names_of
from harness.fitting import Fitting, cluster_index, per_second
from harness.method import Method
from harness.metrics import measure
from harness.plan import Evaluation
from harness.records import Record
from harness.reporter import tell_of
from harness.seeding import seeded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CHUNK = 2000
"""Test images handed to a method at a time: bounds the memory, whatever a method makes of them."""
NEIGHBOURS = 200
"""K of the accuracy among K neighbours that every method with an embedding has, where there are as many training
images (Ye et al. 2019)."""


class Scoring:
    """A fitted method's evaluations, on test images that they share."""

    def __init__(self, fitting: Fitting, test: TestImages):
        self.worker, self.fit, self.dataset = fitting.worker, fitting.fit, fitting.dataset
        self.method, self.run, self.about = fitting.method, fitting.run, fitting.about
        self.test = test
        self.outputs: dict[str, Output] = {}

    def evaluate(self, evaluation: Evaluation) -> Record:
        """Score one evaluation and record it, as failed if the scores are not what a method promises.

        Raises:
            Unwritable: the results folder takes no more.
            DeviceLost: something failed, which is recorded, and the GPU answers no more.
        """
        try:
            record = self._record(evaluation)
        except (KeyboardInterrupt, EndsTheRun):
            raise
        except BaseException as error:
            record = self.worker.fail(evaluation, error)
        else:
            tell_of(record, evaluation, self.worker.reporter)
        if record.reason:
            self.worker.require_device(self.fit)
        return record

    def _record(self, evaluation: Evaluation) -> Record:
        output = self._output(evaluation)
        scores = output.scores
        normal, anomaly = self.test.places(evaluation.normal), self.test.places(evaluation.anomaly)
        wanted = names_of("metric", evaluation.digests)
        metrics, failed = added_metrics(wanted, scores, normal, anomaly, self.worker.plugins)
        failures = Failures(output.failures | failed)
        self.worker.keep_traceback(self.fit, *failures.values())
        record = self.worker.record(
            replace(evaluation, digests={k: v for k, v in evaluation.digests.items() if k not in failures}),
            device=self.run.device,
            status="ok",
            reason=str(failures),
            scores={name: measure(values[normal], values[anomaly]) for name, values in scores.items()},
            metrics=metrics,
            accuracy=output.accuracy,
            knn_accuracy=output.knn_accuracy,
            n_normal=len(normal),
            n_anomaly=len(anomaly),
            fit_seconds=round(self.about.seconds, 3),
            score_seconds=round(output.seconds, 3),
            n_train=self.about.task["n_images"],
            train_images_per_second=self.about.images_per_second,
            score_images_per_second=per_second(len(self.test.images), output.seconds),
            peak_memory_mib=self.about.peak_memory_mib,
            diagnostics=self.run.notes,
            numerics=self.run.numerics,
            trained_with=self.about.provenance,
        )
        parts = {"normal": normal, "anomaly": anomaly}
        arrays = {f"{p}.{name}": compact(values[at]) for p, at in parts.items() for name, values in scores.items()}
        return self.worker.store.write(record, arrays)

    def _output(self, evaluation: Evaluation) -> Output:
        """Evaluations share what a method makes of the test images; other scoring parameters ask for more."""
        added = names_of("score", evaluation.digests)
        key = repr([sorted(evaluation.scoring.items()), added])
        if key not in self.outputs:
            self.worker.reporter.scoring(self.fit)
            self.method.params = self.run.params = type(self.method.params)(**evaluation.params)
            started = time.perf_counter()
            with self._call():
                scores = checked_scores(self.method, self.test.images)
                more, failures = added_scores(added, self.method, self.test.images, self.run, self.worker.plugins)
            output = Output(scores | more, time.perf_counter() - started, failures)
            with failures.of("accuracy"):
                output.accuracy = self._accuracy()
            with failures.of("kNN accuracy"):
                output.knn_accuracy = self._knn_accuracy(evaluation)
            self.outputs[key] = output
        return self.outputs[key]

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Around each call of the method: its draws depend on the seed alone, and it may go elsewhere."""
        with seeded(self.fit.seed), contextlib.chdir("."):
            yield

    def _accuracy(self) -> float | None:
        """The share of normal test images whose sub-cluster is predicted right. Only the harness sees these labels."""
        predict = getattr(self.method, "predict", None)
        if predict is None or not self.fit.labels:
            return None
        import torch

        places = self.test.places(self.fit.normal)
        truth = cluster_index(self.fit.clusters, self.test.classes)[self.test.labels[places]]
        with self._call():
            predicted = torch.as_tensor(predict(self.test.images[places]))
        shape = tuple(predicted.shape)
        if shape != truth.shape:
            raise ValueError(f"predict() returned the shape {shape} for {len(truth)} images; want ({len(truth)},)")
        return round((predicted.cpu() == truth).double().mean().item(), 6)

    def _knn_accuracy(self, evaluation: Evaluation) -> dict[str, float]:
        """The same for the classes of the K nearest training images, by K: 200, and the `k` that the method scores
        by, if it has one."""
        if not hasattr(self.method, "embed"):
            return {}
        import torch

        from harness.kit.neighbours import knn_accuracy

        images, labels = loaded(self.dataset, "train", self.fit.normal)
        places = self.test.places(self.fit.normal)
        truth = cluster_index([[name] for name in self.fit.normal], self.test.classes)[self.test.labels[places]]
        with self._call():
            near = torch.as_tensor(self.method.embed(images))
        with self._call():
            queries = torch.as_tensor(self.method.embed(self.test.images[places]))
        own = evaluation.scoring.get("k")
        wanted = {NEIGHBOURS, own} if type(own) is int else {NEIGHBOURS}
        possible = (k for k in sorted(wanted) if 0 < k <= len(near))
        return {str(k): round(knn_accuracy(near, labels, queries, truth, k), 6) for k in possible}


@dataclass
class Output:
    """What a fitted method makes of the test images."""

    scores: dict[str, np.ndarray]
    seconds: float
    """That it took to score them."""
    failures: Failures
    """Of what there is beside the method's own scores: those that were asked for, and accuracies."""
    accuracy: float | None = None
    knn_accuracy: dict[str, float] = field(default_factory=dict)


@dataclass
class TestImages:
    """The test images of some classes."""

    classes: tuple[str, ...]
    images: Tensor
    labels: Tensor

    @classmethod
    def load(cls, dataset: Dataset, classes: tuple[str, ...]) -> TestImages:
        return cls(classes, *loaded(dataset, "test", classes))

    def places(self, classes: Sequence[str]) -> np.ndarray:
        """The indices of the images of some of the classes: class by class, each in the data set's order."""
        import numpy as np

        labels = self.labels.numpy()
        return np.concatenate([np.flatnonzero(labels == self.classes.index(name)) for name in classes])


def checked_scores(method: Method, images: Tensor) -> dict[str, np.ndarray]:
    """A method's scores of test images, each (M,) float64, seen to be what its contract promises.

    Raises:
        ValueError: a score is missing, of the wrong shape, or not finite.
    """
    import numpy as np
    import torch

    parts: dict[str, list[np.ndarray]] = {name: [] for name in method.scores}
    for chunk in images.split(CHUNK):
        given = method.score(chunk.clone())  # it may write into what it is given
        if not isinstance(given, Mapping) or set(given) != set(method.scores):
            names = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise ValueError(f"score() returned {names}, but the method declares {', '.join(method.scores)}")
        for name, values in given.items():
            values = torch.as_tensor(values).detach().cpu().double().numpy()
            if values.shape != (len(chunk),):
                raise ValueError(f"score {name} has shape {values.shape} for {len(chunk)} images; want ({len(chunk)},)")
            if not np.isfinite(values).all():
                raise ValueError(f"score {name} is not finite for {int((~np.isfinite(values)).sum())} test image(s)")
            parts[name].append(values)
    return {name: _storable(np.concatenate(values)) for name, values in parts.items()}


def compact(values: np.ndarray) -> np.ndarray:
    """float32 where that keeps the values as they are, else float64."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if (narrow == values).all() else values


def _storable(values: np.ndarray) -> np.ndarray:
    """Rounded to float32 where this keeps every order and tie, so that the records stay small; else untouched."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    distinct = len(np.unique(narrow)) == len(np.unique(values)) and np.isfinite(narrow).all()
    return narrow.astype(np.float64) if distinct else values
