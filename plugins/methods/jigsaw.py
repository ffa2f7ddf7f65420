"""Jigsaw: a network that tells in which order the tiles of a normal image were laid."""

import itertools
from functools import cache

from pydantic import Field

import harness

GRID = 3
TINY, ENLARGED = 24, 27
"""Images of fewer than 24 pixels a side are enlarged to 27: else there is little left of a tile beside its gap."""


class Jigsaw(harness.Method):
    """Prediction of the order of a 3 x 3 puzzle (Noroozi & Favaro 2016), scored over all orders that it was taught.

    From each cell of the image a tile is taken that is somewhat smaller, so that no edge runs on from tile to tile;
    each tile is normalised by its own mean and deviation, so that its brightness does not tell its place. The tiles
    are laid out anew as one image, which the shared network classifies. MAX is the mean, over the orders, of the
    largest softmax value; TrueProb that of the probability of the right answer. Lee & Lee print neither grid, orders
    nor score. No label is used.
    """

    name = "jigsaw"
    scores = ("MAX", "TrueProb")

    class Params(harness.Params):
        orders: int = Field(30, ge=2, le=1000, description="how many orders there are to tell apart")
        tile: float = Field(0.85, gt=0, le=1, description="side of a tile, as a share of its cell")
        gray: float = Field(0.3, ge=0, le=1, description="chance that a colour image is trained on without its colour")
        blank: float = Field(1e-3, gt=0, description="a tile whose pixels deviate less than this is not amplified")

    def build(self, task, run):
        import torch

        if task.height != task.width:
            raise harness.HarnessError(f"jigsaw: images are {task.height} x {task.width}; set the data set's size")
        self.run = run
        side = round(task.height * run.recipe.crop)
        self.side = side if side >= TINY else ENLARGED
        self.cell = self.side // GRID
        self.tile = max(1, round(self.params.tile * self.cell))
        self.orders = distant_orders(self.params.orders).to(run.device)
        # Each tile is normalised by itself: that leaves the network nothing to do.
        plain = {"mean": (0.0,) * task.channels, "std": (1.0,) * task.channels}
        network = harness.kit.network(run.recipe.network, task.channels, GRID * self.tile, len(self.orders), **plain)
        self.network = network.to(run.device, memory_format=torch.channels_last)

    def fit(self, train, run):
        import torch

        kit = harness.kit

        def loss(images, index):
            if images.shape[1] > 1:
                images = kit.random_gray(images, self.params.gray)
            answers = torch.randint(len(self.orders), (len(images),), device=images.device)
            puzzles = assemble(self.tiles(images, jitter=True), self.orders[answers])
            return kit.cross_entropy(self.network(puzzles), answers)

        kit.train_network(self.network, train.images, loss, run)

    def score(self, images):
        def score(x):
            tiles, total = self.tiles(x, jitter=False), {"MAX": 0, "TrueProb": 0}
            for answer, order in enumerate(self.orders):
                logits = self.network(assemble(tiles, order.expand(len(x), -1)))
                total["MAX"] -= logits.double().softmax(1).amax(1) / len(self.orders)
                total["TrueProb"] -= harness.kit.true_probability(logits, answer) / len(self.orders)
            return total

        return harness.kit.in_batches(images, self.run, score)

    def tiles(self, x, jitter):
        """(B, C, S, S) float pixels to (B, 9, T, T, C) tiles, row by row, each of mean 0 and deviation 1.

        With `jitter`, the grid lies anywhere in the image and each tile anywhere in its cell; else in the middle.
        """
        import torch

        if x.shape[-1] != self.side:
            x = torch.nn.functional.interpolate(x, size=(self.side, self.side), mode="bilinear")
        cells = torch.arange(GRID**2, device=x.device)
        corner = torch.stack([cells // GRID, cells % GRID], dim=1) * self.cell
        for room, places in ((self.side - GRID * self.cell, 1), (self.cell - self.tile, GRID**2)):
            offset = torch.full((len(x), places, 2), room // 2, device=x.device)
            corner = corner + (torch.randint_like(offset, room + 1) if jitter else offset)
        along = corner[..., None] + torch.arange(self.tile, device=x.device)
        image = torch.arange(len(x), device=x.device)[:, None, None, None]
        tiles = x.permute(0, 2, 3, 1)[image, along[:, :, 0, :, None], along[:, :, 1, None, :]]
        deviation, mean = torch.std_mean(tiles, (2, 3), correction=0, keepdim=True)
        return (tiles - mean) / deviation.masked_fill(deviation < self.params.blank, 1)


def assemble(tiles, order):
    """(B, 9, T, T, C) tiles, laid so that place p shows tile order[p], as images (B, C, 3T, 3T).

    Args:
        order: (B, 9) int64.
    """
    import torch

    batch, _, side, _, channels = tiles.shape
    laid = tiles[torch.arange(batch, device=tiles.device)[:, None], order]
    rows = laid.view(batch, GRID, GRID, side, side, channels).transpose(2, 3)
    return rows.reshape(batch, GRID * side, GRID * side, channels).permute(0, 3, 1, 2)


@cache
def distant_orders(count):
    """(count, 9) int64: orders of nine tiles that differ in as many places as can be, always the same ones.

    Greedily, the next is the one whose nearest among the chosen is farthest; the unshuffled order is left out. Since
    this is a part of the method, it does not depend on a run's seed.
    """
    import numpy as np
    import torch

    every = np.array(list(itertools.permutations(range(GRID**2))), dtype=np.int8)[1:]
    every = np.random.RandomState(0).permutation(every)  # this generator's stream is frozen
    chosen, nearest = [every[0]], np.full(len(every), GRID**2)
    while len(chosen) < count:
        nearest = np.minimum(nearest, (every != chosen[-1]).sum(1))
        chosen.append(every[nearest.argmax()])
    return torch.from_numpy(np.stack(chosen).astype(np.int64))


@harness.hookimpl
def register_methods(register):
    register(Jigsaw)
