"""Jigsaw: its orders, its tiles, and its score against a loop in float64."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from harness import HarnessError, Images, Recipe, Run
from harness.environment import seeded
from harness.fitting import task_of
from harness.plugins import Plugins

PLUGINS = Plugins()
Jigsaw = PLUGINS.get("method", "jigsaw")
module = sys.modules[Jigsaw.__module__]


def recipe(**changes) -> Recipe:
    given = {"network": "two-conv", "optimizer": "adam", "lr": 1e-3, "epochs": 1, "batch": 32, "precision": "float32"}
    return Recipe(**given | changes)


def made(images: torch.Tensor, **params):
    method = Jigsaw(Jigsaw.Params(**params))
    with seeded(0):
        method.build(task_of(images, None), Run("cpu", 0, recipe(), method.params))
    return method


def pictures(n: int = 6, channels: int = 1, side: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("count", [2, 30])
def test_orders_are_permutations_far_from_each_other_and_always_the_same(count):
    orders = module.distant_orders(count).numpy()
    assert orders.shape == (count, 9)
    assert (np.sort(orders, 1) == np.arange(9)).all()
    assert not (orders == np.arange(9)).all(1).any()
    apart = (orders[:, None] != orders[None]).sum(2)[~np.eye(count, dtype=bool)]
    # Of as many random orders, some pair would be much nearer; nine tiles can't all differ in more than nine orders.
    assert apart.min() >= {2: 9, 30: 7}[count]
    module.distant_orders.cache_clear()
    assert (module.distant_orders(count).numpy() == orders).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_are_the_middles_of_the_cells_each_normalised_by_itself(channels):
    images = pictures(channels=channels)
    method = made(images)
    assert (method.side, method.cell, method.tile) == (30, 10, 8)
    tiles = method.tiles(images / 255, jitter=False).numpy()
    assert tiles.shape == (6, 9, 8, 8, channels)
    x = images.double().numpy() / 255
    for place in range(9):
        top, left = 10 * (place // 3) + 1, 10 * (place % 3) + 1
        tile = x[:, :, top : top + 8, left : left + 8].transpose(0, 2, 3, 1)
        mean, deviation = tile.mean((1, 2), keepdims=True), tile.std((1, 2), keepdims=True)
        np.testing.assert_allclose(tiles[:, place], (tile - mean) / deviation, atol=1e-4)


def test_a_blank_tile_is_not_amplified():
    images = torch.full((2, 1, 30, 30), 7, dtype=torch.uint8)
    assert (made(images).tiles(images / 255, jitter=False).abs() < 1e-3).all()


def test_jitter_moves_each_tile_within_its_cell():
    ramp = torch.arange(30).repeat(30, 1)[None, None].expand(200, 1, 30, 30) / 255.0
    method = made(pictures())
    method.params = method.params.model_copy(update={"blank": 10.0})  # leaves the values, less their mean
    raw = ramp.clone()
    torch.manual_seed(0)
    tiles = method.tiles(raw, jitter=True)
    assert tiles.shape == (200, 9, 8, 8, 1)
    # Steps of one pixel along a row stay steps of one pixel: a tile is a window, never a blend.
    steps = tiles[..., 1:, 0] - tiles[..., :-1, 0]
    np.testing.assert_allclose(steps, 1 / 255, atol=1e-5)


def test_a_puzzle_shows_the_tiles_in_the_order():
    tiles = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(1, 9, 2, 2, 3)
    order = torch.tensor([[3, 1, 4, 0, 5, 8, 2, 6, 7]])
    image = module.assemble(tiles, order)
    assert image.shape == (1, 3, 6, 6)
    np.testing.assert_array_equal(image[0, 0, ::2, ::2].flatten(), order[0])
    np.testing.assert_array_equal(image[0, 2, 1::2, 1::2].flatten(), order[0])


def test_scores_are_means_over_the_orders():
    images = pictures(4)
    method = made(images, orders=5)
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(24 * 24, 5)))
    method.network = lambda x: x.double().flatten(1) @ weight / 10
    scores = method.score(images)

    tiles = method.tiles(images / 255, jitter=False)
    largest, right = np.zeros(4), np.zeros(4)
    for answer, order in enumerate(method.orders):
        puzzle = module.assemble(tiles, order.expand(4, -1)).double().flatten(1).numpy()
        logits = puzzle @ weight.numpy() / 10
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        largest += p.max(1) / 5
        right += p[:, answer] / 5
    np.testing.assert_allclose(scores["MAX"], -largest, atol=1e-6)
    np.testing.assert_allclose(scores["TrueProb"], -right, atol=1e-6)


def test_what_is_not_square_is_refused():
    images = torch.zeros(4, 1, 30, 40, dtype=torch.uint8)
    with pytest.raises(HarnessError, match="jigsaw: images are 30 x 40"):
        made(images)


def test_it_learns_to_order_what_has_an_order():
    """Three clear puzzles of one picture: after a few epochs the right order is found far more often than by chance."""
    rows, columns = torch.meshgrid(torch.linspace(0, 9, 27), torch.linspace(0, 14, 27), indexing="ij")
    picture = (128 + 100 * torch.sin(rows * columns / 5)).byte()
    images = picture.expand(64, 1, 27, 27).contiguous()
    method = Jigsaw(Jigsaw.Params(orders=4))
    run = Run("cpu", 0, recipe(epochs=6, batch=8), method.params)
    with seeded(0):
        method.build(task_of(images, None), run)
        method.fit(Images(images), run)
    assert run.notes["train_accuracy"] > 0.6
