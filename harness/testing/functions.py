"""What scores, metrics and networks of plugins promise: they are functions, and quickly asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.plugins import Entry, Plugins
from harness.testing.findings import calling, require
from harness.testing.imports import imports_nothing_heavy

if TYPE_CHECKING:
    from torch import Tensor


class FunctionTrial:
    """A function to be checked."""

    def __init__(self, plugins: Plugins, entry: Entry):
        self.entry, self.file = entry, entry.source.path
        self.function: Callable = plugins.get(entry.kind, entry.name)

    def __call__(self, *given: Any) -> Any:
        with calling(f"{self.entry.name}()", self.file):
            return self.function(*given)


def imports(trial: FunctionTrial) -> None:
    """nothing heavy is imported at the top of the file"""
    imports_nothing_heavy(trial.entry)


def score_values(trial: FunctionTrial) -> None:
    """a score is (M,) finite values of (M, K) logits, be they small or large"""
    for scale in (0.0, 1.0, 1000.0):
        logits = scale * _logits()
        before = logits.clone()
        values = _values(trial, logits)
        require(
            values.isfinite().all(),
            f"logits of about {scale:g} give values that are not finite",
            "work with logarithms: logsumexp and log_softmax do not overflow",
        )
        require(logits.equal(before), "the logits are changed", "work on a copy: other scores get them, too")


def score_alone(trial: FunctionTrial) -> None:
    """the score of an image does not depend on the others"""
    import torch

    logits = _logits()
    together, alone = _values(trial, logits), torch.cat([_values(trial, row[None]) for row in logits])
    require(
        torch.allclose(together, alone, rtol=1e-9, atol=1e-12),
        "the values of nine images differ from those of each alone",
        "use no mean or maximum over the images: only over dim=1",
    )


def score_sign(trial: FunctionTrial) -> None:
    """higher = more anomalous: an image of no class scores higher than one of a class"""
    import torch

    some, none = _values(trial, torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).double()).tolist()
    require(none > some, f"they score {none:.3g} and {some:.3g}", "return minus the score")


def _logits() -> Tensor:
    import torch

    return torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _values(trial: FunctionTrial, logits: Tensor) -> Tensor:
    """(M,) float64."""
    import torch

    values = torch.as_tensor(trial(logits))
    require(
        values.shape == (len(logits),),
        f"the shape is {tuple(values.shape)} for logits of {tuple(logits.shape)}",
        "reduce over dim=1, to (M,)",
    )
    return values.double()


def metric_value(trial: FunctionTrial) -> None:
    """a metric is one finite number, of ties and single images, too"""
    import math

    import numpy as np

    spread = np.linspace(0, 1, 20)
    for normal, anomaly in ((spread, spread + 0.5), (spread, spread[:3]), (np.zeros(4), np.zeros(5)), ([0.0], [1.0])):
        normal, anomaly = np.asarray(normal), np.asarray(anomaly)
        value, number = trial(normal, anomaly), math.nan
        with suppress(TypeError, ValueError):
            number = float(value)
        require(
            math.isfinite(number),
            f"{len(normal)} normal and {len(anomaly)} anomalous scores give {value!r}",
            "return a float; say what is meant where nothing is to be divided by",
        )


def network_features(trial: FunctionTrial) -> None:
    """a network gives (B, width) finite features of grey and colour images of several sizes, of each image alone"""
    import torch
    from torch import nn

    for channels, side in ((1, 8), (3, 13), (3, 32)):
        built = trial(channels, side)
        require(
            isinstance(built, tuple) and len(built) == 2 and isinstance(built[0], nn.Module),
            f"the builder returns {type(built).__name__}",
            "return (module, width), width being the number of features",
        )
        module, width = built
        with calling(f"the network for {channels} channel(s) and side {side}", trial.file), torch.no_grad():
            pair = torch.randn(2, channels, side, side)
            features, alone = module.eval()(pair), module(pair[:1])
        require(
            features.shape == (2, width) and features.isfinite().all(),
            f"two images of {channels} x {side} x {side} give the shape {tuple(features.shape)}; the width is {width}",
            "return (B, width) features; the head is put onto them",
        )
        require(
            torch.allclose(features[:1], alone, rtol=1e-3, atol=1e-4),
            "the features of an image depend on which other images it comes with",
            "in eval mode normalise by running statistics, or by each image's own",
        )


CHECKS = {
    "score": (imports, score_values, score_alone, score_sign),
    "metric": (imports, metric_value),
    "network": (imports, network_features),
}
