"""Exact nearest neighbours and k-means, through FAISS.

Vectors are (N, D), of any float type and on any device; the search runs on the CPU. All results are on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import HarnessError

Metric = Literal["cosine", "euclidean"]

SPARE = 8
"""So many neighbours more are searched than are asked for, since the search tells near ties apart only roughly."""


QUERIES, GALLERY = 1024, 4096
"""How many queries and gallery vectors FAISS multiplies at a time: their products stay in the cache."""

OPENBLAS_CORES = {"AVX2": "Haswell", "AVX512": "SkylakeX"}
"""What OpenBLAS calls the processors that torch tells apart by their widest instructions."""


def nearest(gallery: Tensor, queries: Tensor, k: int, metric: Metric) -> tuple[Tensor, Tensor]:
    """The k nearest gallery vectors of each query.

    FAISS (Douze et al. 2024, "The Faiss library") finds them in float32 by way of inner products, which leaves
    nothing of the distance of near duplicates: the distances of what it finds are measured again, by differences, and
    where that may have left out a nearer one, it is sought again in float64.

    Args:
        gallery: (N, D).
        queries: (M, D).
        metric: `euclidean`, not squared; or `cosine`, 1 minus the cosine of the angle.

    Returns:
        distances (M, k) float64, ascending, and indices (M, k) int64 into the gallery.

    Raises:
        HarnessError: k is not in 1 .. N, a vector is not finite, or has no direction for `cosine`.
    """
    if not 1 <= k <= len(gallery):
        raise HarnessError(f"k = {k} nearest neighbours of {len(gallery)} vectors: choose k from 1 to {len(gallery)}")
    if metric not in ("cosine", "euclidean"):
        raise HarnessError(f"metric {metric!r}: no such metric; known: cosine, euclidean")
    gallery, queries = _prepared(gallery, metric), _prepared(queries, metric)
    candidates, beyond = _candidates(gallery, queries, min(k + SPARE, len(gallery)))
    squared, indices = _nearest_of(gallery, queries, candidates, k)
    doubtful = squared[:, -1] > beyond(squared[:, -1])
    if doubtful.any():
        candidates = _candidates_in_float64(gallery, queries[doubtful], candidates.shape[1])
        squared[doubtful], indices[doubtful] = _nearest_of(gallery, queries[doubtful], candidates, k)
    squared = squared.double()
    # Of unit vectors, |a - b|^2 = 2 - 2 cos: nothing cancels, and the order is that of `euclidean`.
    return (squared / 2 if metric == "cosine" else squared.sqrt()), indices


def knn_anomaly(
    gallery: Tensor, queries: Tensor, k: int, metric: Metric, aggregate: Literal["mean", "kth"] = "mean"
) -> Tensor:
    """Anomaly score: how far the k nearest gallery vectors are. Higher = more anomalous.

    Args:
        aggregate: `mean` over the k distances, or the distance of the `kth` neighbour alone.

    Returns:
        (M,) float64.
    """
    if aggregate not in ("mean", "kth"):
        raise HarnessError(f"aggregate {aggregate!r}: no such rule; known: mean, kth")
    distances, _ = nearest(gallery, queries, k, metric)
    return distances.mean(1) if aggregate == "mean" else distances[:, -1]


def knn_accuracy(
    gallery: Tensor, gallery_labels: Tensor, queries: Tensor, query_labels: Tensor, k: int, temperature: float = 0.1
) -> float:
    """The share of queries whose label wins the vote of the k nearest gallery vectors, each weighing exp(cos / T).

    Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".

    Args:
        gallery_labels, query_labels: (N,) and (M,) int64 from 0.
    """
    distances, indices = nearest(gallery, queries, k, "cosine")
    # Relative to the nearest one, so that no temperature overflows.
    weights = ((distances[:, :1] - distances) / temperature).exp()
    gallery_labels, query_labels = gallery_labels.cpu(), query_labels.cpu()
    votes = torch.zeros(len(queries), int(gallery_labels.max()) + 1, dtype=torch.float64)
    votes.scatter_add_(1, gallery_labels[indices], weights)
    return (votes.argmax(1) == query_labels).double().mean().item()


def kmeans(vectors: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """k-means clustering in Euclidean space: the best of five random starts, the same for the same seed and processor.

    Returns:
        assignments (N,) int64 in [0, k), and centroids (k, D) float32. A cluster can be empty only where there are
        fewer than k distinct vectors.

    Raises:
        HarnessError: k is not in 1 .. N, or a vector is not finite.
    """
    if not 1 <= k <= len(vectors):
        raise HarnessError(f"k-means of {len(vectors)} vectors into {k} clusters: choose from 1 to {len(vectors)}")
    vectors = _prepared(vectors, "euclidean")
    faiss = _faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    # By default FAISS samples 256 vectors a cluster, and complains of fewer than 39.
    every = {"min_points_per_centroid": 1, "max_points_per_centroid": len(vectors)}
    clustering = faiss.Kmeans(vectors.shape[1], k, niter=50, nredo=5, seed=seed % 2**31, **every)
    clustering.train(vectors.numpy())
    centroids = torch.from_numpy(clustering.centroids.copy())
    return nearest(centroids, vectors, 1, "euclidean")[1].squeeze(1), centroids


@cache
def _faiss() -> ModuleType:
    """FAISS, with a matrix product that makes use of this processor.

    The OpenBLAS in its wheels (0.3.15) takes a processor that it has not heard of for one of 2004, at a third of the
    speed. It reads from the environment what it runs on, once, as it is loaded: who has loaded it before has chosen,
    and a user's own `OPENBLAS_CORETYPE` stands. A FAISS with another BLAS takes no notice.
    """
    name, core = "OPENBLAS_CORETYPE", OPENBLAS_CORES.get(torch.backends.cpu.get_cpu_capability())
    ours = core is not None and name not in os.environ
    if ours:
        os.environ[name] = core
    try:
        import faiss
    finally:
        if ours:
            os.environ.pop(name, None)
    return faiss


def _prepared(vectors: Tensor, metric: Metric) -> Tensor:
    """On the CPU, float32, and of unit length for `cosine`."""
    vectors = vectors.detach().cpu()
    if not vectors.float().square().sum(1).isfinite().all():
        raise HarnessError("nearest neighbours: some vectors are not finite or too long; see whether training diverged")
    if metric == "cosine":
        if not vectors.any(1).all():
            raise HarnessError("nearest neighbours: a vector of zeros has no direction; use the euclidean metric")
        vectors = F.normalize(vectors.double(), dim=1, eps=0)
    return vectors.float().contiguous()


def _candidates(gallery: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The k nearest in Euclidean distance, up to the rounding of inner products in float32.

    Returns:
        indices (M, k) int64, and a function: for squared distances (M,), how near a vector that was left out can be, if
        it is nearer than that.
    """
    faiss = _faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_query_bs = QUERIES
    faiss.cvar.distance_compute_blas_database_bs = GALLERY
    # |q - g|^2 = |q|^2 - 2 (q g - |g|^2 / 2): with one more coordinate the largest products are the nearest vectors,
    # which spares FAISS a pass over all distances. Around the gallery's middle the least is lost to rounding.
    middle = gallery.mean(0, dtype=torch.float64).float()
    around, asked = gallery - middle, queries - middle
    index = faiss.IndexFlatIP(gallery.shape[1] + 1)
    index.add(torch.cat([around, around.square().sum(1, keepdim=True) / -2], 1).numpy())
    products, indices = map(torch.from_numpy, index.search(F.pad(asked, (0, 1), value=1.0).numpy(), k))
    lengths, longest = asked.norm(dim=1), around.norm(dim=1).max()

    def beyond(squared: Tensor) -> Tensor:
        if k == len(gallery):
            return torch.full_like(lengths, torch.inf)
        # A product of D terms is off by D units in the last place at most, of the longest vector that can be so near.
        length = (lengths + squared.sqrt()).clamp(max=longest)
        rounding = 2 * torch.finfo(torch.float32).eps * gallery.shape[1] * length * (lengths + length)
        return (lengths.square() - 2 * products[:, -1] - rounding).clamp(min=0)

    return indices, beyond


def _candidates_in_float64(gallery: Tensor, queries: Tensor, k: int) -> Tensor:
    """Likewise, by products whose rounding is less than that of the vectors: by torch, for FAISS has float32 alone."""
    middle = gallery.mean(0, dtype=torch.float64)
    around = gallery.double() - middle
    half = around.square().sum(1) / 2
    parts = queries.split(max(QUERIES * GALLERY // max(gallery.shape), 1))
    return torch.cat([((part.double() - middle) @ around.T - half).topk(k).indices for part in parts])


def _nearest_of(gallery: Tensor, queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each query's candidates (M, K): squared distances (M, k) float32, ascending, and indices.

    The distances are measured by differences: by FAISS, since with torch's gathers it took as long as the search.
    """
    faiss = _faiss()
    squared = torch.empty(candidates.shape, dtype=torch.float32)
    index = faiss.IndexFlatL2(gallery.shape[1])
    index.add(gallery.numpy())
    x, distances, places = (faiss.swig_ptr(tensor.numpy()) for tensor in (queries, squared, candidates))
    index.compute_distance_subset(len(queries), x, candidates.shape[1], distances, places)
    squared, order = squared.sort(dim=1, stable=True)
    return squared[:, :k].clone(), candidates.gather(1, order[:, :k])
