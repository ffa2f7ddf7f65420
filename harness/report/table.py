"""One table, and its renderings as Markdown, HTML, LaTeX and CSV.

Names in a table come from users' files, so every text is escaped for where it goes: it stays on one line and can
never be read as markup.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from harness.errors import HarnessError, one_line, suggest


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    """What is shown."""
    value: float | None = None
    """The number behind the text, which CSV gives at full precision. A column that has any is set flush right."""
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table as plain data. The first cell of a row is its heading."""

    title: str
    head: Sequence[Sequence[str]]
    """One row of column names; or two, groups first, where adjacent columns of the same group stand under one
    heading, and a column without group ("", or its own name) stands alone."""
    rows: Sequence[Sequence[Cell | str]]
    notes: Sequence[str] = ()
    """Footnotes; CSV, which has no place for them, leaves them out."""
    rule_before_last: bool = False
    """The last row sums up the others, as an average does."""

    def __post_init__(self):
        if len(self.head) not in (1, 2):
            raise ValueError(f"table {self.title!r}: {len(self.head)} header rows; one or two are needed")
        if widths := {len(row) for row in (*self.head, *self.rows)} - {len(self.head[-1])}:
            raise ValueError(f"table {self.title!r}: rows of {len(self.head[-1])} and {max(widths)} cells")

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The group, or "", and the name of each column."""
        groups = self.head[0] if len(self.head) == 2 else [""] * len(self.head[0])
        pairs = zip(groups, self.head[-1], strict=True)
        return [(group, name) if group and name and group != name else ("", name or group) for group, name in pairs]

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, with every text as a cell."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it shows numbers."""
        rows = self.cells
        return [any(row[i].value is not None for row in rows) for i in range(len(self.columns))]

    @property
    def parts(self) -> tuple[list[list[Cell]], list[list[Cell]]]:
        """The rows above and below the rule."""
        rows = self.cells
        split = len(rows) - 1 if self.rule_before_last and len(rows) > 1 else len(rows)
        return rows[:split], rows[split:]


def render(table: Table, format: str) -> str:
    """The table as text in one of `FORMATS`, ending in a newline.

    Raises:
        HarnessError: there is no such format.
    """
    if format not in FORMATS:
        raise HarnessError(f"format {format!r} is unknown; {suggest(format, FORMATS)}")
    return FORMATS[format](table)


def render_all(tables: Iterable[Table], format: str) -> str:
    """Several tables as one text, an empty line between them."""
    return "\n".join(render(table, format) for table in tables)


def stacked(tables: Sequence[Table]) -> Table:
    """Several tables as one, for CSV: the title of each in a first column, and nothing where it lacks a column."""
    names = list(dict.fromkeys(name for table in tables for name in _flat(table)))
    rows = []
    for table in tables:
        for cells in table.cells:
            row = dict(zip(_flat(table), cells, strict=True))
            rows.append([table.title, *(row.get(name, "") for name in names)])
    return Table("", [["table", *names]], rows)


def _flat(table: Table) -> list[str]:
    return [f"{group} {name}" if group else name for group, name in table.columns]


# GitHub's Markdown


