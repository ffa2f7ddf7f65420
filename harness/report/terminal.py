"""Tables for a reader at a terminal: drawn to its width, bold as bold. Elsewhere they are Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from harness.errors import one_line
from harness.report.table import Table, render_all

BETWEEN = 2
"""Characters between two columns."""


def show(tables: Sequence[Table]) -> None:
    """Write tables to standard output: drawn if that is a terminal, else as Markdown."""
    if not sys.stdout.isatty():
        click.echo(render_all(tables, "md"), nl=False)
        return
    console = Console(highlight=False)
    for table in tables:
        draw(table, console)


def draw(table: Table, console: Console) -> None:
    """Draw one table. What is too wide goes on below, with the headings of the rows again."""
    console.print(Text(one_line(table.title), style="bold"))
    for columns in _split(table, console.width):
        console.print(_part(table, columns))
        console.print()
    for note in table.notes:
        console.print(Text(f"- {one_line(note)}", style="dim"))
    if table.notes:
        console.print()


def _part(table: Table, columns: Sequence[int]) -> Drawn:
    drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False, padding=(0, BETWEEN - 1, 0, 0), show_edge=False)
    for place in columns:
        drawn.add_column(Text("\n".join(_heading(table, place))), justify="right" if table.numeric[place] else "left")
    rows = table.cells
    for number, row in enumerate(rows, 1):
        cells = [Text(one_line(row[place].text), style="bold" if row[place].bold else "") for place in columns]
        drawn.add_row(*cells, end_section=table.rule_before_last and number == len(rows) - 1)
    return drawn


def _heading(table: Table, place: int) -> list[str]:
    group, name = table.columns[place]
    return [one_line(group), one_line(name)] if group else [one_line(name)]


def _split(table: Table, width: int) -> Iterator[list[int]]:
    """The columns side by side, as many at a time as there is room for, the first one always among them."""
    rows = table.cells
    widths = [
        BETWEEN
        + max(cell_len(text) for text in [*_heading(table, place), *(one_line(row[place].text) for row in rows)])
        for place in range(len(table.columns))
    ]
    part = [0]
    for place in range(1, len(widths)):
        if len(part) > 1 and sum(widths[column] for column in [*part, place]) > width:
            yield part
            part = [0]
        part.append(place)
    yield part
