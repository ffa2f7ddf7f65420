"""Real data of MNIST's shape without a download: scikit-learn's digits, enlarged to 28 x 28 pixels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from harness.fitting import task_of
from harness.method import Images, Method, Run
from harness.plugins import Plugins
from harness.recipe import Recipe, read_recipe

NORMAL, ANOMALY = tuple("01234"), tuple("56789")
PLUGINS = Plugins()


@cache
def digits(split: str, classes: tuple[str, ...], n: int) -> tuple[Tensor, Tensor]:
    """n images (n, 1, 28, 28) uint8 of some classes, repeated as often as it takes, and their labels (n,)."""
    images, labels = PLUGINS.dataset("digits", Path()).load(split, classes)
    large = torch.nn.functional.interpolate(images.float(), size=(28, 28), mode="bilinear").round().to(torch.uint8)
    places = torch.arange(n) % len(large)
    return large[places], labels[places]


def recipe_of(method: str, **changes) -> Recipe:
    """The recipe `fast` of MNIST for a method."""
    return read_recipe("mnist", "fast", method, changes)[1]


def untrained(
    name: str, images: Tensor, seed: int, recipe: Recipe, n_clusters: int | None = None, device: str = "cpu", **of_run
) -> tuple[Method, Run]:
    """A bundled method, built and seeded as the harness does it; `of_run` are further values of its run."""
    cls = PLUGINS.get("method", name)
    method = cls(cls.Params())
    run = Run(device, seed, recipe, method.params, **of_run)
    torch.manual_seed(seed)
    method.build(task_of(images, n_clusters), run)
    return method, run


def trained(
    name: str, images: Tensor, labels: Tensor | None, seed: int, recipe: Recipe, device: str = "cpu", **of_run
) -> Method:
    """The same, fitted: the engine at work, and nothing else of the harness."""
    n_clusters = None if labels is None else int(labels.max()) + 1
    method, run = untrained(name, images, seed, recipe, n_clusters, device, **of_run)
    method.fit(Images(images, labels), run)
    return method
