"""ISIF: its loss against loops in float64, its views, and its neighbours."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from harness import HarnessError, Images, Recipe, Run
from harness.fitting import task_of
from harness.plugins import Plugins
from harness.seeding import seeded

PLUGINS = Plugins()
ISIF = PLUGINS.get("method", "isif")
instance_loss = sys.modules[ISIF.__module__].instance_loss


def digits(split: str, classes: str) -> tuple[torch.Tensor, torch.Tensor]:
    return PLUGINS.get("dataset", "digits")(Path("nowhere")).load(split, tuple(classes))


def recipe(**changes) -> Recipe:
    given = {"network": "two-conv", "optimizer": "adam", "lr": 1e-3, "epochs": 2, "batch": 64, "precision": "float32"}
    return Recipe(**given | changes)


def made(images: torch.Tensor, values: Recipe | None = None, fit: bool = True, **params):
    method = ISIF(ISIF.Params(**params))
    run = Run("cpu", 0, values or recipe(), method.params)
    with seeded(0):
        method.build(task_of(images, None), run)
        if fit:
            method.fit(Images(images), run)
    return method


def features(n: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return F.normalize(torch.randn(2 * n, 6, generator=torch.Generator().manual_seed(seed)), dim=1).to(dtype)


def loss_by_loops(rows: np.ndarray, columns: np.ndarray, temperature: float, weight: float) -> float:
    """Ye et al. 2019, eq. 6, with the first factors of all products from `rows`, the second from `columns`."""
    n = len(rows)
    total = 0.0
    for i in range(n):
        partner = (i + n // 2) % n
        similarity = {k: math.exp(rows[i] @ columns[k] / temperature) for k in range(n) if k != i}
        below = sum(value * (1 if k == partner else weight) for k, value in similarity.items())
        total += math.log(similarity[partner] / below)
        for j in similarity:
            if j != partner:
                total += weight * math.log(1 - similarity[j] / below)
    return -total / n


# --- loss ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "temperature", "weight"), [(1, 0.1, 1), (2, 0.5, 1), (9, 0.1, 1), (9, 0.3, 2.5)])
def test_loss_is_the_formula(n, temperature, weight):
    x = features(n)
    loss, _ = instance_loss(x, temperature, weight)
    expected = loss_by_loops(x.double().numpy(), x.double().numpy(), temperature, weight)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_only_the_first_factor_is_trained():
    x = features(4).requires_grad_()
    instance_loss(x, 0.2, 1.0)[0].backward()
    fixed, step = x.detach().double().numpy(), 1e-5
    expected = np.zeros_like(fixed)
    for place in np.ndindex(*fixed.shape):
        up, down = fixed.copy(), fixed.copy()
        up[place] += step
        down[place] -= step
        expected[place] = (loss_by_loops(up, fixed, 0.2, 1) - loss_by_loops(down, fixed, 0.2, 1)) / (2 * step)
    np.testing.assert_allclose(x.grad, expected, atol=1e-4)


def test_loss_stays_finite_where_another_image_is_taken_for_the_own():
    x = F.normalize(torch.tensor([[1.0, 0], [1, 1e-4], [-1, 0], [0, -1]]), dim=1).requires_grad_()
    loss, _ = instance_loss(x, 0.01, 1.0)  # the first two are different images, and P rounds to 1
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_loss_is_computed_in_float32_under_autocast():
    x = features(8)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = instance_loss(x, 0.1, 1.0)
    assert loss.item() == instance_loss(x, 0.1, 1.0)[0].item()


def test_two_alike_views_of_images_that_are_apart_are_the_best():
    apart = torch.eye(6)
    good, found = instance_loss(torch.cat([apart, apart]), 0.1, 1.0)
    bad, missed = instance_loss(torch.cat([apart, apart.roll(1, 0)]), 0.1, 1.0)
    assert good < 0.01 < 1 < bad
    assert (found, missed) == (1, 0)


# --- views -----------------------------------------------------------------------------------------------------------


def test_grey_images_are_neither_mirrored_nor_coloured():
    ramp = torch.linspace(0.2, 0.8, 16).expand(64, 1, 16, 16)
    views = made(digits("train", "0")[0], fit=False)._view(ramp)
    assert views.shape == ramp.shape
    assert (views[..., -1] > views[..., 0]).all()


def test_colour_images_are_mirrored_turned_grey_and_coloured():
    ramp = torch.linspace(0.2, 0.8, 16) * torch.tensor([1.0, 0.8, 0.5]).view(3, 1, 1)
    images = (torch.rand(20, 3, 16, 16) * 255).byte()
    torch.manual_seed(0)
    views = made(images, fit=False, crop_scale=0.9)._view(ramp.expand(400, 3, 16, 16))
    mirrored = (views[:, 1, :, -1] < views[:, 1, :, 0]).all(1).float().mean().item()
    grey = (views.amax(1) - views.amin(1) < 1e-3).flatten(1).all(1).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.1)
    assert grey == pytest.approx(0.2, abs=0.1)
    assert (views >= 0).all()
    assert (views <= 1).all()


def test_a_view_shows_no_less_than_its_share_of_the_area(monkeypatch):
    monkeypatch.setattr("harness.kit.augment.color_jitter", lambda x, *amounts: x)
    place = torch.arange(16) / 16
    slope = ((place + place[:, None]) / 2).expand(4000, 1, 16, 16)
    for share in (0.1, 0.5):
        torch.manual_seed(0)
        views = made(digits("train", "0")[0], fit=False, crop_scale=share)._view(slope)[:, 0]
        # From its third pixel to its third last, 11 of 16 steps of a view, the image's border has no part in it.
        width, height = views[:, 8, 13] - views[:, 8, 2], views[:, 13, 8] - views[:, 2, 8]
        assert (width * height).min().item() * (2 * 16 / 11) ** 2 == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_brightened_and_darkened(channels, monkeypatch):
    flat = torch.full((1000, channels, 8, 8), 0.5)
    method = made((torch.rand(20, channels, 8, 8) * 255).byte(), fit=False)
    torch.manual_seed(0)
    brightness = method._view(flat).mean((1, 2, 3)) / 0.5
    assert 0.59 < brightness.min() < 0.63
    assert 1.37 < brightness.max() < 1.41
    monkeypatch.setattr("harness.kit.augment.color_jitter", lambda x, *amounts: x)
    torch.testing.assert_close(method._view(flat), flat, atol=1e-3, rtol=0)


# --- the method ------------------------------------------------------------------------------------------------------


def test_training_compares_two_different_views_of_each_image_at_the_given_temperature_and_weight():
    place = torch.arange(32) % 4  # of the quarter that is bright
    images = F.interpolate(F.one_hot(place).view(32, 1, 2, 2) * 200.0, scale_factor=8).byte()
    method = made(images, recipe(epochs=1), fit=False, crop_scale=0.9, temperature=0.3, negative_weight=2.5)
    batches = []
    method.network.register_forward_hook(lambda network, given, output: batches.append((given[0], output)))
    torch.manual_seed(0)
    method.fit(Images(images), method.run)
    views, output = batches[0]
    one, other = views.chunk(2)
    assert len(one) == len(images)
    assert (one != other).flatten(1).any(1).all()
    assert torch.equal(*(F.adaptive_avg_pool2d(half, 2).flatten(1).argmax(1) for half in (one, other)))
    features = F.normalize(output.detach().double(), dim=1).numpy()
    assert method.run.notes["train_loss"] == pytest.approx(loss_by_loops(features, features, 0.3, 2.5), rel=1e-3)


@pytest.mark.parametrize("aggregate", ["mean", "kth"])
def test_embedding_and_score_need_no_training_images_after_loading(aggregate):
    images, _ = digits("train", "01")
    test, _ = digits("test", "0127")
    method = made(images, k=4, aggregate=aggregate)
    embedded = method.embed(test)
    assert embedded.shape == (len(test), 128)
    np.testing.assert_allclose(embedded.norm(dim=1), 1, rtol=1e-5)
    np.testing.assert_allclose(method.gallery, method.embed(images))

    gaps = np.sort(np.linalg.norm(embedded.double()[:, None] - method.gallery.double(), axis=2), 1)[:, :4]
    scores = method.score(test)
    for name, distances in (("Euclidean", gaps), ("Cosine", gaps**2 / 2)):
        wanted = distances.mean(1) if aggregate == "mean" else distances[:, 3]
        np.testing.assert_allclose(scores[name], wanted, rtol=1e-4)

    copy = made(images, fit=False, k=4, aggregate=aggregate)
    copy.load(method.state())
    copy.network.eval()
    for name, values in copy.score(test).items():
        assert torch.equal(values, scores[name])


def test_more_neighbours_than_training_images_are_refused():
    images, _ = digits("train", "0")
    method = made(images, k=len(images) + 1)
    with pytest.raises(HarnessError, match=f"{len(images) + 1} nearest neighbours of {len(images)} vectors"):
        method.score(images[:2])


def test_digits_that_were_not_seen_are_far_from_those_that_were():
    images, _ = digits("train", "012")
    test, labels = digits("test", "0123456789")
    scores = made(images, recipe(epochs=15)).score(test)
    assert roc_auc_score(labels > 2, scores["Cosine"]) > 0.85
    assert roc_auc_score(labels > 2, scores["Euclidean"]) > 0.85
