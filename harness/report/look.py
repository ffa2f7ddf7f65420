"""How figures look: one style, a colour for each method, and files that are the same whenever they are drawn."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.protocol import Protocol
from harness.records import Record
from harness.report.leaderboard import table_columns
from harness.report.names import Variant, bundled_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Matplotlib takes long to import: see inside the functions.

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#882255")
"""Of Okabe & Ito (2008), with their grey and a wine red of Tol's (2021): told apart under every common colour
blindness. Yellow is left out, being lost on white."""
DETECTORS = ("isolation-forest", "kde", "lof", "ocsvm")
"""Bundled methods that no table of the paper has, each with a colour of its own, too."""
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
LONG_DECIMAL = re.compile(r"(\d\.\d\d)\d{3,}")
HASHED_ID = re.compile(r'(?<=["#])[a-z][0-9a-f]{10}(?=[")])')
SOURCE = "Source"
"""The PNG text that tells what a figure was drawn from."""
WIDTH = 7.2
"""Inches: a page of two columns."""
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "font.size": 8,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "harness",
    "text.parse_math": False,  # a name with dollars is a name
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
}


@dataclass(frozen=True)
class Look:
    """How a column of the table is drawn: the colour tells the method, dashes and marker the score.

    Where there is but one method, the colours tell its scores.
    """

    label: str
    color: str
    linestyle: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """For matplotlib."""
        return dataclasses.asdict(self)

    def lines(self, width: int, more: str = "") -> str:
        """The label, and more, in lines of so many characters, if the words allow: a variant's tells every setting."""
        return textwrap.fill(self.label + more, width, break_long_words=False)


def looks(records: Sequence[Record], protocol: Protocol) -> dict[tuple[Variant, str], Look]:
    """For every method and score with an AUROC, in the order of the table."""
    scored = {(Variant.of(record), score): record.method for record in records for score in record.scores}
    columns = [column for column in table_columns(list(records), protocol) if column[:2] in scored]
    places = _places(record.method for record in records)
    found: dict[tuple[Variant, str], Look] = {}
    turns: dict[str, int] = {}
    for variant, score, head in columns:
        turn = turns[variant.method] = turns.get(variant.method, -1) + 1
        place, alone = places[variant.method], len(set(scored.values())) == 1
        again = place // len(COLOURS)  # once the colours are used up, they come back with other dashes and markers
        found[variant, score] = Look(
            label=f"{head} {score}",
            color=COLOURS[(place + turn * alone) % len(COLOURS)],
            linestyle=DASHES[(turn + 2 * again) % len(DASHES)],
            marker=MARKERS[(place + 3 * turn + again) % len(MARKERS)],
        )
    return found


def _places(methods: Iterable[str]) -> dict[str, int]:
    """The turn of each method: bundled ones have the same in every figure, and so the same colour; the others take what
    these leave free."""
    present = sorted(set(methods))
    columns = (column.method for column in bundled_columns())
    known = {name: place for place, name in enumerate(dict.fromkeys([*columns, *DETECTORS]))}
    taken = {known[name] for name in present if name in known}
    free = (place for place in itertools.count() if place not in taken)
    return known | {name: next(free) for name in present if name not in known}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever the user's own settings are."""
    from matplotlib.style import context

    with context(["default", STYLE]):
        yield


def save(figure: Figure, path: Path, source: str = "") -> list[Path]:
    """Write a figure as `path`.svg and `path`.png, without the date; the files written.

    Args:
        source: what the PNG carries, to tell what it was drawn from: `source_of`.

    Raises:
        HarnessError: they can't be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    if source:
        told.add_text(SOURCE, source)
    svg, png = (path.with_name(f"{path.name}.{ending}") for ending in ("svg", "png"))
    text, pixels = io.StringIO(), io.BytesIO()
    ids: dict[str, str] = {}
    with style():
        figure.savefig(pixels, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 0})
        figure.set_layout_engine(None)  # it is laid out by now, which takes longer than to draw it
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of hundreds of figures is to stay small: hundredths of a point do, and as many colours as a byte has.
        short = LONG_DECIMAL.sub(r"\1", text.getvalue())
        # Matplotlib names an element after every digit of its place, and the last digit is the layout's noise.
        named = HASHED_ID.sub(lambda found: ids.setdefault(found[0], f"{path.name}-{len(ids)}"), short)
        svg.write_text(named, encoding="utf-8")
        Image.open(pixels).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(png, optimize=True, pnginfo=told)
    except OSError as error:
        raise HarnessError(f"{path.parent}: can't write there: {error}") from None
    return [svg, png]


def source_of(png: Path) -> str:
    """What the PNG of a figure was drawn from, as it was saved; empty if it doesn't tell, or is none."""
    from PIL import Image

    try:
        with Image.open(png) as image:
            return str(image.info.get(SOURCE, ""))
    except OSError:
        return ""
