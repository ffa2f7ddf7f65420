"""Detection scores from a classifier's logits.

Logits are (B, K). All is computed in float64, in forms that keep the order of confident predictions, of which plain
float32 softmax probabilities tie at 1. Results are (B,) float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def max_softmax(logits: Tensor) -> Tensor:
    """Anomaly score: minus the log of the largest softmax probability. Higher = more anomalous.

    It ranks as the maximum softmax probability does. In float32 the order survives up to a lead of about 85.
    Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples".
    """
    logits = logits.double()
    largest, predicted = logits.max(1, keepdim=True)
    # -log p = log(1 + sum over the other classes): without the 1, tiny sums are not rounded away.
    others = (logits - largest).exp().scatter(1, predicted, 0)
    return others.sum(1).log1p()


def odin(network: nn.Module, images: Tensor, temperature: float = 1000.0, epsilon: float = 0.0014) -> Tensor:
    """Anomaly score: the largest softmax probability at a high temperature, after a step on the input that raises it.

    The step is x' = x - epsilon * sign(grad_x CE(f(x) / T, argmax f(x))), not clamped to [0, 1]. Returned are the log
    odds against the predicted class, log((1 - p) / p) - log(K - 1), which rank as -p does: -p itself would tie, as p
    hardly differs from 1 / K. Higher = more anomalous. An image's score does not depend on the rest of the batch.
    Liang, Li & Srikant 2018, "Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks".

    Args:
        network: gives logits (B, K), K >= 2. It runs in evaluation mode and without autocast; its mode and gradients
            are left as they were.
        images: (B, C, H, W) float pixels in [0, 1].
        epsilon: in units of pixels; 0 leaves out the step.
    """
    return _log_odds(odin_logits(network, images, temperature, epsilon))


def odin_logits(network: nn.Module, images: Tensor, temperature: float = 1000.0, epsilon: float = 0.0014) -> Tensor:
    """(B, K) float64: the logits after ODIN's step, divided by the temperature. See `odin`, which scores them."""
    with _evaluating(network), torch.autocast(images.device.type, enabled=False):
        if epsilon:
            images = images - epsilon * _input_gradient(network, images, temperature).sign()
        with torch.no_grad():
            logits = network(images)
    return logits.double() / temperature


def kl_from_uniform(logits: Tensor) -> Tensor:
    """NORMALITY, so negate it for an anomaly score: KL(U || softmax) in nats. Higher = more normal.

    KL = -log K - mean_k log p_k, with each log p_k cut off at -100, since a single small p_k could outweigh the rest.
    Hendrycks, Mazeika, Kadavath & Song 2019, "Using Self-Supervised Learning Can Improve Model Robustness and
    Uncertainty".
    """
    log_p = logits.double().log_softmax(1).clamp(min=-100)
    return -math.log(logits.shape[1]) - log_p.mean(1)


def true_probability(logits: Tensor, target: Tensor | int) -> Tensor:
    """NORMALITY, so negate it for an anomaly score: the softmax probability of the true class. Higher = more normal.

    Hendrycks, Mazeika, Kadavath & Song 2019 (the one-class detector).

    Args:
        target: the true class, such as the transformation that was applied: (B,) int64, or one for all images.
    """
    target = torch.as_tensor(target, device=logits.device).expand(len(logits))
    return logits.double().softmax(1).gather(1, target[:, None]).squeeze(1)


def _log_odds(logits: Tensor) -> Tensor:
    """log of the mean over the other classes of exp(f_k - max f): two terms of one sign, so that nothing cancels."""
    ordered = logits.sort(1, descending=True).values
    first, others = ordered[:, 0], ordered[:, 1:]
    second = others[:, 0]
    return (second - first) + (others - second[:, None]).expm1().mean(1).log1p()


def _input_gradient(network: nn.Module, images: Tensor, temperature: float) -> Tensor:
    # Inference mode forbids gradients even where they are asked for, hence the first `with` and the clone.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        logits = network(images).double() / temperature
        # The sum, not the mean: each image then has the gradient that it would have alone.
        loss = F.cross_entropy(logits, logits.argmax(1), reduction="sum")
        return torch.autograd.grad(loss, images)[0]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and then each module's own mode again."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
