"""What a figure shows, read from what was drawn."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def points(axes, label):
    """The points of a plain line."""
    (line,) = [one for one in axes.lines if one.get_label() == label]
    return line


def bars(axes, label):
    """A line with error bars, and their lower and upper ends."""
    (bar,) = [one for one in axes.containers if one.get_label() == label]
    return bar.lines[0], [sorted(segment[:, 1]) for segment in bar.lines[2][0].get_segments()]


def ticks(axis):
    """The labels that are in view."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def assert_legible(figure):
    """Every text is inside the figure, no two overlap, and no legend lies over axes."""
    FigureCanvasAgg(figure).draw()
    texts, legends = [], [*figure.legends, *(legend for part in figure.subfigs for legend in part.legends)]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *ticks(axes.xaxis), *ticks(axes.yaxis)]
        legends += [axes.get_legend()] if axes.get_legend() else []
    for part in (figure, *figure.subfigs):
        texts += [text for text in (part._suptitle, part._supxlabel, part._supylabel) if text]
    texts += [text for legend in legends for text in (*legend.get_texts(), legend.get_title())]
    found = [(text, text.get_window_extent()) for text in texts if text.get_visible() and text.get_text()]
    for text, box in found:
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < figure.bbox.width + 1, text
        assert box.y1 < figure.bbox.height + 1, text
    for legend in legends:
        assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    # The box of a slanted text is larger than the text.
    upright = [(text, box) for text, box in found if text.get_rotation() in (0, 90)]
    for place, (text, box) in enumerate(upright):
        for other, its in upright[place + 1 :]:
            common = min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0)
            assert min(common) < 1, (text, other)
