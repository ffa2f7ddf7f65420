"""Leaderboards as one web page: a single file that needs no server and no network.

The tables are plain HTML, and readable without a script; the script sorts and filters them, and opens what is behind a
cell. Names come from users' files: the template escapes every one, and the page may run no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.plugins import Plugins
from harness.protocol import Case
from harness.records import Record, slug
from harness.report.leaderboard import Leaderboard, Line
from harness.report.names import FAILED, INCOMPLETE, NOT_RUN, SKIPPED, Variant, data_of, declared_as, settings_text
from harness.report.page.evidence import Evidence, paper_data
from harness.report.page.packed import EMBEDDED, embedded, pack
from harness.report.page.pictures import pictures
from harness.report.published import AVERAGE, Published
from harness.report.table import Cell, one_line
from harness.report.ties import Scores

SIGN = '<meta name="generator" content="harness'
"""By which a page of ours is told from any other."""
HERE = Path(__file__).parent
KINDS = {NOT_RUN: "unrun", SKIPPED: "skipped", FAILED: "failed", INCOMPLETE: "unrun", "": "none"}


def page(
    boards: Sequence[Leaderboard],
    scores: Scores | None,
    published: Sequence[Published],
    plugins: Plugins | None = None,
    data: Path = Path("data"),
    before: str = "",
    readme: str = "",
) -> str:
    """The page of several leaderboards.

    Args:
        scores: of a record, by image: `Store.scores`; without them the page has nothing that is drawn from them.
        published: numbers to show beside ours.
        plugins: among which the data sets are; without them the page has no pictures of test images.
        data: the folder of the data sets; those that are not there have no pictures in the page.
        before: an earlier page, whose pictures are kept where the data are not at hand.
        readme: the address of what is said of these numbers, if anything is.

    Raises:
        HarnessError: scores can't be read.
    """
    boards = _in_order(boards, published)
    evidence = Evidence(scores, published)
    views = [_board(board, evidence) for board in boards]
    alike = Counter((view["protocol"], view["data"], view["recipe"]) for view in views)
    shown = pictures(_drawn(boards), scores, plugins, data, embedded(before, "pictures")) if plugins and scores else {}
    return (
        _environment()
        .get_template("page.html")
        .render(
            boards=views,
            alike=alike,
            choices={
                key: list(dict.fromkeys(view[key] for view in views)) for key in ("protocol", "dataset", "recipe")
            },
            methods=dict(sorted({method: None for view in views for method in view["methods"]}.items())),
            any_paper=any(view["paper"] for view in views),
            data=pack(_clean(evidence.data())),
            pictures=pack(_clean(shown)),
            readme=readme,
            version=__version__,
        )
    )


def claims(text: str) -> tuple[str, list[str], dict[str, Any]]:
    """What a page says: all of its text, which data it carries, and what its cells open, but for curves, histograms and
    pictures, which are drawn."""
    data = embedded(text, "data")
    entries = data.get("entries")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            entry.pop("roc", None)
            entry.pop("histogram", None)
    # Of two data of one name the browser takes the first, and `embedded` the last.
    return EMBEDDED.sub(r"<\1>", text), [found[1] for found in EMBEDDED.finditer(text)], data


# What is shown


def _in_order(boards: Iterable[Leaderboard], published: Iterable[Published]) -> list[Leaderboard]:
    """The paper's data sets before all others; then the tables of each protocol, data sets as it declares them, by the
    paper's recipe first."""
    printed = {(number.protocol, dataset) for number in published for dataset in number.datasets}

    def place(board: Leaderboard) -> tuple:
        protocol, dataset, recipe = board.protocol, declared_as(board.records[0]), board.records[0].recipe
        declared = list(protocol.dataset).index(dataset)
        return (protocol.name, dataset) not in printed, protocol.name, declared, recipe != "paper", recipe, board.name

    return sorted(boards, key=place)


