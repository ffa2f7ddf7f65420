"""The command line. Thin: each command resolves its options and hands over to the core.

Nothing heavy is imported at the top, so that --help and list are instant.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.authoring import check, new
from harness.data import data
from harness.errors import HarnessError, Interrupted, one_line
from harness.listing import list_, show
from harness.options import data_option, filter_options, plugin_option
from harness.running import plan, rescore, run

if TYPE_CHECKING:
    from harness.plugins import Plugins
    from harness.records import Record, Store


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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if any("\ud800" <= char <= "\udfff" for char in word):  # a record with such a name could not be read again
                ctx.fail(f"{one_line(word)}: these letters are not UTF-8; write another name")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that can't be written there is written with escapes
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            raise Refusal(str(error), error.exit_code) from None
        except click.UsageError as error:  # it quotes what was typed as it is
            error.message = one_line(error.message)
            raise
        except BrokenPipeError:  # the reader, such as head, has seen enough
            sys.stderr.close()
            ctx.exit(0)
        except KeyboardInterrupt:
            raise Refusal("interrupted", Interrupted.exit_code) from None
        except OSError as error:  # a file that can't be read, a disk that is full
            raise Refusal(one_line(str(error))) from None


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


main.add_command(list_)
main.add_command(show)


@main.command()
@filter_options
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def results(form: str, **filters: Any) -> None:
    """Every number on record, one line per score.

    \b
    harness results --protocol test2 --format csv > test2.csv
    """
    from harness.results import results_text

    records, unknown = _filtered(filters)
    for line in unknown:
        click.echo(line, err=True)
    click.echo(results_text(records, form), nl=False)


@main.command()
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
    if out is not None:
        for path in publish.publish(records, store, out, form, protocols, _plugins(plugin_paths), data):
            click.echo(path)
        return
    made = leaderboards(records, protocols, store.scores)
    if form == "html":
        from harness.page import page
        from harness.published import read_published

        click.echo(page(made, store.scores, read_published(), _plugins(plugin_paths), data), nl=False)
    else:
        click.echo(render_all([one.table for one in made], form), nl=False)


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
main.add_command(data)


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
