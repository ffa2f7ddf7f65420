"""What the harness adds to the engine, and what its commands take, in processor time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from clocks import processor_time
from shaped import NORMAL, PLUGINS, trained
from tiny import harness

from harness.recipe import read_recipe

pytestmark = pytest.mark.benchmark(timer=processor_time)


@pytest.mark.parametrize(("epochs", "rounds"), [(15, 3), (450, 1)], ids=["seconds", "a minute"])
def test_a_run_beside_the_bare_engine(beside, here, epochs, rounds):
    recipe = read_recipe("digits", None, "rotnet", {"epochs": epochs})[1]
    images, _ = PLUGINS.dataset("digits", here).load("train", NORMAL)
    test, _ = PLUGINS.dataset("digits", here).load("test", tuple("0123456789"))
    command = ["run", "--protocol", "test2", "--case", "5", "--method", "rotnet", "--set", f"rotnet.epochs={epochs}"]
    runs = iter(range(100))
    found = {}

    def run():
        found["table"] = harness(*command, "--results", f"results-{next(runs)}").out

    def bare():
        with torch.random.fork_rng():
            found["scores"] = trained("rotnet", images, None, 0, recipe).score(test)

    harness(*command[:-1], "rotnet.epochs=1", "--results", "warm")
    beside(f"a fit of {epochs} epochs", run, {"engine alone": bare}, len(images) * epochs, rounds)
    assert "1 fit, " in found["table"]
    assert len(found["scores"]["MAX"]) == len(test)


@pytest.mark.parametrize("words", [["--help"], ["list", "methods"], ["list", "protocols"]], ids=" ".join)
def test_small_commands(within, words):
    command = [sys.executable, "-m", "harness", *words]
    within(f"harness {' '.join(words)}", lambda: subprocess.run(command, capture_output=True, check=True), budget=0.3)


def test_a_finished_run(within, here):
    words = ["run", "--protocol", "test2", "--method", "subcluster,rotnet,ssl", "--recipe", "fast"]
    command = [sys.executable, "-m", "harness", *words, "--set", "recipe.epochs=1"]
    subprocess.run(command, capture_output=True, check=True)
    done = []

    def again():
        done.append(subprocess.run(command, capture_output=True, check=True, text=True))

    within("a finished run asked for again", again, budget=1.5)
    assert "nothing to train" in done[-1].stderr
