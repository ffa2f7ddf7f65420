"""Two fits at once beside one after the other, each way with both processor cores, as a user would start them."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys

import pytest
import torch
from tiny import harness
from torch.func import functional_call, grad, stack_module_state, vmap

from harness import kit

CORES = 2


def test_two_fits_at_once(beside, here):
    words = ["run", "--protocol", "test2", "--method", "rotnet", "--case", "3,4,5", "--seed", "0,1"]
    environment = os.environ | {"OMP_NUM_THREADS": str(CORES)}
    made = iter(range(100))
    last = {}

    def run(jobs: int) -> None:
        last[jobs] = f"results-{next(made)}"
        command = [sys.executable, "-m", "harness", *words, "--jobs", str(jobs), "--results", last[jobs]]
        subprocess.run(command, capture_output=True, check=True, env=environment)

    def aurocs(jobs: int) -> list[float]:
        table = harness("results", "--format", "csv", "--results", last[jobs]).out
        return [float(row["auroc"]) for row in csv.DictReader(io.StringIO(table))]

    beside("6 fits of digits, two at once", lambda: run(CORES), {"one after the other": lambda: run(1)}, rounds=2)
    for one, other in zip(aurocs(1), aurocs(CORES), strict=True):
        assert abs(one - other) < 0.005


@pytest.mark.parametrize("name", ["two-conv", "two-conv-pooled"])
def test_one_vectorised_model(beside, name):
    """The other way to pack fits: their networks stacked, and one step for all of them (`torch.func`)."""
    fits, batch, side, steps = 6, 64, 8 if name == "two-conv" else 28, 10
    torch.manual_seed(0)
    networks = [kit.network(name, 1, side, 4, mean=(0.5,), std=(0.5,)) for _ in range(fits)]
    for network in networks:
        for layer in network.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.eval()  # its draws would not be those of the fits alone
    images, labels = torch.rand(fits, batch, 1, side, side), torch.randint(4, (fits, batch))
    optimisers = [torch.optim.Adam(network.parameters(), fused=True) for network in networks]
    params, buffers = stack_module_state(networks)
    params = {key: value.detach().requires_grad_() for key, value in params.items()}
    together = torch.optim.Adam(params.values(), fused=True)

    def loss(weights, constants, x, y):
        return torch.nn.functional.cross_entropy(functional_call(networks[0], (weights, constants), (x,)), y)

    gradients = vmap(grad(loss), randomness="different")

    def one_by_one():
        for _ in range(steps):
            for network, optimiser, x, y in zip(networks, optimisers, images, labels, strict=True):
                torch.nn.functional.cross_entropy(network(x), y).backward()
                optimiser.step()
                optimiser.zero_grad()

    def vectorised():
        for _ in range(steps):
            found = gradients({key: value.detach() for key, value in params.items()}, buffers, images, labels)
            for key, value in params.items():
                value.grad = found[key]
            together.step()

    one_by_one()
    vectorised()
    for key, value in params.items():  # both did the same, but where Adam makes a step of the noise of a gradient of 0
        alone = torch.stack([dict(network.named_parameters())[key] for network in networks])
        assert (value - alone).abs().mean() < 1e-5
    beside(f"{fits} fits of {name} in turn", one_by_one, {"as one vectorised model": vectorised}, fits * batch * steps)
