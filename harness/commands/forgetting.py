"""`harness forget`: records that are to stand in no table any more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from harness.commands.filters import chosen, filter_options
from harness.errors import HarnessError


@click.command(short_help="Put records away that are to stand in no table.")
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(yes: bool, results: Path, **filters: Any) -> None:
    """Put records away, into superseded/ in their folder, so that no table shows them.

    What was trained is kept: to run the same again only scores it. One that failed or was skipped holds no
    number, and is removed.

    \b
    harness forget --method lof --set lof.neighbours=5
    """
    from harness.records import Store

    if not any(filters.values()):
        raise HarnessError("forget: name what to put away, as in --method lof --seed 1")
    records = chosen(filters | {"results": results}, strict=True)
    for (protocol, dataset, recipe, method), count in Counter(
        (one.protocol, one.dataset, one.recipe, one.method) for one in records
    ).items():
        click.echo(f"{protocol} on {dataset}, recipe {recipe}, {method}: {count} record(s)")
    try:
        agreed = yes or click.confirm(f"Put {len(records)} record(s) away?", err=True)
    except click.Abort:  # nobody there to answer
        agreed = False
    if not agreed:
        raise HarnessError("nothing was put away; answer y, or give --yes")
    store = Store(results)
    for record in records:
        store.forget(record)
    click.echo(f"{len(records)} record(s) put away")
