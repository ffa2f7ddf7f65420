"""Images as vectors, for detectors that know no images: pixels, principal components, or a method's embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.method import Run


class Vectors:
    """How normal images become vectors, learnt from them alone.

    Args:
        on: `pixels`, in [0, 1]; `pca`, the principal components of the pixels that keep a share of their variance; or
            the name of a method that embeds, which is trained first, by what the recipe has for it.
        variance: that share.
        limit: at most so many training images are kept, drawn by the run's seed.

    `train` holds the vectors of the training images, (N, D) float64.
    """

    def __init__(self, images: Tensor, run: Run, on: str, variance: float = 0.95, limit: int | None = None):
        self.axes = self.mean = self.method = None
        if on not in ("pixels", "pca"):
            self.method = run.fitted(on, images)
            if not hasattr(self.method, "embed"):
                raise HarnessError(f"the method {on!r} has no embed(); write pixels, pca, or one that has")
        if limit is not None and len(images) > limit:
            images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(run.seed))[:limit]]
            run.note(images_used=limit)
        if on == "pca":
            self.mean, self.axes = principal_axes(_pixels(images), variance)
        self.train = self(images)

    def __call__(self, images: Tensor) -> Tensor:
        """(M, C, H, W) uint8 -> (M, D) float64, on the CPU."""
        if self.method is not None:
            return self.method.embed(images).detach().cpu().double()
        if self.axes is not None:
            return _pixels(images).sub_(self.mean) @ self.axes
        return _pixels(images)


def principal_axes(vectors: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """The mean (D,) of vectors (N, D), and the fewest principal axes (D, K) that keep this share of their variance."""
    mean = vectors.mean(0)
    centred = vectors - mean
    # Of as many products as there are vectors or dimensions, whichever are fewer: photographs have 10^5 of these.
    few = len(vectors) < vectors.shape[1]
    values, axes = torch.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    values, axes = values.flip(0).clamp(min=0), axes.flip(1)
    kept = int((values.cumsum(0) < variance * values.sum()).sum()) + 1
    if few:
        rank = int((values > values[0] * len(values) * torch.finfo(values.dtype).eps).sum())
        kept = max(min(kept, rank), 1)
        axes = torch.nn.functional.normalize(centred.T @ axes[:, :kept], dim=0)
    return mean, axes[:, :kept]


def _pixels(images: Tensor) -> Tensor:
    # In place, here and above: of some thousand photographs a copy has gigabytes.
    return images.flatten(1).double().div_(255)
