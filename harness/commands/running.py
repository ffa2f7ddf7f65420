"""The commands that make a plan, and carry it out: `harness run`, `harness rescore` and `harness plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import kit
from harness.commands.options import Comma, device_option, request_options
from harness.errors import HarnessError, Interrupted, suggest

if TYPE_CHECKING:
    from harness.executors.ray import Cluster
    from harness.plan import Plan
    from harness.planning import Request
    from harness.plugins import Plugins
    from harness.records import Store


@click.command(short_help="Train and score what is not on record yet, show the table.")
@request_options
@device_option
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where fits run: on this machine, or on Ray.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Fits at once on this machine; by default one for each core (and 4 GiB of memory) or for each GPU.",
)
@click.option(
    "--faster-by",
    type=Comma(may_be_empty=True),
    default=",".join(kit.FASTER_BY_DEFAULT),
    show_default=True,
    help=f"What training may use that changes nothing but rounding, of {', '.join(kit.FASTER_BY)}.",
)
@click.option("--reporter", type=Comma(), default=(), help="Who is told of each step, as in tensorboard.")
@click.option("--ray-address", help="A running cluster, as in host:6379; by default this machine's own, or a new one.")
@click.option("--ray-gpus", type=click.FloatRange(0), help="GPUs for each fit, as in 0.25; by default 1, if any.")
@click.option("--ray-cpus", type=click.FloatRange(0, min_open=True), help="Cores for each fit; by default 1.")
def run(
    device: str,
    executor: str,
    jobs: int | None,
    faster_by: tuple[str, ...],
    reporter: tuple[str, ...],
    ray_address: str | None,
    ray_gpus: float | None,
    ray_cpus: float | None,
    plugin_paths: tuple[Path, ...],
    results: Path,
    **wanted: Any,
) -> None:
    """Train and score what is not yet on record, then show the table.

    \b
    harness run --protocol test2 --method subcluster,rotnet,ssl --dataset mnist --seed 0,1,2 --data ~/data
    """
    from harness.machine import check_device

    check_device(device)
    for name in faster_by:
        if name not in kit.FASTER_BY:
            raise HarnessError(f"--faster-by {name!r}: {suggest(name, kit.FASTER_BY)}")
    if jobs and executor == "ray":
        raise HarnessError("--jobs: only with --executor local; Ray goes by --ray-cpus and --ray-gpus")
    cluster = _cluster(executor, device, address=ray_address, gpus=ray_gpus, cpus=ray_cpus)
    plan, request, plugins, store = _planned(wanted, plugin_paths, results)
    reporters = plugins.chosen("reporter", reporter)
    _carry_out(
        plan, plugins, store, request, device, cluster=cluster, jobs=jobs, faster_by=faster_by, reporters=reporters
    )


@click.command(short_help="Score finished fits anew, without training.")
@request_options
@device_option
def rescore(device: str, plugin_paths: tuple[Path, ...], results: Path, **wanted: Any) -> None:
    """Score finished fits anew, never training: by further scores, metrics, scoring parameters or protocols.

    \b
    harness rescore --protocol test2 --method subcluster --score Energy
    harness rescore --protocol test2 --method rotnet --set rotnet.aggregate=true
    """
    from harness.machine import check_device

    check_device(device)
    whole, request, plugins, store = _planned(wanted, plugin_paths, results)
    plan = whole.of_finished_fits(store)
    if not plan.planned:
        raise HarnessError(f"--results {results}: no fit of what is asked for is kept there; harness run trains it")
    if left_out := len(whole.planned) - len(plan.planned):
        click.echo(f"{left_out} evaluation(s) left out: their fits are not kept; harness run trains them", err=True)
    _carry_out(plan, plugins, store, request, device, trains=False)


def _carry_out(
    plan: Plan,
    plugins: Plugins,
    store: Store,
    request: Request,
    device: str,
    cluster: Cluster | None = None,
    jobs: int | None = 1,
    faster_by: tuple[str, ...] = kit.FASTER_BY_DEFAULT,
    reporters: Sequence[str] = (),
    trains: bool = True,
) -> None:
    """What there is to do, and then the tables; the exit code is 1 if something failed."""
    from harness.commands.hints import below_chance
    from harness.files import write_whole
    from harness.paths import protocol_files
    from harness.plan import outstanding
    from harness.report.leaderboard import leaderboards, own_protocols
    from harness.report.terminal import show

    store.prepare()
    for name, path in own_protocols(request.protocols).items():
        if name not in protocol_files():  # so that its tables can be made from the folder alone
            write_whole(store.root / "protocols" / f"{name}.toml", Path(path).read_bytes())
    wanted = [evaluation for _, each in plan.jobs() for evaluation in each]
    if wanted or plan.skips():
        from harness.executors import local, processes, ray
        from harness.machine import every_device
        from harness.progress import on_stderr
        from harness.reporter import with_plugins
        from harness.run import Worker

        devices = ["cpu"] if cluster else every_device(device)
        told = with_plugins(on_stderr(), reporters, plugins, store.root)
        worker = Worker(plugins, store, request.data, devices[0], told, faster_by, trains=trains)
        try:
            if cluster:
                ray.execute(plan, worker, cluster)
            elif (fits := jobs or processes.at_once(plan, devices)) > 1:
                processes.execute(plan, worker, fits, devices)
            else:
                local.execute(plan, worker)
        except KeyboardInterrupt:
            done = len(wanted) - len(outstanding(wanted, store.find))
            raise Interrupted(
                f"interrupted: {done} of {len(wanted)} evaluations are on record; run the same command to go on"
            ) from None
        if worker.left_out:
            done = [evaluation for evaluation in wanted if evaluation.fit.id not in worker.left_out]
            said = f"{len(wanted) - len(done)} evaluation(s) left out"
            click.echo(f"{said}: what their fits learnt can't be read; harness run trains them anew", err=True)
            wanted = done
    else:
        click.echo(plan.summary(), err=True)
    keys = dict.fromkeys(one.evaluation.key for one in plan.planned)
    recorded = {key: record for key in keys if (record := store.find(key))}
    records = list(recorded.values())
    boards = leaderboards(records, request.protocols, store.scores, whole=False)
    show([board.table for board in boards])
    # A score, metric or accuracy that failed is the reason of a record that holds the method's own numbers, or is
    # still lacking in one from before.
    lacking = {one.key for one in outstanding(wanted, recorded.get)}
    failed = {one.key: one.fit.id for one in wanted if one.key in lacking or recorded[one.key].reason}
    for line in below_chance(records, plugins):
        click.echo(line, err=True)
    if failed:
        traces = dict.fromkeys(map(store.fits.failure, failed.values()))
        first, more = next(iter(traces)), f" and {len(traces) - 1} more there" if len(traces) > 1 else ""
        click.echo(f"{len(failed)} evaluation(s) failed; the traceback is in {first}{more}", err=True)
        raise SystemExit(1)


@click.command(short_help="Show what a run would do, and how long it will take.")
@request_options
def plan(plugin_paths: tuple[Path, ...], results: Path, **wanted: Any) -> None:
    """Show what a run would do: done, to run, stale (and why), failed before, or skipped (and why).

    \b
    harness plan --protocol test2 --method subcluster,rotnet,ssl --seed 0,1,2
    """
    from harness.estimate import estimate

    made, _, _, store = _planned(wanted, plugin_paths, results)
    rows = []
    for one in made.planned:
        e = one.evaluation
        status = f"{one.status}: {one.reason}" if one.reason else one.status
        rows.append(
            [e.protocol, e.fit.dataset, e.case, e.anomaly_set, e.fit.method, str(e.fit.seed), e.fit.id[:8], status]
        )
    head = ["protocol", "dataset", "case", "anomaly_set", "method", "seed", "fit", "status"]
    click.echo(_aligned(head, rows))
    click.echo(made.summary(store))
    methods = dict.fromkeys(one.evaluation.fit.method for one in made.planned)
    for name in methods if len(methods) > 1 else ():
        click.echo(f"    {name}: {made.of(name).summary(store)}")
    if expected := estimate(made, store):
        click.echo(expected)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    """Columns for reading in a terminal. With tabulate, ten thousand rows took as long to lay out as to plan."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _planned(
    wanted: dict[str, Any], plugin_paths: tuple[Path, ...], results: Path
) -> tuple[Plan, Request, Plugins, Store]:
    """The plan of what is asked for, and what it was made from; lines say what a person should look at in that."""
    from harness.commands.hints import namesakes, unknown_methods
    from harness.planning import Request, make_plan
    from harness.plugins import Plugins
    from harness.records import Store

    plural = {name: f"{name}s" for name in ("protocol", "method", "case", "seed", "score", "metric")}
    request = Request(**{plural.get(name, name): value for name, value in wanted.items()})
    plugins, store = Plugins(plugin_paths), Store(results)
    plan = make_plan(request, plugins, store)
    for line in (*namesakes(request.protocols), *unknown_methods(request.recipe, request.protocols, plugins)):
        click.echo(line, err=True)
    return plan, request, plugins, store


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
