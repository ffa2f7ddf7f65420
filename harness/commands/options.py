"""The options that several commands share."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.commands import completion
from harness.commands.completion import of_plugins
from harness.errors import HarnessError


class Comma(click.ParamType):
    """`a,b,c` as a tuple, empty parts dropped; what has a comma in it stands in double quotes, as in CSV."""

    name = "a,b,…"

    def __init__(
        self, kind: Callable[[str], Any] = str, known: completion.Names = lambda ctx: (), may_be_empty: bool = False
    ):
        """`known` is what the shell completes. What names nothing is refused, unless that `may_be_empty`."""
        self.kind, self.known, self.may_be_empty = kind, known, may_be_empty

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        return completion.matching(self.known, ctx, incomplete)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        if isinstance(value, tuple):
            return value
        try:
            (parts,) = csv.reader([" ".join(str(value).splitlines())], skipinitialspace=True, strict=True)
            named = tuple(self.kind(part) for part in map(str.strip, parts) if part)
        except csv.Error:
            said = f"{str(value)[:80]!r}: names with commas between them; a name with a comma in double quotes"
            self.fail(said, param, ctx)
        except ValueError:
            self.fail(f"{str(value)[:80]!r}: write whole numbers with commas, as in 0,1,2", param, ctx)
        return named if self.may_be_empty else something(named, param)


class Place(click.ParamType):
    """A path, or a name in whose place a path may stand; see `at_home`."""

    name = "path"

    def __init__(self, kind: type = Path):
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.kind(at_home(something(value, param)))


def at_home(text: str) -> str:
    """A path with the home folder in the place of `~`, which a shell leaves as it is in `--results=~/x` or `a,~/x`; any
    other text as it is."""
    return os.path.expanduser(text)  # pathlib's raises where there is no such home


def something(value: Any, param: click.Parameter | None) -> Any:
    """The value of an option, if it names anything: `--seed "$SEED"` without a SEED does not mean all seeds, nor
    `--results "$DIR"` the current folder.

    Raises:
        HarnessError: it does not.
    """
    if not value:
        option = f"{param.opts[0]}: " if param else ""
        raise HarnessError(f"{option}names nothing; write what is meant, or leave the option out")
    return value


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
    type=Place(),
    metavar="DIR_OR_FILE",
    help="More plugins: a .py file or a folder of them.",
)
results_option = click.option(
    "--results", default="results", show_default=True, type=Place(), help="The folder that records are kept in."
)
data_option = click.option(
    "--data", default="data", show_default=True, type=Place(), help="The folder of the data sets."
)
settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="As in rotnet.epochs=20. Repeatable. See: harness show NAME.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
request_options = options(
    click.option(
        "--protocol",
        required=True,
        type=Comma(at_home, known=completion.protocols),
        help="Names or .toml paths, as in test2 or ./my.toml.",
    ),
    click.option(
        "--method",
        required=True,
        type=Comma(known=of_plugins("method")),
        help="Names or .py paths, as in subcluster,rotnet,./mine.py.",
    ),
    click.option(
        "--dataset",
        default="digits",
        show_default=True,
        shell_complete=completion.plugin_names("dataset"),
        help="See: harness list datasets.",
    ),
    click.option("--case", type=Comma(), default=(), help="Only these cases, as harness plan lists them."),
    click.option("--seed", type=Comma(int), default="0", show_default=True, help="As in 0,1,2."),
    click.option(
        "--recipe",
        type=Place(str),
        metavar="NAME_OR_FILE",
        shell_complete=lambda ctx, param, incomplete: completion.matching(completion.recipes, ctx, incomplete),
        help="As in fast or ./my.toml; by default the data set's first. See: harness list recipes.",
    ),
    settings_option,
    click.option(
        "--score",
        type=Comma(known=of_plugins("score")),
        default=(),
        help="Scores to add to methods with logits, as in Energy.",
    ),
    click.option(
        "--metric",
        type=Comma(known=of_plugins("metric")),
        default=(),
        help="Metrics of plugins to measure beside the AUROC.",
    ),
    results_option,
    data_option,
    plugin_option,
)
