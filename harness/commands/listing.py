"""The commands that tell what there is: `harness list` and `harness show`."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.completion import plugin_names
from harness.commands.options import plugin_option

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from harness.plugins import Entry, Source

KINDS = ("protocols", "recipes", "methods", "datasets", "networks", "scores", "metrics", "reporters", "plugins")


@click.command("list")
@click.argument("what", metavar="WHAT", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@plugin_option
def list_(what: str, as_json: bool, plugin_paths: tuple[Path, ...]) -> None:
    """What there is to choose from.

    WHAT: protocols, recipes, methods, datasets, networks, scores, metrics, reporters, plugins.

    \b
    harness list methods
    """
    rows = rows_of(what, plugin_paths)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        name, *rest = row.values()
        click.echo("\n    ".join([name, *(value for value in rest if value)]))


def rows_of(what: str, plugin_paths: tuple[Path, ...] = ()) -> list[dict[str, str]]:
    """What is listed, a row each; the first value is its name."""
    if what == "protocols":
        return _protocols()
    if what == "recipes":
        return _recipes()
    from harness.plugins import Plugins

    plugins = Plugins(plugin_paths)
    entries = plugins.entries
    if what == "plugins":
        return [_plugin(source, entries, plugins.broken) for source in plugins.sources]
    wanted = [entry for entry in entries if f"{entry.kind}s" == what]
    return [
        *({"name": name, "summary": summary} for name, summary in _built_in(what).items()),
        *({"name": entry.name, "summary": entry.summary, "file": str(entry.source.path)} for entry in wanted),
    ]


def _protocols() -> list[dict[str, str]]:
    import tomllib

    from harness.paths import protocol_files

    rows = []
    for path in protocol_files().values():
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        rows.append({"name": data["name"], "title": data["title"], "datasets": ", ".join(data["dataset"])})
    return rows


def _recipes() -> list[dict[str, str]]:
    from harness.recipe import bundled_recipes, exceptions, read_recipe

    rows = []
    for dataset, names in bundled_recipes().items():
        for name in names:
            _, recipe = read_recipe(dataset, name, "", {})
            own: dict[str, list[str]] = {}
            for method, values in exceptions(dataset, name).items():
                told = ", ".join(f"{key} {value}" for key, value in values.items() if value != getattr(recipe, key))
                own.setdefault(told, []).append(method)
            rows.append(
                {
                    "name": f"{dataset}: {name}",
                    "default": "the default" if name == names[0] else "",
                    "values": str(recipe),
                    "exceptions": "; ".join(
                        f"{', '.join(methods)}: {values}" for values, methods in own.items() if values
                    ),
                    "note": recipe.note,
                }
            )
    return rows


def _built_in(what: str) -> dict[str, str]:
    """What is there without any plugin, with a line on each."""
    if what == "networks":
        from harness.kit import NETWORKS

        return NETWORKS
    if what == "metrics":
        from harness.metrics import Metrics

        return {name: field.description or "" for name, field in Metrics.model_fields.items()}
    return {}


def _plugin(source: Source, entries: Sequence[Entry], broken: Mapping[Source, str]) -> dict[str, str]:
    brings = ", ".join(f"{entry.kind} {entry.name}" for entry in entries if entry.source == source)
    problem = f"BROKEN: {broken[source]}" if source in broken else ""
    return {"file": str(source.path), "origin": source.origin, "registers": brings, "problem": problem}


@click.command(short_help="What a plugin, a protocol or a recipe is, and its parameters.")
@click.argument("target", metavar="NAME_OR_FILE", shell_complete=plugin_names())
@plugin_option
def show(target: str, plugin_paths: tuple[Path, ...]) -> None:
    """What a plugin says of itself: what it is, its scores, and the parameters that --set changes. Of a bundled
    protocol, the whole file; of a network or metric, a line; of recipe, the values that one has.

    \b
    harness show rotnet
    harness show digits
    harness show test2
    harness show recipe
    """
    from harness.digests import generic
    from harness.paths import protocol_files
    from harness.plugins import Plugins
    from harness.recipe import COMMENTARY, Recipe

    plugins = Plugins(plugin_paths)
    if not any(entry.name == target for entry in plugins.entries):
        if path := protocol_files().get(target):
            click.echo(f"protocol {target} ({path})\n\n{path.read_text(encoding='utf-8')}", nl=False)
            return
        if target == "recipe":
            fields = {key: field for key, field in Recipe.model_fields.items() if key not in COMMENTARY}
            click.echo("\n    ".join(["recipe: how a network is trained", *_settings(target, fields)]))
            return
        for kind in ("network", "metric"):
            if summary := _built_in(f"{kind}s").get(generic(target)):
                click.echo(f"{kind} {target}\n    {summary}")
                return
    for entry in plugins.named(target):
        click.echo(f"{entry.kind} {entry.name} ({entry.source.path})")
        for line in _about(entry, plugins.get(entry.kind, entry.name)):
            click.echo(f"    {line}".rstrip())


def _about(entry: Entry, thing: Any) -> list[str]:
    lines = [*inspect.cleandoc(thing.__doc__ or "").splitlines(), ""]
    if entry.kind == "method":
        labels = "sees the sub-clusters where the protocol shows them" if thing.uses_labels else "sees no labels"
        lines += [f"scores: {', '.join(thing.scores)}; {labels}", ""]
    fields = thing.Params.model_fields if entry.kind in ("method", "dataset") else {}
    lines += _settings(entry.name, fields, getattr(thing, "scoring", ()))
    if entry.kind == "method":
        lines.append(
            f"and, if it trains, the values of the recipe (harness show recipe), as in --set {entry.name}.epochs=20"
        )
    return lines if lines[-1] else lines[:-1]


def _settings(owner: str, fields: Mapping[str, FieldInfo], scoring: Sequence[str] = ()) -> list[str]:
    """What --set changes of something, with its default if it has one, and what it means."""
    from harness.settings import typed

    lines = []
    for key, field in fields.items():
        default = "" if field.is_required() or field.default is None else typed(field.get_default())
        untrained = "without training anew" if key in scoring else ""
        told = "; ".join(part for part in (field.description, untrained) if part)
        lines += [f"--set {shlex.quote(f'{owner}.{key}={default}')}", *([f"    {told}"] if told else [])]
    return lines
