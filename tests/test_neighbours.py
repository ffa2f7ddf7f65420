"""Nearest neighbours and k-means, against float64 brute force and scikit-learn."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

from harness import HarnessError
from harness.kit import kmeans, knn_accuracy, knn_anomaly, nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(gallery: torch.Tensor, queries: torch.Tensor, k: int, metric: str) -> np.ndarray:
    """(M, k) by differences in float64, sorted."""
    gallery, queries = gallery.double().numpy(), queries.double().numpy()
    if metric == "cosine":
        return np.sort(cosine_distances(queries, gallery), 1)[:, :k]
    return np.sort(np.linalg.norm(queries[:, None] - gallery, axis=2), 1)[:, :k]


# --- nearest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "m", "k"), [(1, 3, 1), (40, 7, 40), (500, 130, 5), (600, 50, 300)])
def test_distances_are_those_of_brute_force(metric, n, m, k):
    gallery, queries = normal(n, 16) + 0.3, normal(m, 16, seed=1)
    distances, indices = nearest(gallery, queries, k, metric)
    assert distances.shape == indices.shape == (m, k)
    assert distances.dtype == torch.float64
    assert indices.dtype == torch.int64
    np.testing.assert_allclose(distances, brute_force(gallery, queries, k, metric), rtol=1e-5, atol=1e-7)
    pairwise = {"cosine": cosine_distances, "euclidean": euclidean_distances}[metric](
        queries.double(), gallery.double()
    )
    np.testing.assert_allclose(np.take_along_axis(pairwise, indices.numpy(), 1), distances, rtol=1e-5, atol=1e-7)
    assert all(len(set(row.tolist())) == k for row in indices)


def test_near_duplicates_far_from_the_origin_keep_their_distances():
    # Here |a|^2 + |b|^2 - 2ab in float32 is nothing but rounding: 128 * 100 against distances around 0.05.
    centre = normal(1, 128) * 10
    gallery = centre + 0.005 * normal(50, 128, seed=1)
    queries = centre + 0.005 * normal(30, 128, seed=2)
    distances, _ = nearest(gallery, queries, 3, "euclidean")
    np.testing.assert_allclose(distances, brute_force(gallery, queries, 3, "euclidean"), rtol=2e-3)
    found, where = nearest(gallery, gallery, 1, "euclidean")
    assert (found == 0).all()
    assert (where.squeeze(1) == torch.arange(50)).all()


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("k", [3, 100])
def test_neighbours_within_clusters_far_apart_are_found(spread, k):
    """Within a cluster all products are the same but for rounding: by them, any of its vectors is among the nearest."""
    centres = torch.nn.functional.normalize(normal(2, 64), dim=1)
    gallery = torch.cat([centre + spread / 8 * normal(400, 64, seed=1 + n) for n, centre in enumerate(centres)])
    queries = torch.cat([centre + spread / 8 * normal(20, 64, seed=3 + n) for n, centre in enumerate(centres)])
    distances, indices = nearest(gallery, queries, k, "euclidean")
    np.testing.assert_allclose(distances, brute_force(gallery, queries, k, "euclidean"), rtol=1e-5)
    found = (queries[:, None].double() - gallery[indices].double()).norm(dim=2)
    np.testing.assert_allclose(found, distances, rtol=1e-5)


def test_near_duplicates_on_the_sphere():
    gallery = torch.nn.functional.normalize(normal(60, 32), dim=1)
    queries = torch.nn.functional.normalize(gallery + 1e-4 * normal(60, 32, seed=1), dim=1)
    distances, indices = nearest(gallery, queries, 1, "cosine")
    difference = (torch.nn.functional.normalize(gallery.double(), dim=1) - queries.double()).square().sum(1) / 2
    assert (indices.squeeze(1) == torch.arange(60)).all()
    np.testing.assert_allclose(distances.squeeze(1), difference, rtol=5e-3)  # of about 1.6e-7


def test_cosine_does_not_see_lengths():
    gallery, queries = normal(50, 8), normal(20, 8, seed=1)
    lengths = normal(50, 1, seed=2).exp()
    expected, _ = nearest(gallery, queries, 4, "cosine")
    np.testing.assert_allclose(nearest(gallery * lengths, queries * 7, 4, "cosine")[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 11}, "11 nearest neighbours of 10 vectors"),
        ({"k": 0}, "choose k from 1 to 10"),
        ({"metric": "manhattan"}, "known: cosine, euclidean"),
        ({"queries": torch.full((2, 4), math.nan)}, "not finite"),
        ({"queries": torch.full((2, 4), 1e20), "metric": "euclidean"}, "too long"),
        ({"queries": torch.zeros(2, 4)}, "no direction"),
    ],
)
def test_what_cannot_be_asked(change, said):
    given = {"gallery": normal(10, 4), "queries": normal(2, 4), "k": 3, "metric": "cosine"} | change
    with pytest.raises(HarnessError, match=said):
        nearest(**given)


# --- anomaly score ---------------------------------------------------------------------------------------------------


def test_aggregates():
    gallery, queries = normal(100, 8), normal(30, 8, seed=1)
    expected = brute_force(gallery, queries, 6, "euclidean")
    np.testing.assert_allclose(knn_anomaly(gallery, queries, 6, "euclidean", "mean"), expected.mean(1), rtol=1e-5)
    np.testing.assert_allclose(knn_anomaly(gallery, queries, 6, "euclidean", "kth"), expected[:, 5], rtol=1e-5)
    with pytest.raises(HarnessError, match="known: mean, kth"):
        knn_anomaly(gallery, queries, 6, "euclidean", "max")


@pytest.mark.parametrize("k", [1, 3, 50])
def test_on_unit_vectors_the_kth_cosine_and_euclidean_rank_alike(k):
    unit = torch.nn.functional.normalize
    gallery = unit(normal(300, 16) + 1, dim=1)
    queries = unit(torch.cat([normal(200, 16, seed=1) + 1, normal(200, 16, seed=2) + 0.6]), dim=1)
    anomalous = np.arange(400) >= 200
    cosine = knn_anomaly(gallery, queries, k, "cosine", "kth")
    euclidean = knn_anomaly(gallery, queries, k, "euclidean", "kth")
    assert roc_auc_score(anomalous, cosine) == pytest.approx(roc_auc_score(anomalous, euclidean), abs=1e-4)
    np.testing.assert_allclose(cosine, euclidean**2 / 2, rtol=1e-5)
    assert roc_auc_score(anomalous, cosine) > 0.6  # far from the gallery is anomalous


# --- accuracy --------------------------------------------------------------------------------------------------------


def accuracy_by_loops(gallery, labels, queries, truth, k, temperature) -> float:
    right = 0
    for query, label in zip(queries.double().numpy(), truth.tolist(), strict=True):
        rows = gallery.double().numpy()
        cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        votes: dict[int, float] = {}
        for at in np.argsort(-cosines)[:k]:
            votes[int(labels[at])] = votes.get(int(labels[at]), 0) + math.exp(cosines[at] / temperature)
        right += max(votes, key=votes.get) == label
    return right / len(queries)


@pytest.mark.parametrize(("classes", "k", "temperature"), [(2, 20, 0.1), (3, 200, 0.1), (7, 11, 0.5), (3, 200, 0.002)])
def test_accuracy_is_that_of_a_weighted_vote(classes, k, temperature):
    labels, truth = torch.arange(230) % classes, torch.arange(137) % classes
    centres = normal(classes, 6, seed=3)
    gallery, queries = centres[labels] + normal(230, 6), centres[truth] + normal(137, 6, seed=1)
    expected = accuracy_by_loops(gallery, labels, queries, truth, k, temperature)
    assert 0.4 < expected < 1
    assert knn_accuracy(gallery, labels, queries, truth, k, temperature) == pytest.approx(expected, abs=1e-12)


def test_a_close_neighbour_outvotes_two_distant_ones():
    angles = torch.tensor([0.1, 1.0, 1.0])
    gallery = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels, query, truth = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    assert knn_accuracy(gallery, labels, query, truth, k=3) == 1
    assert knn_accuracy(gallery, labels, query, truth, k=3, temperature=10) == 0


# --- k-means ---------------------------------------------------------------------------------------------------------


def blobs(n: int, k: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % k
    return normal(k, 10, seed=5)[labels] * 4 + normal(n, 10) * spread, labels


def test_kmeans_finds_what_is_apart():
    vectors, labels = blobs(1000, 4, 0.5)
    assignments, centroids = kmeans(vectors, 4, seed=0)
    assert assignments.dtype == torch.int64
    assert adjusted_rand_score(labels, assignments) == 1
    # Means of all vectors, not of a sample.
    means = torch.stack([vectors[assignments == k].mean(0) for k in range(4)])
    np.testing.assert_allclose(centroids, means, atol=1e-4)


def test_kmeans_is_as_good_as_scikit_learn():
    vectors, _ = blobs(600, 12, 2.0)
    assignments, centroids = kmeans(vectors, 8, seed=1)
    inertia = (vectors - centroids[assignments]).square().sum().item()
    reference = KMeans(8, n_init=10, random_state=0).fit(vectors.numpy()).inertia_
    assert inertia < 1.03 * reference
    assert assignments.bincount(minlength=8).min() > 0


def test_kmeans_depends_on_its_seed_alone():
    vectors = normal(300, 5)
    torch.manual_seed(1)
    first, centroids = kmeans(vectors, 6, seed=3)
    before = torch.get_rng_state()
    again, _ = kmeans(vectors.clone(), 6, seed=3)
    assert (first == again).all()
    assert (torch.get_rng_state() == before).all()
    other = kmeans(vectors, 6, seed=4)[1]
    assert not torch.equal(other, centroids)


def test_kmeans_needs_as_many_vectors_as_clusters():
    assert sorted(kmeans(normal(5, 3), 5, seed=0)[0].tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(HarnessError, match="5 vectors into 6 clusters"):
        kmeans(normal(5, 3), 6, seed=0)
    with pytest.raises(HarnessError, match="not finite"):
        kmeans(torch.full((5, 3), math.inf), 2, seed=0)


# --- FAISS itself ----------------------------------------------------------------------------------------------------

CORE_OF_FAISS = """
import os, torch
from threadpoolctl import threadpool_info
from harness.kit import nearest
before = dict(os.environ)
nearest(torch.eye(3), torch.eye(3), 1, "euclidean")
assert dict(os.environ) == before
blas = [one for one in threadpool_info() if "faiss_cpu.libs" in one["filepath"] and one["user_api"] == "blas"]
print(*(one["architecture"] for one in blas))
"""


@pytest.mark.parametrize(
    ("environment", "core"),
    [
        ({}, {"AVX2": "Haswell", "AVX512": "SkylakeX"}),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, {"AVX2": "Haswell", "AVX512": "Haswell"}),
        ({"OPENBLAS_CORETYPE": "Nehalem"}, {"AVX2": "Nehalem", "AVX512": "Nehalem"}),
    ],
)
def test_faiss_uses_what_the_processor_can_do(environment, core):
    """Left alone, the OpenBLAS in its wheels takes a processor younger than itself for one without AVX."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in core:
        pytest.skip(f"nothing is said about {capability}")
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | environment
    done = subprocess.run([sys.executable, "-c", CORE_OF_FAISS], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    if not done.stdout.strip():
        pytest.skip("this FAISS brings no OpenBLAS of its own")
    assert done.stdout.strip() == core[capability]
