"""The scores, against plain float64 formulas, and where those formulas tie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import nn

from harness.kit.networks import network
from harness.kit.scores import kl_from_uniform, max_softmax, odin, true_probability


def softmax(logits: torch.Tensor) -> np.ndarray:
    exponentials = np.exp(logits.numpy().astype(np.float64))
    return exponentials / exponentials.sum(1, keepdims=True)


def ranks(scores) -> np.ndarray:
    return np.asarray(scores).argsort(kind="stable").argsort()


class Given(nn.Module):
    """A network whose logits are its input."""

    def forward(self, x):
        return x.flatten(1)


def odin_of_logits(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return odin(Given(), logits[:, :, None, None], temperature, epsilon=0)


# --- MAX -------------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-15, 15), min_size=4, max_size=4), min_size=1, max_size=8))
def test_max_is_minus_the_log_of_the_largest_probability(rows):
    logits = torch.tensor(rows, dtype=torch.float64)
    scores = max_softmax(logits)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, -np.log(softmax(logits).max(1)), atol=1e-12)


def test_max_is_high_for_undecided_predictions():
    sure, unsure, even = max_softmax(torch.tensor([[9.0, 0, 0], [1, 0, 0], [1, 1, 1]]))
    assert sure < unsure < even
    assert even.item() == pytest.approx(np.log(3))


@pytest.mark.parametrize("outputs", [2, 10])
def test_confident_predictions_do_not_tie(outputs):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10_000, outputs, generator=generator)
    logits[:, 0] += torch.empty(10_000).uniform_(20, 60, generator=generator)
    assert len(logits.softmax(1).amax(1).unique()) < 5  # plain float32 saturates at 1
    scores = max_softmax(logits)
    assert len(scores.unique()) == 10_000
    assert len(scores.float().unique()) > 9_990  # a few are equal by chance, as in any rounding
    # For leads so large, p = 1 - sum of the others' exp(f_k - f_0) to first order.
    expected = np.logaddexp.reduce((logits[:, 1:] - logits[:, :1]).double().numpy(), axis=1)
    np.testing.assert_allclose(scores.log(), expected, atol=1e-6)
    assert len(odin_of_logits(logits, temperature=1).float().unique()) > 9_990


def test_max_ranks_as_the_textbook_formula_where_that_does_not_tie():
    logits = 2 * torch.randn(2000, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    np.testing.assert_array_equal(ranks(max_softmax(logits)), ranks(-softmax(logits).max(1)))


# --- ODIN ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
def test_odin_without_the_step_is_the_log_odds_at_that_temperature(temperature):
    logits = 3 * torch.randn(500, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = softmax(logits / temperature).max(1)
    scores = odin_of_logits(logits, temperature)
    np.testing.assert_allclose(scores, np.log((1 - p) / p) - np.log(5), atol=1e-10)
    if temperature == 1:
        np.testing.assert_array_equal(ranks(scores), ranks(-p))


def test_odin_at_a_high_temperature_does_not_tie_in_float32():
    logits = 5 * torch.randn(10_000, 10, generator=torch.Generator().manual_seed(3))
    probabilities = (logits / 1000).softmax(1).amax(1)
    assert len(probabilities.unique()) < 9_500
    scores = odin_of_logits(logits, 1000)
    assert len(scores.float().unique()) > 9_990
    # The limit of high temperatures: the lead of the largest logit over the mean.
    lead = logits.double().amax(1) - logits.double().mean(1)
    assert np.corrcoef(ranks(scores), ranks(-lead))[0, 1] > 0.9999


def test_with_two_classes_and_no_step_odin_and_max_are_one_ranking():
    logits = 4 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(4))
    np.testing.assert_array_equal(ranks(odin_of_logits(logits, 1000)), ranks(max_softmax(logits)))


@pytest.fixture
def trained_like() -> nn.Module:
    """Small, in float64, with a batch norm that has seen other data, so that its modes differ."""
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(96, 4)
    ).double()
    net.train()
    for _ in range(5):
        net(torch.rand(32, 2, 6, 6, dtype=torch.float64))
    net.zero_grad()
    return net


@pytest.mark.parametrize(("temperature", "epsilon"), [(1000.0, 0.0014), (1000.0, 0.02), (1.0, 0.004)])
def test_odin_is_the_one_image_at_a_time_algorithm_in_batches(trained_like, temperature, epsilon):
    images = torch.rand(12, 2, 6, 6, dtype=torch.float64)
    scores = odin(trained_like, images, temperature, epsilon)

    trained_like.eval()
    expected = []
    for image in images:
        x = image[None].clone().requires_grad_()
        logits = trained_like(x)
        loss = nn.CrossEntropyLoss()(logits / temperature, logits.argmax(1))
        loss.backward()
        with torch.no_grad():
            p = softmax(trained_like(x - epsilon * x.grad.sign()) / temperature).max()
        expected.append(np.log((1 - p) / p) - np.log(3))
    np.testing.assert_allclose(scores, expected, rtol=1e-8)
    in_two_batches = torch.cat([odin(trained_like, part, temperature, epsilon) for part in images.split(5)])
    torch.testing.assert_close(in_two_batches, scores, rtol=1e-10, atol=0)


def test_the_step_raises_the_confidence_and_is_measured_in_pixels(trained_like):
    images = torch.rand(32, 2, 6, 6, dtype=torch.float64)
    seen = []
    trained_like.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    before = odin(trained_like, images, epsilon=0)
    assert len(seen) == 1  # no gradient, no second pass
    after = odin(trained_like, images, epsilon=0.001)
    assert (after < before).all()
    step = (seen[-1] - images).abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.001))


def test_a_dead_pixel_is_left_alone():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, -1, 0, 2], [0, 1, 0, 1]]))
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    odin(net, torch.tensor([1.0, 0, 0, 1]).view(1, 1, 2, 2), epsilon=0.5)
    assert seen[-1].flatten().tolist() == [1.5, -0.5, 0, 1.5]  # and no clamp to [0, 1]


def test_odin_leaves_the_network_as_it_was(trained_like):
    trained_like[1].eval()  # a frozen batch norm inside a training network
    modes = [module.training for module in trained_like.modules()]
    buffers = [buffer.clone() for buffer in trained_like.buffers()]
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    original = images.clone()
    scores = odin(trained_like, images)
    assert not scores.requires_grad
    assert [module.training for module in trained_like.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in trained_like.parameters())
    assert all(torch.equal(a, b) for a, b in zip(buffers, trained_like.buffers(), strict=True))
    assert torch.equal(images, original)

    with pytest.raises(RuntimeError):
        odin(trained_like, images[:, :1])
    assert [module.training for module in trained_like.modules()] == modes


def test_odin_finds_its_gradient_wherever_it_is_called(trained_like):
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    scores = odin(trained_like, images)
    with torch.no_grad():
        assert torch.equal(odin(trained_like, images), scores)
    with torch.inference_mode():
        torch.testing.assert_close(odin(trained_like, images.clone()), scores)


def test_odin_of_a_kit_network_ignores_autocast():
    torch.manual_seed(6)
    net = network("two-conv-pooled", 1, 8, 3, mean=[0.5], std=[0.3])
    images = torch.rand(6, 1, 8, 8)
    scores = odin(net, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(odin(net, images), scores)


# --- KL and the true class -------------------------------------------------------------------------------------------


def test_kl_from_uniform_is_the_divergence_with_the_uniform_first():
    logits = 3 * torch.randn(50, 7, generator=torch.Generator().manual_seed(7))
    p = softmax(logits)
    expected = rel_entr(1 / 7, p).sum(1)
    scores = kl_from_uniform(logits)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


def test_kl_is_a_normality_and_finite():
    even, sure, extreme = kl_from_uniform(torch.tensor([[2.0, 2, 2], [9, 0, 0], [1e4, 0, 0]]))
    assert even.item() == pytest.approx(0, abs=1e-12)
    assert even < sure < extreme
    assert extreme.item() == pytest.approx(-np.log(3) + 200 / 3)


def test_true_probability_is_the_softmax_of_the_target():
    logits = 3 * torch.randn(40, 5, generator=torch.Generator().manual_seed(8))
    target = torch.arange(40) % 5
    scores = true_probability(logits, target)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, softmax(logits)[np.arange(40), target.numpy()], rtol=1e-12)
    np.testing.assert_allclose(scores.log(), -F.cross_entropy(logits.double(), target, reduction="none"), rtol=1e-10)
