"""What fitting a method takes, in a run as in a contract test: its task, its labels, and a method within another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.method import Images, Method, Run, Task

if TYPE_CHECKING:
    from torch import Tensor


def switch_to_scoring(method: Method) -> None:
    """Take the modules among a method's attributes out of training mode."""
    for value in vars(method).values():
        if hasattr(value, "eval") and hasattr(value, "train"):
            value.eval()


def fit_another(cls: type[Method], images: Tensor, run: Run, **own: Any) -> tuple[Method, Run]:
    """A method with default parameters, fitted without labels: see `Run.fitted`; `own` is what its run has of its own.
    What it notes is not recorded."""
    method = cls(cls.Params())
    run = replace(run, params=method.params, notes={}, numerics={}, **own)
    method.build(describe(images, None), run)
    method.fit(Images(images), run)
    switch_to_scoring(method)
    return method, run


def describe(images: Tensor, n_clusters: int | None) -> Task:
    """What a method may know of its training images in advance."""
    import torch

    n, channels, height, width = images.shape
    level = torch.arange(256, dtype=torch.float64) / 255
    # A histogram says all there is to say of uint8 pixels, without a float copy of the images.
    share = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(channels)]) / (
        n * height * width
    )
    mean = share.double() @ level
    std = (share.double() @ level.square() - mean.square()).clamp(min=1 / 255**2).sqrt()
    return Task(channels, height, width, n, n_clusters, tuple(mean.tolist()), tuple(std.tolist()))


def cluster_index(clusters: Sequence[Sequence[str]], classes: Sequence[str]) -> Tensor:
    """(len(classes),) int64: the cluster of each class, -1 for a class in none."""
    import torch

    owner = {name: k for k, cluster in enumerate(clusters) for name in cluster}
    return torch.tensor([owner.get(name, -1) for name in classes])
