"""What is on record: as rows, as the paper's tables, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.filters import chosen, filter_options, filtered
from harness.commands.options import Place, data_option, plugin_option
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.records import Record, Store
    from harness.report.leaderboard import Leaderboard


form_option = click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "tex", "csv"]),
    show_default="md, but drawn on a terminal",
    help="csv has one line per number.",
)


@click.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def results(form: str, **filters: Any) -> None:
    """Every number on record, one line per score.

    \b
    harness results --protocol test2 --format csv > test2.csv
    """
    from harness.report.results import results_text

    records, unknown = filtered(filters)
    for line in unknown:
        click.echo(line, err=True)
    click.echo(results_text(records, form), nl=False)


@click.command()
@filter_options
@form_option
@click.option(
    "--out", type=Place(), help="Publish here: the tables, and the records and scores that they are made from."
)
@click.option("--check", is_flag=True, help="Derive all that is published in --out (or leaderboard/) again.")
@data_option
@plugin_option
def leaderboard(
    form: str | None, out: Path | None, check: bool, data: Path, plugin_paths: tuple[Path, ...], **filters: Any
) -> None:
    """The tables of the paper, from the records. As html: one page, with the evidence behind each number.

    --data is where the page finds the test images that it shows, of data whose terms allow it.

    \b
    harness leaderboard --protocol test2
    harness leaderboard --format html --data data > page.html
    harness leaderboard --out leaderboard/
    harness leaderboard --check --out leaderboard/
    """
    from harness.records import Store
    from harness.report import publish
    from harness.report.terminal import show

    store, protocols = Store(filters["results"]), filters["protocol"]
    if check:
        _refuse_filters()
        from harness.report.verify import problems

        folder = out or Path("leaderboard")
        found = problems(folder, protocols, _plugins(plugin_paths))
        for problem in found:
            click.echo(problem)
        click.echo(f"{folder}: {len(found)} problem(s)" if found else f"{folder}: everything derives from its records")
        raise SystemExit(1 if found else 0)
    records = chosen(filters)
    if out is not None:
        plugins = _plugins(plugin_paths)
        counts = publish.publish(records, store, out, form or "md", protocols, plugins, data, tell=click.echo)
        click.echo(f"{out}: {', '.join(f'{n} record(s) {what}' for what, n in counts.items() if n)}", err=True)
        return
    whole = not any(filters[name] for name in ("method", "case", "settings"))
    made, refused = _boards(records, protocols, store, scores=store.scores, whole=whole)
    if form == "html":
        from harness.report.page import page
        from harness.report.published import read_published

        click.echo(page(made, store.scores, read_published(), _plugins(plugin_paths), data), nl=False)
    elif form is None:
        show([one.table for one in made])
    else:
        click.echo(publish.text_of(made, form), nl=False)
    _tell(refused)


@click.command(short_help="Ours beside the paper's numbers, or one method beside all.")
@filter_options
@form_option
@click.option(
    "--against",
    metavar="METHOD[.SCORE][@RECIPE]",
    help="Compare with this method's numbers, not with the paper's; by this recipe, if one is named.",
)
def compare(form: str | None, against: str | None, **filters: Any) -> None:
    """Ours, the paper's, the difference, and whether it is more than noise. Or so for one method and all others.

    \b
    harness compare --protocol test2 --dataset mnist
    harness compare --protocol test2 --dataset mnist --against ssl.KL
    harness compare --method subcluster --against subcluster.MAX@paper
    """
    from harness.records import Store
    from harness.report.compare import comparisons
    from harness.report.paired import paired, parsed
    from harness.report.published import AVERAGE, read_published
    from harness.report.table import render_all, stacked
    from harness.report.terminal import show

    store, cases = Store(filters["results"]), filters["case"]
    if against and filters["recipe"] and (recipe := parsed(against)[2]):
        filters["recipe"] += (recipe,)  # what it is compared with stays
    if AVERAGE in cases and not against:
        filters["case"] = ()  # an average is of all cases
    boards, refused = _boards(chosen(filters), filters["protocol"], store)
    tables = paired(boards, against, store.scores) if against else comparisons(boards, read_published(), cases)
    if form is None:
        show(tables)
    else:
        click.echo(render_all([stacked(tables)] if form == "csv" else tables, form), nl=False)
    _tell(refused)


def _boards(
    records: Sequence[Record], protocols: Sequence[str], store: Store, **more: Any
) -> tuple[list[Leaderboard], list[HarnessError]]:
    """The tables that can be made of records, and why others can't.

    Raises:
        HarnessError: none can.
    """
    from harness.report.leaderboard import leaderboards

    refused: list[HarnessError] = []
    made = leaderboards(records, protocols, folder=store.root, refused=refused, **more)
    if refused and not made:
        raise refused[0]
    return made, refused


def _tell(refused: Sequence[HarnessError]) -> None:
    """Say why tables are missing among those that were shown."""
    for error in refused:
        click.echo(f"harness: {error}", err=True)
    if refused:
        raise SystemExit(HarnessError.exit_code)


def _refuse_filters() -> None:
    """Whoever asks for a part of the tables, or names a folder otherwise than by --out, is not to believe that this is
    what was checked."""
    context = click.get_current_context()
    for option in context.command.params:
        is_path = option.name == "protocol" and all(name.endswith(".toml") for name in context.params["protocol"])
        given = context.get_parameter_source(option.name) is not click.core.ParameterSource.DEFAULT
        if given and not is_path and option.name not in ("check", "out", "data", "plugin_paths"):
            raise HarnessError(f"--check: derives all of --out again; leave out {option.opts[0]}")


def _plugins(paths: tuple[Path, ...]) -> Plugins:
    from harness.plugins import Plugins

    return Plugins(paths)
