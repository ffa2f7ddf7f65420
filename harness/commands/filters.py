"""The options that choose among what is on record, and the records that they choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from harness.commands import completion
from harness.commands.completion import of_plugins
from harness.commands.options import Comma, at_home, options, results_option
from harness.errors import HarnessError, suggest

if TYPE_CHECKING:
    from harness.records import Record

filter_options = options(
    click.option("--protocol", type=Comma(at_home, known=completion.protocols), default=(), help="Only these."),
    click.option("--dataset", type=Comma(known=of_plugins("dataset")), default=(), help="Only these."),
    click.option("--method", type=Comma(known=of_plugins("method")), default=(), help="Only these."),
    click.option("--case", type=Comma(), default=(), help="Only these."),
    click.option("--seed", type=Comma(int), default=(), help="Only these."),
    click.option("--recipe", type=Comma(known=completion.recipes), default=(), help="Only these."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME.KEY=VALUE",
        help="Only what was run so, one value or another; none: only what was run without any.",
    ),
    results_option,
)


def filtered(filters: dict[str, Any]) -> tuple[list[Record], list[str]]:
    """The records that are asked for, and a line for each filter that no record at all has: it may be misspelt."""
    from harness.records import Store

    wanted = {name: values for name, values in filters.items() if name not in ("results", "settings") and values}
    if "protocol" in wanted:
        wanted["protocol"] = tuple(_name_of(name) for name in wanted["protocol"])
    if not filters["results"].exists():
        raise HarnessError(f"--results {filters['results']}: no such folder; run something first, or name another one")
    records = list(Store(filters["results"]).records())
    unknown = []
    for name, values in wanted.items() if records else ():
        known = {str(getattr(record, name)) for record in records}
        lost = [str(value) for value in values if str(value) not in known]
        unknown += [f"--{name} {value}: no record has it; {suggest(value, known)}" for value in lost]
    for text in filters["settings"] if records else ():
        if not any(map(_set_so((text,)), records)):
            unknown.append(f"--set {text}: no record has it; see harness results")
    set_so = _set_so(filters["settings"])
    if records and not unknown and not any(map(set_so, records)):
        unknown.append(f"--set {' --set '.join(filters['settings'])}: no record has all of these; see harness results")
    asked = [one for one in records if all(getattr(one, name) in values for name, values in wanted.items())]
    return [one for one in asked if set_so(one)], unknown


def chosen(filters: dict[str, Any], strict: bool = False) -> list[Record]:
    """The records that are asked for.

    Args:
        strict: refuse a filter that no record has, where otherwise a line says so.

    Raises:
        HarnessError: there are none, or no record has what a filter names and that is refused.
    """
    records, unknown = filtered(filters)
    if not records or (strict and unknown):
        why = unknown[0] if unknown else "no record matches; run something first"
        raise HarnessError(f"--results {filters['results']}: {why}")
    for line in unknown:
        click.echo(line, err=True)
    return records


def _set_so(texts: tuple[str, ...]) -> Callable[[Record], bool]:
    """Whether a record was run with these settings, and maybe others; with none at all, for the word none.

    Of several values for one key, any will do.
    """
    from harness.settings import parse_settings

    if "none" in texts:
        if len(texts) > 1:
            raise HarnessError("--set none: stands alone; leave the others out")
        return lambda record: not record.settings
    # Compared as text: a parameter's type may have made a truth value of the word "true".
    wanted: dict[tuple[str, str], set[str]] = {}
    for text in texts:
        for owner, each in parse_settings([text]).items():
            for key, value in each.items():
                wanted.setdefault((owner, key), set()).add(_comparable(value))
    return lambda record: all(
        key in record.settings.get(owner, {}) and _comparable(record.settings[owner][key]) in values
        for (owner, key), values in wanted.items()
    )


def _comparable(value: Any) -> str | float:
    """A setting by what it is, however it was typed: `0.10` was the number 0.1, where it was one."""
    text = str(value).lower()
    try:
        return float(text)
    except ValueError:
        return text


def _name_of(protocol: str) -> str:
    from harness.protocol import read_protocol

    return read_protocol(protocol).name if protocol.endswith(".toml") else protocol
