"""ROC curves and score histograms of one case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.metrics import over_seeds
from harness.protocol import Protocol
from harness.records import Record
from harness.report.look import GREY, WIDTH, looks, style
from harness.report.names import Variant, reading_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.report.ties import Scores

LABEL_WIDTH = 34
"""Characters in a line of the legend, and of a title where two are side by side."""
LARGEST = 1e300
"""A score beyond it is drawn as this: 1.8e308, say, which some make of an infinity, leaves no room to compute."""
NORMAL, ANOMALY = "#56B4E9", "#D55E00"


def roc_and_histogram(
    records: Sequence[Record], protocol: Protocol, scores: Scores, seeds: int | None = None
) -> Figure | None:
    """The ROC curve of every score on one case and anomaly set, and how each score spreads over either class.

    A curve is the mean over seeds of the true positive rate at each false positive rate, so that the area under it is
    the mean AUROC of the tables; (n/m) says of how many seeds, where some are missing. Histograms show the lowest seed
    alone, since the scores of two fits need not have a common scale; what lies outside the central 99 % of both classes
    is gathered in the outermost bins.

    Args:
        records: of one leaderboard, case and anomaly set.
        scores: of a record, by image: `Store.scores`.
        seeds: how many the leaderboard has; None: as many as these records have.

    Returns:
        None if nothing was scored.
    """
    seeds = seeds or len({record.seed for record in records})
    records = sorted((record for record in records if record.status == "ok"), key=lambda record: record.seed)
    drawn = looks(records, protocol)
    if not drawn:
        return None
    first, columns = records[0], 2 if len(drawn) <= 8 else 3
    rows = math.ceil(len(drawn) / columns)
    curves = []
    for (variant, score), look in drawn.items():
        mine = [record for record in records if Variant.of(record) == variant and score in record.scores]
        mean = over_seeds([record.scores[score].auroc for record in mine]).mean
        area = f": {mean:.3f}" + (f" ({len(mine)}/{seeds})" if len(mine) < seeds else "")
        curves.append((look, look.lines(LABEL_WIDTH * 2 // columns), look.lines(LABEL_WIDTH, area), mine, score))
    in_title = max(1 + title.count("\n") for _, title, *_ in curves)
    in_legend = sum(1 + label.count("\n") for _, _, label, *_ in curves)
    with style():
        from matplotlib.figure import Figure

        height = max((1.2 + 0.1 * in_title) * rows + 1.1, 3.7 + 0.16 * in_legend)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(5, 7))
        roc, small = left.subplots(), [*right.subplots(rows, columns, squeeze=False).flat]
        for axes, (look, title, label, mine, score) in zip(small, curves, strict=False):
            pairs = [_pair(scores(record), score) for record in mine]
            roc.plot(*mean_roc(pairs), color=look.color, linestyle=look.linestyle, label=label)
            _draw_histogram(axes, *pairs[0])
            longest = max(map(len, title.splitlines()))
            axes.set_title(title, fontsize=min(8, 300 / columns / longest))
        for unused in small[len(drawn) :]:
            unused.remove()
        _finish_roc(roc)
        roc.legend(loc="upper left", bbox_to_anchor=(0, -0.17), title="area under the curve", alignment="left")
        right.legend(*small[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        one_of = f", seed {first.seed}" if len({record.seed for record in records}) > 1 else ""
        case = first.case if first.anomaly_set == "anomaly" else f"{first.case}, {first.anomaly_set}"
        of = ", ".join(filter(None, (first.protocol, first.dataset, reading_of(first))))
        figure.suptitle(f"{of}: case {case}", fontsize=9)
        right.supxlabel(f"anomaly score{one_of}", fontsize=8)
        right.supylabel("share of images (square-root scale)", fontsize=8)
        return figure


def mean_roc(seeds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of the mean ROC curve over seeds that scored the same images.

    The curves are averaged at either end of their jumps, so that the area under the mean is the mean of the areas.

    Args:
        seeds: for each, (N,) scores of the normal images and (M,) of the anomalies.
    """
    import numpy as np
    from sklearn.metrics import roc_curve

    n = len(seeds[0][0])
    rates = np.arange(n + 1) / n
    lower, upper = np.zeros(n + 1), np.zeros(n + 1)
    for normal, anomaly in seeds:
        truth = np.repeat([0, 1], [len(normal), len(anomaly)])
        false, true, _ = roc_curve(truth, np.concatenate([normal, anomaly]), drop_intermediate=False)
        # Where the curve jumps, interp gives the upper end; the first point of the jump is the lower one.
        high, first = np.interp(rates, false, true), np.searchsorted(false, rates)
        upper += high / len(seeds)
        lower += np.where(false[first] == rates, true[first], high) / len(seeds)
    return np.repeat(rates, 2), np.stack([lower, upper], 1).ravel()


def bounded(values: np.ndarray) -> np.ndarray:
    """Scores that can be drawn: see `LARGEST`."""
    return values.clip(-LARGEST, LARGEST) if values.dtype.itemsize > 4 else values  # float32 ends at 3.4e38


def histogram_edges(normal: np.ndarray, anomaly: np.ndarray) -> np.ndarray:
    """Where the bins of a score's histogram begin and end: equal ones over the central 99 % of both classes."""
    import numpy as np

    ends = [np.quantile(bounded(values), q) for values in (normal, anomaly) for q in (0.005, 0.995)]
    bins = int(np.clip(min(len(normal), len(anomaly)) ** 0.5, 10, 40))
    low, high = min(ends), max(ends)
    if low == high:
        low = float(low)  # float32 may have no room for it
        high = low + max(1.0, abs(low) * 1e-12)  # to a large number 1 adds nothing
    return np.linspace(low, high, bins + 1)


def _pair(scores: Mapping[str, np.ndarray], score: str) -> tuple[np.ndarray, np.ndarray]:
    return scores[f"normal.{score}"], scores[f"anomaly.{score}"]


def _finish_roc(axes: Axes) -> None:
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.text(0.52, 0.48, "chance", color=GREY, fontsize=7, rotation=45, rotation_mode="anchor", va="top")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="N")
    axes.set(xlabel="false positive rate (normal images)", ylabel="true positive rate (anomalies)")


def _draw_histogram(axes: Axes, normal: np.ndarray, anomaly: np.ndarray) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    edges = histogram_edges(normal, anomaly)
    for name, values, look in (
        ("normal", normal, {"histtype": "stepfilled", "facecolor": NORMAL, "alpha": 0.6}),
        ("anomaly", anomaly, {"histtype": "step", "edgecolor": ANOMALY, "linewidth": 1.2}),
    ):
        inside = np.clip(values, edges[0], edges[-1])
        axes.hist(inside, edges, weights=np.full(len(values), 1 / len(values)), label=f"{name} ({len(values)})", **look)
    # A score can have most images in one bin; the root keeps the rest in sight.
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(2))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=7)
    axes.xaxis.get_offset_text().set_fontsize(7)
