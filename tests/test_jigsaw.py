"""Jigsaw: its orders, its tiles, and its score against a loop in float64."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from harness import HarnessError, Images, Recipe, Run
from harness.fitting import task_of
from harness.plugins import Plugins
from harness.seeding import seeded

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


@pytest.mark.parametrize(("side", "reach", "shared"), [(30, 2, 0), (32, 4, 0.5)])
def test_jitter_moves_each_tile_within_its_cell_and_the_grid_within_the_image(side, reach, shared):
    square = torch.arange(side).float() ** 2
    image = torch.stack([square[:, None].expand(side, side), square.expand(side, side)])
    method = made(pictures(side=side), blank=1e6)  # leaves the values, less their mean
    torch.manual_seed(0)
    tiles = method.tiles(image.expand(1000, 2, side, side), jitter=True)
    assert tiles.shape == (1000, 9, 8, 8, 2)
    # From one pixel to the next, squares rise by twice the place and one: a tile is a window, never a blend.
    rows, columns = tiles[:, :, :, 0, 0].diff(), tiles[:, :, 0, :, 1].diff()
    places = (torch.stack([rows, columns], -1) - 1) / 2 - torch.arange(7)[:, None]
    np.testing.assert_allclose(places, places[:, :, :1].round().expand_as(places), atol=1e-2)
    cells = torch.arange(9)
    moved = (places[:, :, 0].round() - 10 * torch.stack([cells // 3, cells % 3], 1)).flatten(1).numpy()
    assert all(set(one) == set(range(reach + 1)) for one in moved.T)
    # Of the same variance, what all tiles share makes half of what they move by, along rows and columns each.
    together = shared * np.kron(np.ones((9, 9)), np.eye(2)) + (1 - shared) * np.eye(18)
    np.testing.assert_allclose(np.corrcoef(moved.T), together, atol=0.2)


@pytest.mark.parametrize(("pixels", "side"), [(8, 27), (23, 27), (24, 24)])
def test_small_images_are_enlarged(pixels, side):
    images = pictures(side=pixels)
    method = made(images)
    assert method.side == side
    assert method.tiles(images / 255, jitter=False).shape == (6, 9, method.tile, method.tile, 1)


def test_training_moves_the_tiles_and_takes_the_colour_of_a_share_of_the_images():
    images = pictures(1, channels=3).expand(400, -1, -1, -1)
    method = made(images, orders=2, gray=0.6)
    batches = []
    method.network.register_forward_pre_hook(lambda network, given: batches.append(given[0]))
    torch.manual_seed(0)
    method.fit(Images(images), Run("cpu", 0, recipe(batch=400), method.params))
    (puzzles,) = batches
    grey = (puzzles.amax(1) - puzzles.amin(1)).flatten(1).amax(1) < 1e-3
    assert grey.float().mean().item() == pytest.approx(0.6, abs=0.12)
    assert len(puzzles.unique(dim=0)) > 350  # of one picture in two orders


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
