"""Detectors of pytorch-ood (extra: pytorch-ood), on the network of the sub-clusters."""

from pydantic import Field

import harness


class PyTorchOOD(harness.Method):
    """Detectors of pytorch-ood (Kirchheim et al. 2022) that are fitted to a classifier of the normal sub-clusters.

    The classifier is trained as that of `subcluster`. On its logits: KL-Matching (Hendrycks et al. 2022). On the
    features below its head: Mahalanobis (Lee et al. 2018), ViM (Wang et al. 2022), KNN (Sun et al. 2022).
    """

    name = "pytorch-ood"
    scores = ("KLMatching", "Mahalanobis", "ViM", "KNN")
    uses_labels = True
    scoring = ("k", "dimensions")

    class Params(harness.Params):
        k: int = Field(50, ge=1, description="KNN: which neighbour's distance; fewer where there are fewer images")
        dimensions: int = Field(0, ge=0, description="ViM: of the principal subspace; 0: half of the features")

    @classmethod
    def skip(cls, n_clusters, params):
        if n_clusters is None:
            return "labels are withheld"
        return "needs at least two sub-clusters" if n_clusters < 2 else None

    def build(self, task, run):
        self.run = run
        self.network = harness.kit.backbone(task, run, outputs=task.n_clusters)

    def fit(self, train, run):
        _require()
        kit, labels = harness.kit, train.labels.to(run.device)
        kit.train_network(
            self.network, train.images, lambda x, index: kit.cross_entropy(self.network(x), labels[index]), run
        )
        self.features, self.labels = self._features(train.images), train.labels

    def score(self, images):
        import torch

        features = self._features(images)
        logits = self._head(features)
        with torch.no_grad():
            return {
                name: detector.predict_logits(logits) if name == "KLMatching" else detector.predict_features(features)
                for name, detector in self._detectors().items()
            }

    def logits(self, images):
        """(M, K) float64."""
        return self._head(self._features(images))

    def _features(self, images):
        """(M, D) float32, on the CPU."""
        return harness.kit.in_batches(images, self.run, lambda x: {"features": self.network.features(x)})["features"]

    def _head(self, features):
        head = self.network.head
        return features.double() @ head.weight.detach().cpu().double().T + head.bias.detach().cpu().double()

    def _detectors(self):
        """Fitted anew from what is kept of the training images, so that nothing but tensors has to be kept."""
        from pytorch_ood.detector import KNN, KLMatching, ViM

        features, labels, head = self.features.cpu(), self.labels.cpu(), self.network.head
        dimensions = self.params.dimensions or features.shape[1] // 2
        return {
            "KLMatching": KLMatching(None).fit_logits(self._head(features), labels),
            "Mahalanobis": _mahalanobis(features, labels),
            "ViM": ViM(None, dimensions, head.weight.cpu(), head.bias.cpu()).fit_features(features, labels),
            "KNN": KNN(None, min(self.params.k, len(features))).fit_features(features, labels),
        }


def _mahalanobis(features, labels):
    """pytorch-ood's, fitted in float64: in its float32 nothing is left of the ridge of 1e-6 beside the scatter of the
    features, and where these do not span all dimensions, as those of few images, distances become negative."""
    import torch
    from pytorch_ood.detector import Mahalanobis

    detector, features = Mahalanobis(None), features.double()
    detector.mu = torch.stack([features[labels == label].mean(0) for label in labels.unique()])
    centred = features - detector.mu[labels]
    scatter = centred.T @ centred + 1e-6 * torch.eye(centred.shape[1], dtype=torch.float64)
    detector.precision = torch.cholesky_inverse(torch.linalg.cholesky(scatter))
    return detector


def _require():
    try:
        import pytorch_ood  # noqa: F401
    except ImportError:
        raise harness.HarnessError(
            "pytorch-ood: not installed; `uv sync --extra pytorch-ood` or `uv pip install pytorch-ood`"
        ) from None


@harness.hookimpl
def register_methods(register):
    register(PyTorchOOD)
