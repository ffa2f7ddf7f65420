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
from harness.errors import HarnessError
from harness.options import (
    Comma,
    data_option,
    device_option,
    filter_options,
    plugin_option,
    request_options,
)

if TYPE_CHECKING:
    from harness.executors.ray import Cluster
    from harness.plan import Plan, Request
    from harness.plugins import Plugins
    from harness.records import Record, Store

LISTED = ("protocols", "methods", "datasets", "networks", "scores", "metrics", "reporters", "plugins")
INTERRUPTED = 130
"""The exit code of Ctrl-C, as of shells: 128 + SIGINT."""


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
            raise Refusal("interrupted", INTERRUPTED) from None
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


@main.command()
@request_options
@device_option
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where fits run: in this process, or on Ray.",
)
@click.option("--reporter", type=Comma(), default=(), help="Who is told of each step, as in tensorboard.")
@click.option("--ray-address", help="A running cluster, as in host:6379; by default this machine's own, or a new one.")
@click.option("--ray-gpus", type=click.FloatRange(0), help="GPUs for each fit, as in 0.25; by default 1, if any.")
@click.option("--ray-cpus", type=click.FloatRange(0, min_open=True), help="Cores for each fit; by default 1.")
def run(
    device: str,
    executor: str,
    reporter: tuple[str, ...],
    ray_address: str | None,
    ray_gpus: float | None,
    ray_cpus: float | None,
    plugin_paths: tuple[str, ...],
    results: Path,
    **wanted: Any,
) -> None:
    """Train and score what is not yet on record, then show the table.

    \b
    harness run --protocol test2 --method subcluster,rotnet,ssl --dataset mnist --seed 0,1,2 --data ~/data
    """
    from harness.environment import check_device
    from harness.plan import make_plan

    check_device(device)
    cluster = _cluster(executor, device, address=ray_address, gpus=ray_gpus, cpus=ray_cpus)
    plugins, store, request = _plugins(plugin_paths), _store(results), _request(wanted)
    plan, reporters = make_plan(request, plugins, store), plugins.chosen("reporter", reporter)
    _carry_out(plan, plugins, store, request, device, cluster, reporters)


@main.command()
@request_options
@device_option
def rescore(device: str, plugin_paths: tuple[str, ...], results: Path, **wanted: Any) -> None:
    """Score finished fits anew, never training: by further scores, metrics, scoring parameters or protocols.

    \b
    harness rescore --protocol test2 --method subcluster --score Energy
    harness rescore --protocol test2 --method rotnet --set rotnet.aggregate=true
    """
    from harness.environment import check_device
    from harness.plan import make_plan

    check_device(device)
    plugins, store, request = _plugins(plugin_paths), _store(results), _request(wanted)
    whole = make_plan(request, plugins, store)
    plan = whole.of_finished_fits(store)
    if not plan.planned:
        raise HarnessError(f"--results {results}: no finished fit of what is asked for; harness run trains it")
    if len(plan.planned) < len(whole.planned):
        click.echo(f"{len(whole.planned) - len(plan.planned)} evaluation(s) left out: not trained yet", err=True)
    _carry_out(plan, plugins, store, request, device, None, [])


def _carry_out(
    plan: Plan,
    plugins: Plugins,
    store: Store,
    request: Request,
    device: str,
    cluster: Cluster | None,
    reporters: list[str],
) -> None:
    """What there is to do, and then the tables; the exit code is 1 if something failed."""
    store.prepare()
    if plan.jobs() or plan.skips():
        _execute(plan, plugins, store, request, device, cluster, reporters)
    else:
        click.echo(plan.summary(), err=True)
    cells = {one.evaluation.cell for one in plan.planned}
    records = [record for cell in cells if (record := store.find(cell))]
    _print_leaderboards(records, request.protocols, store)
    failed = [record for record in records if record.status == "failed"]
    if failed:
        click.echo(f"{len(failed)} evaluation(s) failed; the tracebacks are in {store.root / 'failures'}", err=True)
        raise SystemExit(1)


@main.command()
@request_options
def plan(plugin_paths: tuple[str, ...], results: Path, **wanted: Any) -> None:
    """Show what a run would do: done, to run, stale (and why), failed before, or skipped (and why).

    \b
    harness plan --protocol test2 --method subcluster,rotnet,ssl --seed 0,1,2
    """
    from harness.plan import make_plan
    from harness.table import Table

    made = make_plan(_request(wanted), _plugins(plugin_paths), _store(results))
    rows = []
    for one in made.planned:
        e = one.evaluation
        status = f"{one.status}: {one.reason}" if one.reason else one.status
        rows.append(
            [e.protocol, e.fit.dataset, e.case, e.anomaly_set, e.fit.method, str(e.fit.seed), e.fit.id[:8], status]
        )
    head = ["protocol", "dataset", "case", "anomalies", "method", "seed", "fit", "status"]
    _show(Table("plan", [head], rows))
    click.echo(made.summary())


