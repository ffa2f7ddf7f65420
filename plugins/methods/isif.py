"""ISIF: an embedding in which two views of one image are close and different images spread out, and its neighbours."""

import math
from typing import Literal

from pydantic import Field

import harness

DIMENSIONS = 128


class ISIF(harness.Method):
    """Invariant and spreading instance feature (Ye et al. 2019), scored by the distance of the K nearest neighbours.

    The neighbours are sought among the embeddings of the normal training images. No label is used. On unit vectors the
    K-th neighbour's Cosine and Euclidean rank alike; only their means over K neighbours differ.
    """

    name = "isif"
    scores = ("Cosine", "Euclidean")
    scoring = ("k", "aggregate")

    class Params(harness.Params):
        temperature: float = Field(0.1, gt=0, description="divides the cosines in the loss")
        negative_weight: float = Field(1.0, gt=0, description="how much the other images of the batch count")
        crop_scale: float = Field(0.2, gt=0, le=1, description="smallest share of the image's area that a view shows")
        k: int = Field(3, ge=1, description="neighbours; no more than there are training images")
        aggregate: Literal["mean", "kth"] = Field(
            "mean", description="mean: over the distances of the K neighbours; kth: that of the K-th alone"
        )

    def build(self, task, run):
        self.run = run
        self.network = harness.kit.backbone(task, run, outputs=DIMENSIONS)

    def fit(self, train, run):
        import torch
        import torch.nn.functional as F

        params = self.params

        def loss(images, index):
            views = torch.cat([self._view(images), self._view(images)])
            features = F.normalize(self.network(views), dim=1)
            return instance_loss(features, params.temperature, params.negative_weight)

        harness.kit.train_network(self.network, train.images, loss, run)
        self.gallery = self.embed(train.images)

    def embed(self, images):
        """(M, C, H, W) uint8 to (M, 128) float32 unit vectors, on the CPU."""
        import torch.nn.functional as F

        return harness.kit.in_batches(images, self.run, lambda x: {"embedding": F.normalize(self.network(x), dim=1)})[
            "embedding"
        ]

    def score(self, images):
        k, aggregate, embedded = self.params.k, self.params.aggregate, self.embed(images)
        return {
            name: harness.kit.knn_anomaly(self.gallery, embedded, k, name.lower(), aggregate) for name in self.scores
        }

    def _view(self, x):
        """One random augmentation of each image; what is grey has no colours to change, and is not mirrored."""
        kit, colour = harness.kit, x.shape[1] > 1
        x = kit.random_resized_crop(x, x.shape[-1], scale=(self.params.crop_scale, 1.0))
        if colour:
            x = kit.random_gray(x, 0.2)
        x = kit.color_jitter(x, 0.4, 0.4, 0.4, 0.4)
        return kit.random_flip(x) if colour else x


def instance_loss(features, temperature, negative_weight):
    """Ye et al. 2019, eq. 6: each view is recognised as its image, and as no other image of the batch.

    Args:
        features: (2B, D) unit vectors, first one view of each of B images, then the other view of each.

    Returns:
        the loss, and the share of views whose nearest in the batch is the other view of their image.
    """
    import torch

    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        n = len(features)
        partner = torch.arange(n, device=features.device).roll(n // 2)
        own = torch.eye(n, dtype=torch.bool, device=features.device)
        other_view = own[partner]
        # As in the authors' code, only the first factor of each product is trained.
        logits = (features @ features.detach().T / temperature).masked_fill(own, -torch.inf)
        # Negatives that count more do so in the denominator, too.
        total = (logits + math.log(negative_weight) * ~other_view).logsumexp(1, keepdim=True)
        log_p = logits - total
        # What is left beside a probability that rounds to 1 would have an infinite logarithm.
        log_rest = (-log_p.exp().clamp(max=1 - 1e-6)).log1p().masked_fill(own | other_view, 0)
        loss = -(log_p[other_view] + negative_weight * log_rest.sum(1)).mean()
        return loss, (logits.argmax(1) == partner).float().mean()


@harness.hookimpl
def register_methods(register):
    register(ISIF)
