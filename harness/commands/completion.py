"""What the shell completes with the Tab key. Nothing heavy is imported for it, and nothing is ever refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from harness.errors import HarnessError

Names = Callable[[click.Context], Iterable[str]]


def plugin_names(*kinds: str) -> Callable:
    """Completes the name of a plugin of these kinds, of any if none is given, or a path."""
    return lambda ctx, param, incomplete: matching(of_plugins(*kinds), ctx, incomplete)


def of_plugins(*kinds: str) -> Names:
    def names(ctx: click.Context) -> Iterable[str]:
        from harness.plugins import Plugins

        entries = Plugins(ctx.params.get("plugin_paths") or ()).entries
        return [entry.name for entry in entries if entry.kind in kinds or not kinds]

    return names


def protocols(ctx: click.Context) -> Iterable[str]:
    from harness.paths import protocol_files

    return protocol_files()


def recipes(ctx: click.Context) -> Iterable[str]:
    """Those of the data set that was named; of all where none was."""
    from harness.recipe import bundled_recipes

    declared, dataset = bundled_recipes(), ctx.params.get("dataset")
    return declared.get(dataset) or dict.fromkeys(name for names in declared.values() for name in names)


def matching(names: Names, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The names that the last part of a list with commas may become; else it is a path."""
    head, comma, last = incomplete.rpartition(",")
    try:
        found = [name for name in dict.fromkeys(names(ctx)) if name.startswith(last)]
    except (HarnessError, OSError):
        found = []
    return [CompletionItem(f"{head}{comma}{name}") for name in found] or [CompletionItem(incomplete, type="file")]
