"""The engine on one device: beside the reference loop, as a share of what the device can do, and for a whole table.

    uv run python tests/benchmarks/on_device.py --device cuda
    uv run python tests/benchmarks/on_device.py --device cuda --data data --whole

The first prints images/s of the engine and of the reference on MNIST's shape, and what WRN-28-10 reaches on CIFAR's
shape of the device's bfloat16 matrix peak, measured in the same run; all from the second epoch on. `--whole` then times
the `paper` recipe of test 2 on CIFAR-10, for hours; without it, that time is worked out from the images/s of WRN-28-10.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click
import reference
import torch
from shaped import NORMAL, digits, recipe_of, trained
from test_training import DATASETS, normalised
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from harness import kit
from harness.kit import network
from harness.kit.numerics import has_bfloat16
from harness.machine import choose_device
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.provenance import provenance
from harness.recipe import Recipe, read_recipe
from harness.seeding import seeded

CIFAR_MEAN, CIFAR_STD = (0.5,) * 3, (0.25,) * 3
VIEWS = {"subcluster": 1, "rotnet": 4, "ssl": 4}
"""How many views of each image a method trains on in an epoch."""


def seconds(call: Callable[[], object], device: str, rounds: int) -> float:
    """The median time of a call, after one that is not counted; a GPU is waited for."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def matrix_peak(device: str, side: int, dtype: torch.dtype, rounds: int) -> float:
    """Floating point operations per second of a product of two square matrices, ten times in a row."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 10 * 2 * side**3 / seconds(lambda: [one @ other for _ in range(10)], device, rounds)


class Clock:
    """Called after each epoch, at the end of which a GPU is waited for."""

    def __init__(self):
        self.times = [time.perf_counter()]

    def __call__(self, *_) -> None:
        self.times.append(time.perf_counter())

    def first(self) -> float:
        """Seconds of the first epoch, with all that is done once."""
        return self.times[1] - self.times[0]

    def later(self) -> float:
        """The median of those of the others."""
        return statistics.median(end - start for start, end in pairwise(self.times[1:]))


def fitted(
    name: str, images: Tensor, labels: Tensor | None, recipe: Recipe, device: str, faster_by: tuple[str, ...]
) -> Clock:
    """How long the engine takes for a fit, its network built first, with cuDNN as deterministic as in a run."""
    clock = Clock()
    with seeded(0):
        trained(name, images, labels, 0, recipe, device, faster_by=faster_by, progress=clock)
    return clock


def beside_reference(
    name: str, device: str, n: int, rounds: int, workers: int, faster_by: tuple[str, ...]
) -> tuple[float, float]:
    """Images per second of the engine and of the DataLoader loop, in turn, by MNIST's recipe `fast`."""
    images, labels = digits("train", NORMAL, n)
    labels_shown, outputs = (labels, len(NORMAL)) if name == "subcluster" else (None, 4)
    data = DATASETS[name](images, labels, normalised(images))

    def engine() -> float:
        return n / fitted(name, images, labels_shown, recipe_of(name, epochs=10), device, faster_by).later()

    def loop() -> float:
        recipe, clock = recipe_of(name, epochs=2), Clock()
        plain = reference.plain_network(recipe, outputs).to(device)
        reference.train(plain, data, recipe.epochs, recipe.batch, recipe.lr, device, workers, clock)
        return n / clock.later()

    both = [(engine(), loop()) for _ in range(rounds)]
    return statistics.median(ours for ours, _ in both), statistics.median(theirs for _, theirs in both)


