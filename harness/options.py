"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Comma(click.ParamType):
    """`a,b,c` as a tuple, empty parts dropped."""

    name = "a,b,…"

    def __init__(self, kind: type = str):
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in map(str.strip, str(value).split(",")) if part)
        except ValueError:
            self.fail(f"{value!r}: write whole numbers with commas, as in 0,1,2", param, ctx)


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


plugin_option = click.option(
    "--plugins",
    "plugin_paths",
    multiple=True,
    type=Path,
    metavar="DIR_OR_FILE",
    help="More plugins: a .py file or a folder of them.",
)
results_option = click.option(
    "--results", default="results", show_default=True, type=Path, help="The folder that records are kept in."
)
data_option = click.option("--data", default="data", show_default=True, type=Path, help="The folder of the data sets.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
request_options = options(
    click.option("--protocol", required=True, type=Comma(), help="Names or .toml paths, as in test2 or ./my.toml."),
    click.option(
        "--method", required=True, type=Comma(), help="Names or .py paths, as in subcluster,rotnet,./mine.py."
    ),
    click.option("--dataset", default="digits", show_default=True, help="See: harness list datasets."),
    click.option("--case", type=Comma(), default=(), help="Only these rows of the table."),
    click.option("--seed", type=Comma(int), default=(0,), show_default="0", help="As in 0,1,2."),
    click.option("--recipe", help="paper, fast, or a .toml path; by default the data set's first."),
    click.option(
        "--set", "settings", multiple=True, metavar="NAME.KEY=VALUE", help="As in rotnet.epochs=20. Repeatable."
    ),
    click.option("--score", type=Comma(), default=(), help="Scores to add to methods with logits, as in Energy."),
    click.option("--metric", type=Comma(), default=(), help="Metrics of plugins to measure beside the AUROC."),
    results_option,
    data_option,
    plugin_option,
)
filter_options = options(
    click.option("--protocol", type=Comma(), default=(), help="Only these."),
    click.option("--dataset", type=Comma(), default=(), help="Only these."),
    click.option("--method", type=Comma(), default=(), help="Only these."),
    click.option("--case", type=Comma(), default=(), help="Only these."),
    click.option("--seed", type=Comma(int), default=(), help="Only these."),
    click.option("--recipe", type=Comma(), default=(), help="Only these."),
    results_option,
)