def _show(table: Any) -> None:
    """A table for reading in a terminal: aligned, without markup."""
    from tabulate import tabulate

    rows = [[cell.text for cell in row] for row in table.cells]
    click.echo(tabulate(rows, headers=list(table.head[-1]), tablefmt="simple", disable_numparse=True))


@main.command("list")
@click.argument("what", type=click.Choice(LISTED))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@plugin_option
def list_(what: str, as_json: bool, plugin_paths: tuple[str, ...]) -> None:
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


def _plugin_rows(what: str, plugin_paths: tuple[str, ...]) -> list[dict[str, str]]:
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
    from harness.table import render

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
        click.echo("\n".join(render(one.table, form) for one in made), nl=False)
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
    from harness.table import render

    published = [one for one in read_published() if not filters["case"] or one.case in filters["case"]]
    tables = comparisons(leaderboards(_some(filters), filters["protocol"]), published)
    click.echo("\n".join(render(table, form) for table in tables), nl=False)


main.add_command(new)
main.add_command(check)


@main.group()
def data() -> None:
    """Data sets: which there are, fetch them, see that they are whole."""


@data.command("list")
@plugin_option
def data_list(plugin_paths: tuple[str, ...]) -> None:
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
def data_fetch(name: str, data: Path, plugin_paths: tuple[str, ...]) -> None:
    """Download a data set into the data folder.

    \b
    harness data fetch mnist --data ~/data
    """
    dataset = _plugins(plugin_paths).get("dataset", name)(data)
    dataset.fetch()
    _verify(dataset)


@data.command("verify")
@click.argument("name")
@data_option
@plugin_option
def data_verify(name: str, data: Path, plugin_paths: tuple[str, ...]) -> None:
    """Load a data set, and say how many images there are.

    \b
    harness data verify mnist --data ~/data
    """
    _verify(_plugins(plugin_paths).get("dataset", name)(data))


def _verify(dataset: Any) -> None:
    for split in ("train", "test"):
        images, labels = dataset.load(split, tuple(dataset.classes))
        shape = " x ".join(map(str, images.shape[1:]))
        click.echo(f"{dataset.name} {split}: {len(images)} images of {shape}, {len(labels.unique())} classes")


def _plugins(paths: tuple[str, ...]) -> Plugins:
    from harness.plugins import Plugins

    return Plugins(map(Path, paths))


def _store(root: Path) -> Store:
    from harness.records import Store

    return Store(root)


def _request(wanted: dict[str, Any]) -> Request:
    from harness.plan import Request

    plural = {name: f"{name}s" for name in ("protocol", "method", "case", "seed", "score", "metric")}
    for name in ("protocol", "method", "seed"):
        if not wanted[name]:
            raise HarnessError(f"--{name}: names nothing")
    return Request(**{plural.get(name, name): value for name, value in wanted.items()})


def _cluster(executor: str, device: str, **wanted: Any) -> Cluster | None:
    """What is asked of Ray; None where nothing is."""
    given = {name: value for name, value in wanted.items() if value is not None}
    if executor != "ray":
        if given:
            raise HarnessError(f"--ray-{next(iter(given))}: only with --executor ray")
        return None
    from harness.executors.ray import Cluster

    if ":" in device:
        raise HarnessError(f"--device {device}: Ray chooses among the GPUs; write cuda")
    return Cluster(device=device, **given)


def _execute(
    plan: Plan,
    plugins: Plugins,
    store: Store,
    request: Request,
    device: str,
    cluster: Cluster | None,
    reporters: list[str],
) -> None:
    from rich.console import Console

    from harness.environment import choose_device
    from harness.executors import local, ray
    from harness.plan import outstanding
    from harness.progress import reporter
    from harness.reporters import with_plugins
    from harness.run import Worker

    chosen = "cpu" if cluster else choose_device(device)
    told = with_plugins(reporter(Console(stderr=True)), reporters, plugins, store.root)
    worker = Worker(plugins, store, request.data, chosen, told)
    try:
        ray.execute(plan, worker, cluster) if cluster else local.execute(plan, worker)
    except KeyboardInterrupt:
        wanted = [evaluation for _, each in plan.jobs() for evaluation in each]
        done = len(wanted) - len(outstanding(wanted, store))
        raise Refusal(
            f"interrupted: {done} of {len(wanted)} evaluations are on record; run the same command to go on",
            INTERRUPTED,
        ) from None


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


def _print_leaderboards(records: list[Record], protocols: tuple[str, ...], store: Store) -> None:
    from harness.leaderboard import leaderboards
    from harness.table import render

    click.echo("\n".join(render(one.table, "md") for one in leaderboards(records, protocols, store.scores)), nl=False)
