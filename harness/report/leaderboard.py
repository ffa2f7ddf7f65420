"""Records + protocol -> the paper's table. Nothing else decides what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.paths import protocol_files
from harness.protocol import Case, Protocol, carried, read_protocol
from harness.records import Record, slug
from harness.report.cells import average_cell, table_cell
from harness.report.comparable import check_comparable
from harness.report.names import KNN, Variant, data_of, declared_as, headings, settings_text, told_apart
from harness.report.notes import PART, TOGETHER, bold_note, notes_of
from harness.report.table import Cell, Table
from harness.report.ties import Entry, Scores, best_of_each
from harness.spec import digest


@dataclass(frozen=True)
class Leaderboard:
    """One table, and the records that it is made from."""

    name: str
    """For a file: protocol, data set, recipe."""
    protocol: Protocol
    table: Table
    records: tuple[Record, ...]
    lines: tuple[Line, ...] = ()
    """What the table is laid out from: its columns, or its rows where these are the methods."""
    places: tuple[str, ...] = ()
    """What the cells of a line stand for: each row of the paper's table, and "average" if it has one."""
    averaged: bool = False
    """Whether the last place is that average."""

    def cell_of(self, row: int, column: int) -> tuple[Line, int]:
        """The line and the place that a cell of the table's body shows; column 0 holds the headings."""
        turned = self.protocol.table.rows == "methods"
        return (self.lines[row], column - 1) if turned else (self.lines[column - 1], row)


