"""Toy images for the contract: three figures that any method should tell from noise, in any size and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from harness.method import Images

RECIPE = Recipe(
    network="two-conv-pooled", optimizer="adam", lr=3e-3, weight_decay=0, epochs=8, batch=16, precision="float32"
)
TEST = 16
"""Normal test images, and as many anomalies."""


@dataclass(frozen=True)
class Situation:
    """What a method may meet: how many sub-clusters, whether it sees them, and what the images are like."""

    clusters: int = 3
    labels: bool = True
    channels: int = 1
    height: int = 12
    width: int = 12
    images: int = 48
    epochs: int = 1
    """These are enough for what is not about how well a method does."""

    def __str__(self) -> str:
        kind = {1: "grey", 3: "colour"}[self.channels]
        seen = "" if self.labels else ", labels withheld"
        return f"{self.clusters} sub-cluster(s){seen}, {kind} images of {self.height} x {self.width}"

    @property
    def visible(self) -> int | None:
        """The number of sub-clusters that a method is told."""
        return self.clusters if self.labels else None

    @property
    def recipe(self) -> Recipe:
        return RECIPE.model_copy(update={"epochs": self.epochs})

    def train(self) -> Images:
        from harness.method import Images

        images, labels = self._normal(self.images, seed=0)
        return Images(images, labels if self.labels else None)

    def normal(self) -> Tensor:
        """(M, C, H, W) uint8 normal test images."""
        return self._normal(TEST, seed=1)[0]

    def anomalies(self) -> Tensor:
        """(M, C, H, W) uint8: noise, as bright as the normal images, without any figure."""
        import torch

        normal, random = self.normal(), torch.Generator().manual_seed(3)
        order = torch.rand(normal[0].numel() * len(normal), generator=random).reshape(len(normal), -1).argsort(1)
        return normal.flatten(1).gather(1, order).reshape(normal.shape)

    def test(self) -> Tensor:
        """The normal test images, and then as many anomalies."""
        import torch

        return torch.cat([self.normal(), self.anomalies()])

    def _normal(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Images of each sub-cluster in turn, and the sub-cluster of each."""
        import torch

        random = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % self.clusters
        figures = torch.stack([_figure(k, self.height, self.width) for k in range(self.clusters)])[labels]
        # Each figure in a brightness of its own, and in colour if there is any, before a dark ground.
        bright = 140 + 100 * torch.rand(len(labels), self.channels, 1, 1, generator=random)
        noise = torch.randint(40, (len(labels), self.channels, self.height, self.width), generator=random)
        return (figures[:, None] * bright * 0.8 + noise).round().to(torch.uint8), labels


def _figure(k: int, height: int, width: int) -> Tensor:
    """(H, W) float: a figure that fills a corner and looks different when it is turned or shifted."""
    import torch

    figure = torch.zeros(height, width)
    if k == 0:  # an L
        figure[1 : height - 1, 1:3] = 1
        figure[height - 3 : height - 1, 1 : width // 2] = 1
    elif k == 1:  # a T that lies at the top
        figure[1:3, 1 : width - 1] = 1
        figure[1 : height // 2, width // 2 : width // 2 + 2] = 1
    else:  # a wedge, and for ever more sub-clusters smaller and smaller ones
        figure = (torch.arange(height)[:, None] / height + torch.arange(width) / width < 1.4 / k).float()
    return figure
