"""The commands for authors of plugins: `harness new` and `harness check`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.options import data_option, plugin_option


@click.command()
@click.argument("kind", type=click.Choice(["method", "dataset", "package"]))
@click.argument("name")
def new(kind: str, name: str) -> None:
    """Write a complete, working plugin and its test into the current folder, to start from.

    \b
    harness new method my-method
    harness run --protocol test2 --method ./my-method.py
    """
    from harness.new import new
    from harness.plugins import Plugins

    files, commands = new(kind, name, Plugins())
    for path in files:
        click.echo(f"wrote {path}")
    click.echo("\n".join(["then:", *(f"    {command}" for command in commands)]))


@click.command()
@click.argument("target", metavar="NAME_OR_FILE")
@data_option
@plugin_option
def check(target: str, data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """See whether a method or data set keeps to its contract: on the CPU, in seconds.

    \b
    harness check ./my-method.py
    harness check subcluster
    """
    from harness.plugins import Plugins
    from harness.testing import Broken, checks

    broken, told = 0, set()
    for entry, each in checks(target, Plugins(plugin_paths), data).items():
        click.echo(f"{entry.kind} {entry.name} ({entry.source.path})")
        for one in each:
            try:
                note = one()
            except Broken as finding:
                broken += 1
                known = finding.reason in told
                told.add(finding.reason)
                said = "the same" if known else f"{finding.reason}\n          mend: {finding.mend}"
                click.echo(f"  FAILED  {one.name}: {said}")
            else:
                click.echo(f"  ok      {one.name}: {one.promise}" + (f" ({note})" if note else ""))
    if broken:
        click.echo(f"{broken} check(s) failed", err=True)
        raise SystemExit(1)
    click.echo("keeps to the contract")
