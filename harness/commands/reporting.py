"""What is on record: as rows, as the paper's tables, beside the paper's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.options import data_option, filter_options, plugin_option
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.records import Record, Store


@click.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def results(form: str, **filters: Any) -> None:
    """Every number on record, one line per score.

    \b
    harness results --protocol test2 --format csv > test2.csv
    """
    from harness.report.results import results_text

    records, unknown = _filtered(filters)
    for line in unknown:
        click.echo(line, err=True)
    click.echo(results_text(records, form), nl=False)


@click.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["md", "html", "tex", "csv"]), default="md", show_default=True)
@click.option("--out", type=Path, help="Publish here: the tables, and the records and scores that they are made from.")
@click.option("--check", is_flag=True, help="Derive all that is published in --out (or leaderboard/) again.")
@data_option
@plugin_option
def leaderboard(
    form: str, out: Path | None, check: bool, data: Path, plugin_paths: tuple[Path, ...], **filters: Any
) -> None:
    """The tables of the paper, from the records. As html: one page, with the evidence behind each number.

    --data is where the page finds the test images that it shows, of data whose terms allow it.

    \b
    harness leaderboard --protocol test2
    harness leaderboard --format html --data data > page.html
    harness leaderboard --out leaderboard/
    harness leaderboard --check --out leaderboard/
    """
    from harness.report import publish
    from harness.report.leaderboard import leaderboards
    from harness.report.table import render_all

    store, protocols = _store(filters["results"]), filters["protocol"]
    if check:
        folder = out or Path("leaderboard")
        found = publish.problems(folder, protocols)
        for problem in found:
            click.echo(problem)
        click.echo(f"{folder}: {len(found)} problem(s)" if found else f"{folder}: everything derives from its records")
        raise SystemExit(1 if found else 0)
    records = _some(filters)
    if out is not None:
        for path in publish.publish(records, store, out, form, protocols, _plugins(plugin_paths), data):
            click.echo(path)
        return
    made = leaderboards(records, protocols, store.scores)
    if form == "html":
        from harness.report.page import page
        from harness.report.published import read_published

        click.echo(page(made, store.scores, read_published(), _plugins(plugin_paths), data), nl=False)
    else:
        click.echo(render_all([one.table for one in made], form), nl=False)


@click.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["md", "html", "tex", "csv"]), default="md", show_default=True)
def compare(form: str, **filters: Any) -> None:
    """Ours, the paper's, the difference, and whether it is more than noise.

    \b
    harness compare --protocol test2 --dataset mnist
    """
    from harness.report.compare import comparisons
    from harness.report.leaderboard import leaderboards
    from harness.report.published import read_published
    from harness.report.table import render_all

    published = [one for one in read_published() if not filters["case"] or one.case in filters["case"]]
    tables = comparisons(leaderboards(_some(filters), filters["protocol"]), published)
    click.echo(render_all(tables, form), nl=False)


def _plugins(paths: tuple[Path, ...]) -> Plugins:
    from harness.plugins import Plugins

    return Plugins(paths)


def _store(root: Path) -> Store:
    from harness.records import Store

    return Store(root)


def _filtered(filters: dict[str, Any]) -> tuple[list[Record], list[str]]:
    """The records that are asked for, and a line for each filter that no record at all has: it may be misspelt."""
    from harness.spec import suggest

    chosen = {name: values for name, values in filters.items() if name != "results" and values}
    if "protocol" in chosen:
        chosen["protocol"] = tuple(_name_of(name) for name in chosen["protocol"])
    records = list(_store(filters["results"]).records())
    unknown = []
    for name, values in chosen.items() if records else ():
        known = {str(getattr(record, name)) for record in records}
        lost = [str(value) for value in values if str(value) not in known]
        unknown += [f"--{name} {value}: no record has it; {suggest(value, known)}" for value in lost]
    asked = [one for one in records if all(getattr(one, name) in values for name, values in chosen.items())]
    return asked, unknown


def _some(filters: dict[str, Any]) -> list[Record]:
    records, unknown = _filtered(filters)
    if not records:
        why = unknown[0] if unknown else "no record matches; run something first"
        raise HarnessError(f"--results {filters['results']}: {why}")
    for line in unknown:
        click.echo(line, err=True)
    return records


def _name_of(protocol: str) -> str:
    from harness.protocol import read_protocol

    return read_protocol(protocol).name if protocol.endswith(".toml") else protocol