def operations(name: str, side: int) -> float:
    """Floating point operations that training on one image takes: forward, and backward to all weights."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:  # counted, not computed
        net = network(name, 3, side, 10, mean=CIFAR_MEAN, std=CIFAR_STD)
        net(torch.rand(2, 3, side, side)).sum().backward()
    return counter.get_total_flops() / 2


def cifar_speed(
    name: str, device: str, n: int, batch: int, rounds: int, faster_by: tuple[str, ...]
) -> tuple[float, float]:
    """Images per second of the sub-cluster classifier by CIFAR-10's recipe `paper`, on noise, and what the first epoch
    took longer than the others, in seconds."""
    changes = {"network": name, "epochs": 1 + rounds, "batch": batch}
    recipe = read_recipe("cifar10", "paper", "subcluster", changes)[1]
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
    clock = fitted("subcluster", images, torch.arange(n) % 5, recipe, device, faster_by)
    return n / clock.later(), max(0.0, clock.first() - clock.later())


def views_of_test2() -> int:
    """Views that the `paper` recipe of test 2 on CIFAR-10 trains on, for one seed; each class has 5000 images."""
    plan = make_plan(Request(["test2"], list(VIEWS), "cifar10"), Plugins())
    return sum(5000 * len(fit.normal) * fit.recipe["epochs"] * VIEWS[fit.method] for fit, _ in plan.jobs())


@click.command()
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--network", "name", default="wrn-28-10", show_default=True, help="What is held against the peak.")
@click.option("--images", default=20000, show_default=True, help="Training images in each part.")
@click.option("--batch", default=250, show_default=True, help="Of the network that is held against the peak.")
@click.option("--side", default=8192, show_default=True, help="Of the matrices that give the peak.")
@click.option("--rounds", default=3, show_default=True, help="Of which the median counts.")
@click.option("--workers", default=2, show_default=True, help="That load images for the reference.")
@click.option(
    "--faster-by",
    default=",".join(kit.FASTER_BY_DEFAULT),
    show_default=True,
    help=f"What the engine may use, of {', '.join(kit.FASTER_BY)}.",
)
@click.option("--data", type=Path, default=Path("data"), show_default=True, help="Where CIFAR-10 is, for --whole.")
@click.option("--whole", is_flag=True, help="Time test 2 on CIFAR-10 by the recipe paper.")
def main(
    device: str,
    name: str,
    images: int,
    batch: int,
    side: int,
    rounds: int,
    workers: int,
    faster_by: str,
    data: Path,
    whole: bool,
) -> None:
    device, allowed = choose_device(device), tuple(faster_by.split(","))
    dtype = torch.bfloat16 if has_bfloat16(torch.device(device)) else torch.float32
    click.echo(f"{provenance(device)['processor']}, torch {torch.__version__}")
    for method in ("subcluster", "rotnet"):
        ours, theirs = beside_reference(method, device, images, rounds, workers, allowed)
        click.echo(f"train {method}: engine {ours:,.0f} images/s, reference {theirs:,.0f}, ratio {ours / theirs:.2f}")
    peak, each = matrix_peak(device, side, dtype, rounds), operations(name, 32)
    speed, start = cifar_speed(name, device, images, batch, rounds, allowed)
    click.echo(
        f"{name}: {speed:,.1f} images/s x {each / 1e9:.3g} GFLOP = {speed * each / 1e12:.3g} TFLOP/s, "
        f"{speed * each / peak:.0%} of the {str(dtype).removeprefix('torch.')} matrix peak ({peak / 1e12:.3g} TFLOP/s)"
    )
    click.echo(f"{name}: start-up {start:.1f} s")
    if not whole:
        click.echo(f"test 2, CIFAR-10, paper, one seed: {views_of_test2() / speed / 3600:.3g} h by the above (not run)")
        return
    with tempfile.TemporaryDirectory() as results:
        words = ["run", "--protocol", "test2", "--dataset", "cifar10", "--recipe", "paper", "--method", ",".join(VIEWS)]
        started = time.perf_counter()
        places = ["--data", str(data), "--device", device, "--results", results, "--faster-by", faster_by]
        subprocess.run([sys.executable, "-m", "harness", *words, *places], check=True)
        click.echo(f"test 2, CIFAR-10, paper, one seed: {(time.perf_counter() - started) / 3600:.3g} h")


if __name__ == "__main__":
    main()
