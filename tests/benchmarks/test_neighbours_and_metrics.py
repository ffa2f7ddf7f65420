"""kNN at the size of CIFAR beside what else there is, and an AUROC with its interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from harness.kit import nearest
from harness.metrics import measure


def torch_product(gallery: torch.Tensor, queries: torch.Tensor, k: int) -> torch.Tensor:
    """(M, k): indices by |a|^2 + |b|^2 - 2 ab and a top-k, so many queries at a time that the memory is bounded."""
    norms = gallery.square().sum(1)
    return torch.cat([(norms - 2 * part @ gallery.T).topk(k, largest=False).indices for part in queries.split(1000)])


@pytest.mark.parametrize("k", [3, 300])
def test_neighbours(beside, k):
    random = torch.Generator().manual_seed(0)
    gallery, queries = (torch.randn(n, 128, generator=random) for n in (50_000, 10_000))
    found = {}

    def ours():
        found["ours"] = nearest(gallery, queries, k, "euclidean")[1]

    def scikit_learn():
        brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery.numpy())
        found["scikit-learn"] = torch.from_numpy(brute.kneighbors(queries.numpy(), return_distance=False))

    def product():
        found["torch"] = torch_product(gallery, queries, k)

    beside(f"{k} neighbours", ours, {"scikit-learn, brute": scikit_learn, "torch, top-k": product}, len(queries))
    for name in ("scikit-learn", "torch"):
        # As sets: neighbours whose distances are equal to seven digits may swap places, at the last one with the next.
        same = [np.isin(a, b).mean() for a, b in zip(found["ours"].numpy(), found[name].numpy(), strict=True)]
        assert np.mean(same) > 0.9999


def test_auroc_with_its_interval(within):
    random = np.random.default_rng(0)
    normal, anomaly = random.normal(size=5000), random.normal(0.5, size=5000)
    within("metrics of 10 000 images", lambda: measure(normal, anomaly), budget=0.1)