@dataclass
class Line:
    """The numbers of one score on one anomaly set, over the cases, and the records that each is made from."""

    variant: Variant
    score: str
    group: str
    """The method as the table calls it."""
    anomaly_set: str
    cells: list[Cell] = field(default_factory=list)
    made_from: list[list[list[Record]]] = field(default_factory=list)
    """For each cell, the records of each case that it is the mean of."""

    @property
    def values(self) -> list[float]:
        """The numbers that there are."""
        return [cell.value for cell in self.cells if cell.value is not None]

    def settings(self, shared: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What was changed with --set for these numbers; `shared` is what was for the whole table."""
        records = (record for cases in self.made_from for case in cases for record in case)
        own = {self.variant.method: dict(self.variant.settings)} if self.variant.settings else {}
        return next((record.settings for record in records), shared | own)


def leaderboards(
    records: Iterable[Record],
    protocol_paths: Iterable[str] = (),
    scores: Scores | None = None,
    whole: bool = True,
    folder: Path | None = None,
    refused: list[HarnessError] | None = None,
) -> list[Leaderboard]:
    """A table for every protocol, data set and recipe that there are records of.

    Args:
        records: whatever a results folder holds.
        protocol_paths: files of protocols that are not bundled, of two of one name the later; mere names are ignored.
        scores: the per-image scores of a record; with them, the best of each row is bold, and what is tied with it.
        whole: show every row and column of the paper's table, whether or not there are records of it.
        folder: that of the records, which carries protocols; those of `protocol_paths` go before them.
        refused: where to put what is wrong with a table, in place of raising it: the others are made all the same.

    Raises:
        HarnessError: records of one table are not comparable; the line names two of them and what differs.
    """
    records = list(records)
    own = (carried(folder, not_bundled(records)) if folder else {}) | own_protocols(protocol_paths)
    groups: dict[tuple, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.key):
        shared = record.shared_settings
        changed = digest(shared) if shared else ""
        groups.setdefault((record.protocol, record.dataset, record.recipe, changed), []).append(record)
    boards = []
    for group in groups.values():
        try:
            boards.append(_leaderboard(group, own.get(group[0].protocol, group[0].protocol), scores, whole))
        except HarnessError as error:
            if refused is None:
                raise
            refused.append(error)
    of = [[getattr(board.records[0], part) for part in ("protocol", "dataset", "recipe")] for board in boards]
    names = told_apart([board.name for board in boards], of)
    return [replace(board, name=name) for board, name in zip(boards, names, strict=True)]


def not_bundled(records: Iterable[Record]) -> set[str]:
    """The names of the protocols of records, but for the bundled ones."""
    return {record.protocol for record in records} - set(protocol_files())


def own_protocols(paths: Iterable[str]) -> dict[str, str]:
    """Files of protocols by the name that they give themselves."""
    return {read_protocol(path).name: path for path in paths if path.endswith(".toml")}


def _leaderboard(records: list[Record], protocol_name: str, scores: Scores | None, whole: bool) -> Leaderboard:
    first = records[0]
    settings = first.shared_settings
    protocol = read_protocol(protocol_name, declared_as(first), settings.get(first.protocol))
    check_comparable(records, protocol)
    told = f"{first.protocol}-{first.dataset}-{first.recipe}"
    name = "-".join(slug(part) for part in (first.protocol, first.dataset, first.recipe))
    # What a file name does not tell apart, some letters of a digest do.
    name += "".join(f"-{digest(part)[:6]}" for part in (told if name != told else "", settings) if part)
    table, lines, places, averaged = _table(records, protocol, settings, scores, whole)
    return Leaderboard(name, protocol, table, tuple(records), lines, places, averaged)


def _table(
    records: list[Record],
    protocol: Protocol,
    settings: dict[str, dict[str, Any]],
    scores: Scores | None,
    whole: bool,
) -> tuple[Table, tuple[Line, ...], tuple[str, ...], bool]:
    dataset = declared_as(records[0])
    cases, layout = protocol.cases(dataset), protocol.table
    sets = list(dict.fromkeys(name for case in cases for name in case.anomalies))
    in_row: dict[str, list[Case]] = {}
    for case in cases:
        in_row.setdefault(case.row, []).append(case)
    seeds = sorted({record.seed for record in records})
    found: dict[tuple, list[Record]] = {}
    for record in records:
        found.setdefault((record.case, record.anomaly_set, Variant.of(record)), []).append(record)

    counted = [all(case.averaged for case in row) for row in in_row.values()]
    lines = []
    for variant, score, group in table_columns(records, protocol):
        for name in sets:
            line = Line(variant, score, group, name)
            for row in in_row.values():
                line.made_from.append([found.get((c.name, name, variant), []) for c in row if name in c.anomalies])
                line.cells.append(table_cell(line.made_from[-1], score, seeds) if line.made_from[-1] else Cell(""))
            if layout.average:
                of = [place for place, yes in enumerate(counted) if yes and line.made_from[place]]
                line.made_from.append([case for place in of for case in line.made_from[place]])
                line.cells.append(average_cell([line.cells[place] for place in of], line.made_from[-1], score, seeds))
            lines.append(line)
    names = [*in_row, *(["average"] if layout.average else [])]
    averaged = layout.average and (whole or any(any(line.made_from[-1]) for line in lines))
    if not whole:
        lines, names = _with_records(lines, names)
    notes = notes_of(records, protocol, seeds, settings)
    if any(cell.text.endswith(")") for line in lines for cell in line.cells if cell.value is not None):
        notes.insert(1, PART)
    if together := [f"{name} ({len(row)})" for name, row in in_row.items() if len(row) > 1 and name in names]:
        notes.insert(1, TOGETHER.format(rows=", ".join(together)))
    by_set = [[line for line in lines if line.anomaly_set == name] for name in sets]
    if scores and (compared := _embolden(by_set, scores)):
        place = "column" if layout.rows == "methods" else "row"
        place += f", {' and '.join(sets)} apart" if len(sets) > 1 else ""
        notes.insert(1, bold_note(place, {len(entry.by_seed) for entry in compared}))

    heads = [f"{line.score} {line.anomaly_set}" if len(sets) > 1 else line.score for line in lines]
    if layout.rows == "methods":
        head = [[layout.corner, *names]]
        rows = [[f"{line.group} {head}", *line.cells] for line, head in zip(lines, heads, strict=True)]
    else:
        head = [["", *(line.group for line in lines)], [layout.corner, *heads]]
        rows = [[name, *(line.cells[place] for line in lines)] for place, name in enumerate(names)]
    made = filter(None, (data_of(records[0]), f"recipe {records[0].recipe}", settings_text(settings)))
    table = Table(
        title=f"{protocol.section(dataset).table or layout.title}, {', '.join(made)}: {protocol.title}",
        head=head,
        rows=rows,
        notes=notes,
        rule_before_last=averaged and layout.rows == "cases",
    )
    return table, tuple(lines), tuple(names), averaged


def _with_records(lines: list[Line], names: list[str]) -> tuple[list[Line], list[str]]:
    """The lines, and the places in them, that there are records of."""
    lines = [line for line in lines if any(any(cases) for cases in line.made_from)]
    kept = [place for place in range(len(names)) if any(any(line.made_from[place]) for line in lines)]
    for line in lines:
        line.cells, line.made_from = ([each[place] for place in kept] for each in (line.cells, line.made_from))
    return lines, [names[place] for place in kept]


def _embolden(sets: list[list[Line]], scores: Scores) -> list[Entry]:
    """Set in bold, for each anomaly set, the best of the lines in each place and what is tied with it; returns what was
    compared for that. Where one number can't be compared, none is: it may be the best."""
    able = [
        [(line, place, entry_of(line, place)) for line in lines if is_auroc(line, place)]
        for lines in sets
        for place in range(len(lines[0].cells) if lines else 0)
    ]
    able = [row for row in able if len(row) > 1 and all(entry for *_, entry in row)]
    for row, tied in zip(able, best_of_each([[entry for *_, entry in row] for row in able], scores), strict=True):
        for (line, place, _), bold in zip(row, tied, strict=True):
            line.cells[place] = replace(line.cells[place], bold=bold)
    return [entry for row in able for *_, entry in row]


def is_auroc(line: Line, place: int) -> bool:
    return line.cells[place].value is not None and line.score != KNN


def entry_of(line: Line, place: int) -> Entry | None:
    """What a number is made from, if it is an AUROC that can be compared: of several cases that some seeds are missing
    of, two have to be left, else nobody knows how far the seeds carry it."""
    if not is_auroc(line, place):
        return None
    entry = Entry(line.score, tuple(tuple(r for r in case if line.score in r.scores) for case in line.made_from[place]))
    return entry if len(entry.by_seed) >= min(2, max(map(len, entry.cases))) else None


def table_columns(records: list[Record], protocol: Protocol) -> list[tuple[Variant, str, str]]:
    """(variant, score, heading): the paper's columns first, then everything else that there are records of."""
    heads = headings(protocol)
    columns = {(Variant(column.method), column.score): column.head for column in protocol.table.columns}
    rank = {method: place for place, method in enumerate(dict.fromkeys(v.method for v, _ in columns))}
    scored: dict[Variant, dict[str, None]] = {}
    for record in records:
        scored.setdefault(Variant.of(record), {}).update(dict.fromkeys(record.scores))
    for variant in sorted(scored, key=lambda v: (rank.get(v.method, len(rank)), v.method, str(v))):
        head = heads.get(variant.method, variant.method) + str(variant).removeprefix(variant.method)
        for score in scored[variant]:
            columns.setdefault((variant, score), head)
    # A method of which nothing was scored still shows that it was tried.
    for variant in scored:
        if not any(variant == known for known, _ in columns):
            columns[variant, ""] = heads.get(variant.method, variant.method)
    return [(variant, score, head) for (variant, score), head in columns.items()]
