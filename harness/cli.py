"""The command line. Thin: each command resolves its options and hands over to the core.

Nothing heavy is imported at the top, so that --help and list are instant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.authoring import check, new
from harness.errors import HarnessError, Interrupted
from harness.options import data_option, filter_options, plugin_option
from harness.running import plan, rescore, run

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.records import Record, Store

LISTED = ("protocols", "methods", "datasets", "networks", "scores", "metrics", "reporters", "plugins")


class Refusal(click.ClickException):
    """A HarnessError as the command line shows it: one line, exit code 2."""

    def __init__(self, message: str, exit_code: int = 2):
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        click.echo(f"harness: {self.message}", err=True)


class Commands(click.Group):
    """Commands in the order in which they are written, and one line for what the user got wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            raise Refusal(str(error), error.exit_code) from None
        except BrokenPipeError:  # the reader, such as head, has seen enough
            sys.stderr.close()
            ctx.exit(0)
        except KeyboardInterrupt:
            raise Refusal("interrupted", Interrupted.exit_code) from None
        except OSError as error:  # a file that can't be read, a disk that is full
            raise Refusal(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Compare detectors of semantic anomalies in images.

    \b
    harness run --protocol test2 --method subcluster,rotnet,ssl
    harness leaderboard --protocol test2
    """


for _command in (run, rescore, plan):
    main.add_command(_command)


@main.command("list")
@click.argument("what", type=click.Choice(LISTED))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@plugin_option
def list_(what: str, as_json: bool, plugin_paths: tuple[Path, ...]) -> None:
    """What there is to choose from.

    \b
    harness list methods
    """
    rows = _protocol_rows() if what == "protocols" else _plugin_rows(what, plugin_paths)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        name, *rest = row.values()
        click.echo(f"{name}\n    " + "\n    ".join(str(value) for value in rest if value))


def _protocol_rows() -> list[dict[str, str]]:
    import tomllib

    from harness.paths import PROTOCOLS

    rows = []
    for path in sorted(PROTOCOLS.glob("*.toml")):
        if path.stem != "recipes":
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            rows.append({"name": data["name"], "title": data["title"], "datasets": ", ".join(data["dataset"])})
    return rows


def _plugin_rows(what: str, plugin_paths: tuple[Path, ...]) -> list[dict[str, str]]:
    plugins = _plugins(plugin_paths)
    entries = plugins.entries
    if what != "plugins":
        wanted = [entry for entry in entries if f"{entry.kind}s" == what]
        from harness.kit import NETWORKS

        bundled = [{"name": name} for name in NETWORKS] if what == "networks" else []
        return bundled + [{"name": e.name, "summary": e.summary, "file": str(e.source.path)} for e in wanted]
    rows = []
    for source in plugins.sources:
        brings = ", ".join(f"{entry.kind} {entry.name}" for entry in entries if entry.source == source)
        broken = f"BROKEN: {plugins.broken[source]}" if source in plugins.broken else ""
        rows.append({"file": str(source.path), "origin": source.origin, "registers": brings, "problem": broken})
    return rows


@main.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def results(form: str, **filters: Any) -> None:
    """Every number on record, one line per score.

    \b
    harness results --protocol test2 --format csv > test2.csv
    """
    from harness.results import results_text

    click.echo(results_text(_filtered(filters), form), nl=False)


@main.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["md", "html", "tex", "csv"]), default="md", show_default=True)
@click.option("--out", type=Path, help="Publish here: the tables, and the records and scores that they are made from.")
@click.option("--check", is_flag=True, help="Derive all that is published in --out (or leaderboard/) again.")
def leaderboard(form: str, out: Path | None, check: bool, **filters: Any) -> None:
    """The tables of the paper, from the records.

    \b
    harness leaderboard --protocol test2
    harness leaderboard --out leaderboard/
    harness leaderboard --check --out leaderboard/
    """
    from harness import publish
    from harness.leaderboard import leaderboards
    from harness.table import render_all

    store, protocols = _store(filters["results"]), filters["protocol"]
    if check:
        folder = out or Path("leaderboard")
        found = publish.problems(folder, protocols)
        for problem in found:
            click.echo(problem)
        click.echo(f"{folder}: {len(found)} problem(s)" if found else f"{folder}: everything derives from its records")
        raise SystemExit(1 if found else 0)
    records = _some(filters)
    if out is None:
        made = leaderboards(records, protocols, store.scores)
        click.echo(render_all([one.table for one in made], form), nl=False)
    else:
        for path in publish.publish(records, store, out, form, protocols):
            click.echo(path)


@main.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["md", "html", "tex", "csv"]), default="md", show_default=True)
def compare(form: str, **filters: Any) -> None:
    """Ours, the paper's, the difference, and whether it is more than noise.

    \b
    harness compare --protocol test2 --dataset mnist
    """
    from harness.compare import comparisons
    from harness.leaderboard import leaderboards
    from harness.published import read_published
    from harness.table import render_all

    published = [one for one in read_published() if not filters["case"] or one.case in filters["case"]]
    tables = comparisons(leaderboards(_some(filters), filters["protocol"]), published)
    click.echo(render_all(tables, form), nl=False)


main.add_command(new)
main.add_command(check)


@main.group()
def data() -> None:
    """Data sets: which there are, fetch them, see that they are whole."""


@data.command("list")
@plugin_option
def data_list(plugin_paths: tuple[Path, ...]) -> None:
    """The data sets that there are.

    \b
    harness data list
    """
    for row in _plugin_rows("datasets", plugin_paths):
        click.echo(f"{row['name']}\n    {row['summary']}")


@data.command("fetch")
@click.argument("name")
@data_option
@plugin_option
def data_fetch(name: str, data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """Download a data set into the data folder.

    \b
    harness data fetch mnist --data ~/data
    """
    dataset = _plugins(plugin_paths).dataset(name, data)
    dataset.fetch()
    _verify(dataset)


@data.command("verify")
@click.argument("name")
@data_option
@plugin_option
def data_verify(name: str, data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """Load a data set, and say how many images there are.

    \b
    harness data verify mnist --data ~/data
    """
    _verify(_plugins(plugin_paths).dataset(name, data))


def _verify(dataset: Any) -> None:
    for split in ("train", "test"):
        images, labels = dataset.load(split, tuple(dataset.classes))
        shape = " x ".join(map(str, images.shape[1:]))
        click.echo(f"{dataset.name} {split}: {len(images)} images of {shape}, {len(labels.unique())} classes")


def _plugins(paths: tuple[Path, ...]) -> Plugins:
    from harness.plugins import Plugins

    return Plugins(paths)


def _store(root: Path) -> Store:
    from harness.records import Store

    return Store(root)


def _filtered(filters: dict[str, Any]) -> list[Record]:
    chosen = {name: values for name, values in filters.items() if name != "results" and values}
    chosen["protocol"] = tuple(_name_of(name) for name in chosen.get("protocol", ()))
    return [
        record
        for record in _store(filters["results"]).records()
        if all(getattr(record, name) in values for name, values in chosen.items() if values)
    ]


def _some(filters: dict[str, Any]) -> list[Record]:
    records = _filtered(filters)
    if not records:
        raise HarnessError(f"--results {filters['results']}: no record matches; run something first")
    return records


def _name_of(protocol: str) -> str:
    from harness.protocol import read_protocol

    return read_protocol(protocol).name if protocol.endswith(".toml") else protocol