def markdown(table: Table) -> str:
    """A pipe table under a heading, its notes as a list; one line a row, unpadded, so that diffs stay small."""
    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [[_md(name) for name in _flat(table)], rule, *([_md_cell(cell) for cell in row] for row in table.cells)]
    lines = [f"### {_md(table.title)}", ""] + [f"| {' | '.join(row)} |" for row in rows]
    if table.notes:
        # At the start of a line, a number or sign could begin another list.
        lines += ["", *("- " + re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", _md(note)) for note in table.notes)]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    # "<" and "&" as entities: not every reader of Markdown knows that a backslash takes their meaning away.
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(one_line(text), quote=False))


def _md_cell(cell: Cell) -> str:
    text = _md(cell.text)
    return f"**{text}**" if text and cell.bold else text


# HTML


def html(table: Table) -> str:
    """A plain <table> with caption, grouped head and row headings; a last row that sums up is its foot."""
    body, foot = table.parts
    lines = ["<table>", f"<caption>{_html(table.title)}</caption>", "<thead>", *_html_head(table), "</thead>"]
    lines += ["<tbody>", *map(_html_row, body), "</tbody>"]
    if foot:
        lines += ["<tfoot>", *map(_html_row, foot), "</tfoot>"]
    lines += ["</table>"]
    if table.notes:
        lines += ["<ul>", *(f"<li>{_html(note)}</li>" for note in table.notes), "</ul>"]
    return "\n".join(lines) + "\n"


def _html(text: str) -> str:
    return escape(one_line(text))


def _html_head(table: Table) -> list[str]:
    grouped = any(group for group, _ in table.columns)
    height = ' rowspan="2"' if grouped else ""
    upper, lower = "", ""
    for group, columns in groupby(table.columns, key=lambda column: column[0]):
        names = [_html(name) for _, name in columns]
        if group:
            upper += f'<th scope="colgroup" colspan="{len(names)}">{_html(group)}</th>'
            lower += "".join(f'<th scope="col">{name}</th>' for name in names)
        else:
            upper += "".join(f'<th scope="col"{height}>{name}</th>' for name in names)
    return [f"<tr>{row}</tr>" for row in ((upper, lower) if grouped else (upper,))]


def _html_row(row: list[Cell]) -> str:
    heading = _html_cell(row[0], "th", ' scope="row"')
    return f"<tr>{heading}{''.join(_html_cell(cell, 'td') for cell in row[1:])}</tr>"


def _html_cell(cell: Cell, tag: str, attributes: str = "") -> str:
    text = f"<strong>{_html(cell.text)}</strong>" if cell.bold else _html(cell.text)
    return f"<{tag}{attributes}>{text}</{tag}>"


# LaTeX

_TEX = str.maketrans(
    {char: f"\\{char}" for char in "{}$&#_%"}
    | {char: f"{{{char}}}" for char in "[]*"}  # after a line's end or a rule, TeX would look for an option
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def latex(table: Table) -> str:
    """A floating table with the rules of the package booktabs, its notes in small print under it."""
    body, foot = table.parts
    spec = "".join("r" if numeric else "l" for numeric in table.numeric)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}}}", rf"\begin{{tabular}}{{{spec}}}"]
    lines += [r"\toprule", *_tex_head(table), r"\midrule", *map(_tex_row, body)]
    if foot:
        lines += [r"\midrule", *map(_tex_row, foot)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        lines += [r"\par\medskip\footnotesize\raggedright", *(rf"{_tex(note)}\par" for note in table.notes)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return one_line(text).translate(_TEX)


def _tex_head(table: Table) -> list[str]:
    names = " & ".join(_tex(name) for _, name in table.columns) + r" \\"
    groups, rules, column = [], [], 1
    for group, columns in groupby(group for group, _ in table.columns):
        width = len(list(columns))
        if group:
            groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(group)}}}")
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        else:
            groups += [""] * width
        column += width
    return [" & ".join(groups) + r" \\", " ".join(rules), names] if rules else [names]


def _tex_row(row: list[Cell]) -> str:
    return " & ".join(rf"\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text) for cell in row) + r" \\"


# CSV


def comma_separated(table: Table) -> str:
    """One line of column names, then the rows: numbers at full precision, no title, notes or emphasis."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(spreadsheet_text, _flat(table)))
    writer.writerows(
        [spreadsheet_text(cell.text) if cell.value is None else cell.value for cell in row] for row in table.cells
    )
    return file.getvalue()


def spreadsheet_text(text: str) -> str:
    """The text on one line, and never what a spreadsheet would take for a formula, and run."""
    text = one_line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": markdown,
    "html": html,
    "tex": latex,
    "csv": comma_separated,
}
"""What `render` knows."""
