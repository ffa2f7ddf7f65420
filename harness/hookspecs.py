"""The hooks that a plugin may implement. Mark each implementation with `@harness.hookimpl`.

Each hook is handed a function `register`, and calls it once for everything of its kind that the plugin brings. What is
registered is found by its name: on the command line (`--method`, `--dataset`, `--score`, `--metric`, `--reporter`) or
in a recipe (`network = "…"`). A name belongs to one plugin; two of one name are refused.

Methods, data sets and reporters are classes that carry their `name`:   register(MyMethod)
Networks, scores and metrics are functions, named as they register:     register("Energy", energy)
"""

from __future__ import annotations

from collections.abc import Callable

import pluggy

hookspec = pluggy.HookspecMarker("harness")
hookimpl = pluggy.HookimplMarker("harness")


@hookspec
def register_methods(register: Callable) -> None:
    """`register(MyMethod)`, a `harness.Method` subclass: fit on normal images, then score; higher = more anomalous."""


@hookspec
def register_datasets(register: Callable) -> None:
    """`register(MyDataset)`, a `harness.Dataset` subclass: labelled images by split and class."""


@hookspec
def register_networks(register: Callable) -> None:
    """`register("my-network", build)`: `build(channels, side) -> (module, width)`.

    The module, untrained, turns normalised images (B, channels, side, side) into features (B, width); the head is put
    onto it. It is there for every method whose recipe has `network = "my-network"`.
    """


@hookspec
def register_scores(register: Callable) -> None:
    """`register("Energy", energy)`: `energy(logits) -> (M,)` of logits (M, K) float64; higher = more anomalous. Both
    are torch tensors on the CPU.

    `--score Energy` adds it to every method that has logits, without training anew.
    """


@hookspec
def register_metrics(register: Callable) -> None:
    """`register("fpr80", fpr80)`: `fpr80(normal, anomaly) -> float` of scores, NumPy arrays (N,) and (M,) float64,
    higher = more anomalous.

    `--metric fpr80` measures it for every score, and records it beside the AUROC.
    """


@hookspec
def register_reporters(register: Callable) -> None:
    """`register(MyReporter)`, a `harness.Reporter` subclass: `--reporter NAME` has it told of all that happens.

    It is made as `MyReporter(results)`, with the results folder. Its methods are the events of a run: `begin` and
    `end`; `fit_started`, `fit_reused` and `fit_finished`; `epoch`; `scoring`; `evaluated` and `failed`; `waiting`.
    """
