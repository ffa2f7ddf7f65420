"""What method authors share. A plugin reaches it as `harness.kit`; it knows no method, and of the core only how errors
are told and files are written.

Names are looked up when they are first used: torch is imported by whoever computes, not by whoever plans.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

NETWORKS = {
    "two-conv": "two convolutions and two fully connected layers, for small images",
    "two-conv-pooled": "the same with a pool after each convolution: about a third of the arithmetic",
    "wrn-DEPTH-WIDTH": "a wide ResNet, such as wrn-28-10; the depth is 6n + 4",
    "resnet18": "ResNet-18, for photographs",
    "resnet18-small": "ResNet-18 with a 3x3 stem and without a pool, for small images",
    "resnet18-cbam": "ResNet-18 with block attention",
}
"""What `network` builds by name; here, so that a misspelt one is told before torch is imported."""

WIDE_RESNET = re.compile(r"wrn-(\d{1,4})-(\d{1,4})")
"""The names of wide ResNets: see `depth_and_width`."""

FASTER_BY = ("bfloat16", "channels_last", "fused", "tf32", "cuda_graphs", "compile")
"""What can make training faster: bfloat16 where the recipe wants it and the device has it, images and weights laid out
with the channels of a pixel side by side, one kernel for an optimiser's step, on a GPU convolutions of float32 in TF32
and the bundled networks' kernels launched together, and torch.compile instead of that."""
FASTER_BY_DEFAULT = FASTER_BY[:5]
"""All but torch.compile, whose start-up most fits are too short for."""

BUILDERS: dict[str, Callable] = {}
"""What plugins add to them, by name: `build(channels, side) -> (module, width)`. The harness puts in what it needs."""

_NAMES = {
    "augment": "center_crop color_jitter four_rotations random_crop random_flip random_gray random_resized_crop rotate "
    "translate",
    "neighbours": "kmeans knn_accuracy knn_anomaly nearest",
    "networks": "network",
    "scores": "kl_from_uniform max_softmax odin odin_logits true_probability",
    "train": "backbone cross_entropy in_batches train_network",
    "vectors": "Vectors principal_axes",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}


def depth_and_width(network: str) -> tuple[int, int] | None:
    """Of a wide ResNet, by its name; None for any other network.

    Raises:
        ValueError: no wide ResNet has these.
    """
    if not (named := WIDE_RESNET.fullmatch(network)):
        return None
    depth, width = map(int, named.groups())
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise ValueError(f"{network!r}: the depth must be 6n + 4, as in wrn-16-4 or wrn-28-10, the width 1 or more")
    return depth, width


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"harness.kit.{_HOME[name]}"), name)
    raise AttributeError(f"module 'harness.kit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
