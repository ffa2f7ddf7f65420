"""The commands for authors of plugins: `harness new` and `harness check`."""

from __future__ import annotations

from pathlib import Path
from traceback import format_exception

import click

from harness.commands.options import data_option, plugin_option, settings_option


@click.command(short_help="Write a working plugin and its test, to start from.")
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


@click.command(short_help="See whether a plugin keeps to its contract.")
@click.argument("target", metavar="NAME_OR_FILE")
@click.option("--traceback", is_flag=True, help="Show where that comes from which a plugin raises.")
@settings_option
@data_option
@plugin_option
def check(target: str, traceback: bool, settings: tuple[str, ...], data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """See whether a plugin keeps to its contract: on the CPU, in seconds.

    \b
    harness check ./my-method.py
    harness check subcluster
    harness check folder --set folder.path=/my/pictures
    """
    from harness.plugins import Plugins
    from harness.settings import parse_settings
    from harness.testing import Broken, checks

    broken, unseen = 0, 0
    for entry, each in checks(target, Plugins(plugin_paths), data, parse_settings(settings)).items():
        click.echo(f"{entry.kind} {entry.name} ({entry.source.path})")
        alike: dict[str, list[str]] = {}
        for one in each:
            try:
                note = one()
            except Broken as finding:
                names = alike.setdefault(finding.bug, [])
                names.append(one.name)
                if len(names) == 1:
                    click.echo(f"  FAILED  {one.name}: {finding.reason}\n          mend: {finding.mend}")
                    if traceback and finding.__cause__:
                        click.echo("".join(format_exception(finding.__cause__)))
            else:
                click.echo(f"  ok      {one.name}: {one.promise}" + (f" ({note})" if note else ""))
        for first, *others in alike.values():
            if others:
                click.echo(f"  unseen  for the same reason as {first}: {', '.join(others)}")
        broken, unseen = broken + len(alike), unseen + sum(len(names) - 1 for names in alike.values())
    if broken:
        click.echo(f"{broken} check(s) failed" + (f", {unseen} could not be seen" if unseen else ""), err=True)
        raise SystemExit(1)
    click.echo("keeps to the contract")