def _board(board: Leaderboard, evidence: Evidence) -> dict[str, Any]:
    evidence.begin(board)
    first, table = board.records[0], board.table
    turned = board.protocol.table.rows == "methods"
    cells = [
        [_cell(cell, board, evidence, *board.cell_of(row, column)) for column, cell in enumerate(line[1:], 1)]
        for row, line in enumerate(table.cells)
    ]
    rows = [
        {
            "heading": line[0].text,
            "method": board.lines[row].variant.method if turned else "",
            "find": _classes(board, board.places if turned else board.places[row : row + 1]),
            "cells": cells[row],
        }
        for row, line in enumerate(table.cells)
    ]
    foot = rows[-1:] if table.rule_before_last else []
    return {
        "name": board.name,
        "anchor": slug(board.name),
        "title": table.title,
        "about": board.protocol.title,
        "protocol": first.protocol,
        "dataset": declared_as(first),
        "data": data_of(first),
        "recipe": first.recipe,
        "changed": settings_text(first.shared_settings),
        "seeds": sorted({record.seed for record in board.records}),
        "corner": table.head[-1][0],
        "groups": [] if turned else _groups(board),
        "columns": [{"name": name, "method": ""} for name in table.head[-1][1:]]
        if turned
        else [
            {"name": name or "–", "method": line.variant.method}
            for name, line in zip(table.head[-1][1:], board.lines, strict=True)
        ],
        "rows": rows[: len(rows) - len(foot)],
        "foot": foot,
        "notes": table.notes,
        "methods": [line.variant.method for line in board.lines],
        "paper": any(cell["paper"] for row in cells for cell in row),
    }


def _groups(board: Leaderboard) -> list[dict[str, Any]]:
    found = []
    for (variant, name), lines in groupby(board.lines, key=lambda line: (line.variant, line.group)):
        proposed = not variant.settings and variant.method not in name.lower()
        told = f"{name} ({variant.method})" if proposed else name
        found.append({"name": told, "method": variant.method, "width": len(list(lines))})
    return found


def _cell(cell: Cell, board: Leaderboard, evidence: Evidence, line: Line, place: int) -> dict[str, Any]:
    number, sign, spread = cell.text.partition(" ± ")
    if cell.value is not None and not sign:  # one seed, with or without "(1/3)"
        number, _, spread = cell.text.partition(" ")
    kind = "number" if cell.value is not None else KINDS.get(cell.text, "failed")
    where = board.places[place]
    average = board.averaged and place == len(board.places) - 1
    paper = evidence.paper(line, AVERAGE if average else where)
    cases = _cases(board, line, place)
    return {
        "kind": kind,
        "place": where,
        "number": number,
        "spread": f"{sign.strip()} {spread}".strip(),
        "value": None if cell.value is None else round(cell.value, 6),
        "bold": cell.bold,
        "paper": paper_data(paper) if paper else None,
        "entries": [evidence.entry(line, case, records) for case, records in cases],
        "mean": evidence.mean(line, [records for _, records in cases], paper) if len(cases) > 1 else None,
    }


def _cases(board: Leaderboard, line: Line, place: int) -> list[tuple[Case, list[Record]]]:
    """The cases that a number is the mean of, with their records."""
    every = board.protocol.cases(declared_as(board.records[0]))
    found: list[tuple[Case, list[Record]]] = []
    for turn, name in enumerate(board.places):
        here = [case for case in every if case.row == name and line.anomaly_set in case.anomalies]
        average = board.averaged and place == len(board.places) - 1
        counted = all(case.averaged for case in every if case.row == name)
        if turn == place or (average and counted):
            found += zip(here, line.made_from[turn], strict=False)
    return found


def _classes(board: Leaderboard, places: Sequence[str]) -> str:
    """The classes of the cases in some places, by which their rows can be found."""
    cases = [case for case in board.protocol.cases(declared_as(board.records[0])) if case.row in places]
    names = (name for case in cases for part in (case.normal, *case.anomalies.values()) for name in part)
    return " ".join(dict.fromkeys(names))


def _drawn(boards: Iterable[Leaderboard]) -> list[Record]:
    """Of each number, the record of the lowest seed that has it."""
    found: dict[tuple, Record] = {}
    for board in boards:
        for record in sorted(board.records, key=lambda record: record.seed):
            for score in record.scores:
                key = (board.name, Variant.of(record), score, record.case, record.anomaly_set)
                found.setdefault(key, record)
    return list({record.key: record for record in found.values()}.values())


# The template


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }
    return environment


def _clean(data: Any) -> Any:
    """Plain data whose texts stay on one line, as the template's own do."""
    if isinstance(data, str):
        return one_line(data)
    if isinstance(data, Mapping):
        return {one_line(str(key)): _clean(value) for key, value in data.items()}
    return [_clean(value) for value in data] if isinstance(data, list | tuple) else data


def _hash(text: str) -> str:
    """By which the page's own policy knows what may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
