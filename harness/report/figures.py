"""Records -> figures: the paper's line charts, ROC curves and score histograms, as SVG and PNG.

A figure is a pure function of the records, like a table: drawn twice, it has the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from harness.protocol import Case, Protocol
from harness.records import Record, slug
from harness.report.compare import Estimate, estimate
from harness.report.look import GREY, WIDTH, Look, looks, save, style
from harness.report.names import Variant, data_of, declared_as, reading_of, told_apart
from harness.report.published import Published
from harness.report.roc import roc_and_histogram
from harness.spec import digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from harness.report.ties import Scores

NUMBERED = re.compile(r"(?:(?P<study>.+) )?(?P<number>\d+)(?P<partitions>, .+)?")
"""A row that is a point of a study: "5", "car 4", "car 4, random partitions"."""

LEGEND_WIDTH = 36
"""Characters a line."""


@dataclass
class Panel:
    """The cases that share a pair of axes."""

    study: str
    anomaly_set: str
    places: dict[str, float] = field(default_factory=dict)
    """Where each case stands, from left to right."""
    ticks: list[str] = field(default_factory=list)
    """What is written there."""
    partitions: dict[str, float] = field(default_factory=dict)
    """Where the random partitions stand, which the table averages in a row of their own."""


@dataclass
class Line:
    """One score of one method in one panel: where each number stands, and the number."""

    look: Look
    ours: list[tuple[float, Estimate | None]]
    """None, where there is no number between two others, breaks the line."""
    paper: list[tuple[float, float]]
    partitions: list[tuple[float, Estimate]]


def lines(
    records: Sequence[Record], protocol: Protocol, x_label: str, published: Sequence[Published] = ()
) -> Figure | None:
    """AUROC against the case, a line for each score of each method: the paper's Figures 4, 6 and 7.

    There is a panel for each normal set ("car 2", "car 4" belong to "car") and each anomaly set. Bars are the 95 %
    intervals of `compare.estimate`, hollow markers the paper's numbers, crosses single random partitions.

    Args:
        records: of one leaderboard.
        x_label: what the cases are, such as "number of clusters".
        published: numbers to show beside ours.

    Returns:
        None if there is no number to draw.
    """
    columns = looks(records, protocol)
    if not columns:
        return None
    panels = _panels(protocol.cases(declared_as(records[0])))
    of = (protocol.name, declared_as(records[0]))
    published = [p for p in published if (p.protocol, p.dataset) == of and p.value is not None]
    drawn = [_lines(panel, columns, records, published) for panel in panels]
    every = [line for found in drawn for line in found]
    if not any(line.paper or any(one for _, one in (*line.ours, *line.partitions)) for line in every):
        return None
    with style():
        of = (data_of(records[0]), records[0].recipe, reading_of(records[0]))
        figure, grid = _axes(panels, ", ".join(filter(None, of)), x_label)
        for axes, found in zip(grid, drawn, strict=True):
            for line in found:
                _draw(axes, line)
        _limit(grid, every)
        handles = _legend(every)
        # Room for a legend of any length, so that it never covers a line.
        texts = [text for handle in handles for text in handle.get_label().splitlines()]
        figure.set_figwidth(figure.get_figwidth() + 0.75 + 0.06 * max(map(len, texts)))
        figure.set_figheight(max(figure.get_figheight(), 0.17 * len(texts) + 0.2))
        figure.legend(handles=handles, loc="outside right upper")
        return figure


def numbers_of(records: Iterable[Record]) -> str:
    """By which the line chart of a leaderboard tells the numbers that it was drawn from: a digest."""
    return digest(
        sorted([[str(record.key), {s: m.auroc for s, m in record.scores.items()}] for record in records], key=str)
    )


def draw(
    name: str,
    records: Sequence[Record],
    protocol: Protocol,
    scores: Scores,
    out: Path,
    x_label: str = "",
    published: Sequence[Published] = (),
) -> Iterator[Path]:
    """Every figure of a leaderboard, as `out`/`name`-…: each file once it is written.

    Args:
        name: of the leaderboard.
        records: of the leaderboard.
        scores: of a record, by image: `Store.scores`.
        x_label: what the cases are; without one there is no line chart.
        published: numbers to show beside ours.

    Raises:
        HarnessError: scores can't be read, or files can't be written.
    """
    cases = [case for case in protocol.cases(declared_as(records[0])) if case.row == case.name]
    if x_label and (figure := lines(records, protocol, x_label, published)):
        yield from save(figure, out / f"{name}-lines", numbers_of(records))
    places = [(case.name, anomaly_set) for case in cases for anomaly_set in case.anomalies]
    tails = [[case.name] + [one] * (len(case.anomalies) > 1) for case in cases for one in case.anomalies]
    files = told_apart(["-".join([name, "roc", *map(slug, tail)]) for tail in tails], tails)
    for place, file in zip(places, files, strict=True):
        here = [record for record in records if (record.case, record.anomaly_set) == place]
        if figure := roc_and_histogram(here, protocol, scores, len({record.seed for record in records})):
            yield from save(figure, out / file)


# What is drawn


def _panels(cases: Sequence[Case]) -> list[Panel]:
    matches = {case.name: NUMBERED.fullmatch(case.row) for case in cases}
    numeric = all(matches.values())
    panels: dict[tuple[str, str], Panel] = {}
    for case in cases:
        match = matches[case.name] if numeric else None
        study = (match["study"] or "") if match else ""
        for anomaly_set in case.anomalies:
            panel = panels.setdefault((study, anomaly_set), Panel(study, anomaly_set))
            place = int(match["number"]) if match else len(panel.places)
            if match and match["partitions"]:
                panel.partitions[case.name] = place
            else:
                panel.places[case.name] = place
                panel.ticks.append(str(place) if match else case.name)
    for panel in panels.values():
        # Numbers of clusters such as 4, 8, 17, 44 double rather than add up.
        places = [*panel.places.values()]
        if len({b - a for a, b in pairwise(places)}) > 1 and min(places) > 0:
            panel.places = {case: math.log2(place) for case, place in panel.places.items()}
            panel.partitions = {case: math.log2(place) for case, place in panel.partitions.items()}
    return list(panels.values())


def _lines(
    panel: Panel,
    columns: Mapping[tuple[Variant, str], Look],
    records: Sequence[Record],
    published: Sequence[Published],
) -> list[Line]:
    gap = min((b - a for a, b in pairwise(panel.places.values())), default=1)
    found = []
    for turn, ((variant, score), look) in enumerate(columns.items()):
        # Side by side, so that no interval hides another.
        shift = 0.4 * gap * ((turn + 0.5) / len(columns) - 0.5)
        mine: dict[str, list[Record]] = {}
        for record in records:
            if record.anomaly_set == panel.anomaly_set and Variant.of(record) == variant:
                mine.setdefault(record.case, []).append(record)
        ours, partitions = (
            [(x + shift, estimate(mine.get(case, []), score)) for case, x in places.items()]
            for places in (panel.places, panel.partitions)
        )
        known = [place for place, (_, one) in enumerate(ours) if one]
        ours = ours[known[0] : known[-1] + 1] if known else []
        partitions = [(x, one) for x, one in partitions if one]
        # Once, with the first variant of the method that is drawn, whatever was changed in it.
        first = next(one for one, other in columns if (one.method, other) == (variant.method, score))
        paper = [
            (panel.places[p.case] + shift, p.value)
            for p in published
            if variant == first and (p.anomaly_set, p.method, p.score) == (panel.anomaly_set, variant.method, score)
            if p.case in panel.places
        ]
        found.append(Line(look, ours, paper, partitions))
    return found


# Drawing


def _axes(panels: Sequence[Panel], data: str, x_label: str) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    studies, sets = {panel.study for panel in panels}, {panel.anomaly_set for panel in panels}
    widest = max((panel.ticks for panel in panels), key=len)
    slanted = max(map(len, widest)) * len(widest) > 40
    width = max((0.36 if widest[0].isdigit() else 0.45) * len(widest) + 0.5, 2.3)
    columns = min(len(panels), max(int(WIDTH // width), 1))
    rows = math.ceil(len(panels) / columns)
    size = (max(width * columns, 3.6), (2.7 if slanted else 2.3) * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = [*figure.subplots(rows, columns, sharey=True, squeeze=False).flat]
    for unused in grid[len(panels) :]:
        unused.remove()
    for place, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
        axes.set_title(", ".join([data, *[panel.study] * (len(studies) > 1), *[panel.anomaly_set] * (len(sets) > 1)]))
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks([*panel.places.values()], panel.ticks, **slant)
        axes.set_xlabel(x_label)
        axes.grid(visible=False, axis="x")
        if place % columns == 0:
            axes.set_ylabel("AUROC")
    return figure, grid[: len(panels)]


def _draw(axes: Axes, line: Line) -> None:
    look = line.look
    if line.ours:
        x, ours = zip(*line.ours, strict=True)
        y, low, high = zip(*((one.value, one.low, one.high) if one else (math.nan,) * 3 for one in ours), strict=True)
        reach = [[a - b for a, b in zip(y, low, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
        axes.errorbar(x, y, reach, elinewidth=0.8, **look.line)
    alone = {"linestyle": "none", "markerfacecolor": "none", "color": look.color}
    if line.paper:
        axes.plot(*zip(*line.paper, strict=True), marker=look.marker, label=f"{look.label}, paper", **alone)
    if line.partitions:
        x, ours = zip(*line.partitions, strict=True)
        y = [one.value for one in ours]
        axes.plot(x, y, marker="x", markersize=3, label=f"{look.label}, partitions", **alone)


def _legend(drawn: Sequence[Line]) -> list[Line2D]:
    """The lines, and in grey what else there is to see. Bars of one seed say less than those of several, and are
    shorter for it: where a figure has both, the lines tell of which they are."""
    from matplotlib.lines import Line2D

    alone = {"linestyle": "none", "markerfacecolor": "none", "color": GREY}
    seeds: dict[Look, set[int]] = {}
    for line in drawn:
        numbers = [one.seeds for _, one in (*line.ours, *line.partitions) if one]
        seeds.setdefault(line.look, set()).update(numbers)
    every = set().union(*seeds.values())
    mixed = 1 in every and len(every) > 1
    handles = [
        Line2D([], [], **look.line | {"label": look.lines(LEGEND_WIDTH, ", one seed" * (mixed and own == {1}))})
        for look, own in seeds.items()
    ]
    interval = "95 % interval" + ", one seed" * (every == {1})
    handles.append(Line2D([], [], marker="|", markersize=9, label=interval, **alone))
    if any(line.paper for line in drawn):
        handles.append(Line2D([], [], marker="o", label="the paper's number", **alone))
    if any(line.partitions for line in drawn):
        handles.append(Line2D([], [], marker="x", markersize=3, label="a random partition", **alone))
    return handles


def _limit(grid: Sequence[Axes], drawn: Sequence[Line]) -> None:
    """Axes around everything that is drawn, and the line of chance where they reach it."""
    ends = [end for line in drawn for _, one in (*line.ours, *line.partitions) if one for end in (one.low, one.high)]
    ends += [y for line in drawn for _, y in line.paper]
    low, high = math.floor(min(ends) * 20 - 0.2) / 20, math.ceil(max(ends) * 20 + 0.2) / 20
    # Chance is a line of its own and not the axis, and a marker at 0 or 1 is whole.
    low, high = max(0.475 if low == 0.5 else low, -0.02), min(0.525 if high == 0.5 else high, 1.02)
    grid[0].set_ylim(low, high)
    if not low < 0.5 < high:
        return
    for axes in grid:
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        "chance", (1, 0.5), (2, 0), axes.get_yaxis_transform(), "offset points",
        va="center", color=GREY, fontsize=7, annotation_clip=False,
    )  # fmt: skip
