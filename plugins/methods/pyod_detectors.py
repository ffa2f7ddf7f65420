"""The detectors of PyOD (extra: pyod), by their names there."""

import importlib
import inspect

from pydantic import Field

import harness

JUDGED_TOGETHER = ("CD", "COF", "COPOD", "ECOD", "LMDD", "LOCI", "ROD", "SOD", "SOS", "VAE")
"""Their scores depend on which other images are scored with an image, or on chance: no two runs would agree."""
ALIKE = 1e-3
"""By this share of the scores' spread an image may score otherwise alone than among others: for rounding."""


class PyOD(harness.Method):
    """A detector of PyOD (Zhao et al. 2019) with its own defaults, on pixels, PCA, or a fitted method's embedding."""

    name = "pyod"
    scores = ("Score",)

    class Params(harness.Params):
        detector: str = Field("KNN", pattern="^[A-Za-z0-9_]+$", description="as PyOD calls it, as in HBOS or IForest")
        on: str = Field("pca", description="pixels, pca, or the name of a method whose embedding is taken, as in isif")
        variance: float = Field(0.95, gt=0, le=1, description="pca: the share of the pixels' variance that is kept")
        limit: int = Field(6000, ge=2, description="at most so many training images")

    @classmethod
    def skip(cls, n_clusters, params):
        return f"{params.detector} scores no image by itself" if params.detector in JUDGED_TOGETHER else None

    def fit(self, train, run):
        self.vectors = harness.kit.Vectors(train.images, run, self.params.on, self.params.variance, self.params.limit)
        detector = _detector(self.params.detector)
        seeded = {"random_state": run.seed} if "random_state" in inspect.signature(detector).parameters else {}
        self.detector = detector(**seeded).fit(self.vectors.train.numpy())

    def score(self, images):
        import torch

        vectors = self.vectors(images).numpy()
        values = self.detector.decision_function(vectors)
        for k in {0, len(values) // 2, len(values) - 1}:
            (alone,) = self.detector.decision_function(vectors[k : k + 1])
            if not abs(alone - values[k]) <= ALIKE * values.std():
                name = self.params.detector
                raise harness.HarnessError(f"pyod.detector={name}: scores an image by those beside it; try another one")
        return {"Score": torch.as_tensor(values, dtype=torch.float64)}


def _detector(name):
    try:
        importlib.import_module("pyod")
    except ImportError:
        raise harness.HarnessError("pyod: not installed; `uv sync --extra pyod` or `uv pip install pyod`") from None
    try:
        return getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)
    except (ImportError, AttributeError):
        raise harness.HarnessError(f"pyod.detector: PyOD has no {name!r} here; try KNN, HBOS or IForest") from None


@harness.hookimpl
def register_methods(register):
    register(PyOD)
