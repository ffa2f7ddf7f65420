"""What is drawn is what is on record; a figure is legible, and has the same bytes whenever it is drawn."""

from __future__ import annotations

import math
import random
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from made_up import metrics, record
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_auc_score
from tiny import case, harness, named, plugin

from harness.metrics import measure, pooled_interval
from harness.protocol import read_protocol
from harness.records import Store
from harness.report.figures import LEGEND_WIDTH, draw, lines
from harness.report.look import COLOURS, looks, save
from harness.report.page.evidence import histogram
from harness.report.published import read_published
from harness.report.roc import mean_roc, roc_and_histogram


def records_of(protocol, dataset, methods, seeds=(0, 1)):
    """Made-up records of every case, by (case, anomaly set, method, score, seed)."""
    number = random.Random(0)
    made = []
    for one in read_protocol(protocol).cases(dataset):
        for anomaly_set in one.anomalies:
            for method, scores in methods.items():
                for seed in seeds:
                    found = {score: metrics(number.uniform(0.55, 0.98), 0.02) for score in scores}
                    applies = method != "subcluster" or len(one.clusters) > 1
                    more = {"anomaly_set": anomaly_set, "seed": seed}
                    made.append(record(protocol, dataset, one.name, method, found if applies else None, **more))
    return made


TWO = {"subcluster": ("MAX", "ODIN")}
ALL = TWO | {"rotnet": ("MAX", "ODIN"), "ssl": ("KL",)}


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


def test_lines_show_the_mean_over_seeds_with_its_interval():
    records = records_of("test2", "mnist", ALL)
    axes = panels(lines(records, read_protocol("test2"), "number of normal classes"))["mnist, paper"]
    for method, scores, head in (("rotnet", ("MAX", "ODIN"), "RotNet"), ("subcluster", ("MAX",), "Proposed")):
        for score in scores:
            cells = [[r for r in records if (r.method, r.case, r.status) == (method, k, "ok")] for k in "12345"]
            cells = [[r.scores[score] for r in cell] for cell in cells if cell]
            line, ends = bars(axes, f"{head} {score}")
            assert line.get_ydata() == pytest.approx([np.mean([one.auroc for one in cell]) for cell in cells])
            assert np.ravel(ends) == pytest.approx(np.ravel([pooled_interval(cell) for cell in cells]))
    assert len(bars(axes, "Proposed MAX")[1]) == 4, "nothing is drawn where a method does not apply"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of normal classes", "AUROC")


def test_hollow_markers_are_the_papers_numbers():
    records = records_of("test2", "mnist", ALL)
    protocol, published = read_protocol("test2"), read_published()
    axes = panels(lines(records, protocol, "k", published))["mnist, paper"]
    line, (ours, _) = points(axes, "Proposed ODIN, paper"), bars(axes, "Proposed ODIN")
    assert list(line.get_ydata()) == [0.97, 0.94, 0.94, 0.93]
    assert line.get_markerfacecolor() == "none"
    assert (line.get_color(), line.get_marker()) == (ours.get_color(), ours.get_marker())
    assert list(line.get_xdata()) == list(ours.get_xdata()), "where our own stands"
    # Of several variants the first has them, even where the method was not run without any.
    changed = [
        record.model_copy(update={"settings": {"subcluster": {"temperature": t}}}) for record in records for t in (2, 3)
    ]
    for drawn, first, other in (
        (records + changed, "Proposed", "Proposed (temperature=2)"),
        (changed, "Proposed (temperature=2)", "Proposed (temperature=3)"),
    ):
        axes = panels(lines(drawn, protocol, "k", published))["mnist, paper"]
        assert list(points(axes, f"{first} MAX, paper").get_ydata()) == [0.97, 0.95, 0.93, 0.94]
        assert bars(axes, f"{other} MAX")
        assert f"{other} MAX, paper" not in {one.get_label() for one in axes.lines}
    axes = panels(lines(records, protocol, "k"))["mnist, paper"]
    assert not [one for one in axes.lines if "paper" in str(one.get_label())]


def test_clusters_have_a_panel_for_each_normal_set_and_a_cross_for_each_random_partition():
    records = records_of("clusters", "imagenet", TWO)
    figure = lines(records, read_protocol("clusters"), "number of clusters", read_published())
    found = panels(figure)
    assert list(found) == ["imagenet, paper, car", "imagenet, paper, catdog", "imagenet, paper, placental"]
    ticks = [[text.get_text() for text in axes.get_xticklabels()] for axes in found.values()]
    assert ticks == [["2", "4", "6", "8", "10"], ["2", "4", "16"], ["4", "8", "17", "44"]]
    assert list(found["imagenet, paper, car"].get_xticks()) == [2, 4, 6, 8, 10]
    assert found["imagenet, paper, placental"].get_xticks() == pytest.approx([2, 3, math.log2(17), math.log2(44)])
    crosses = points(found["imagenet, paper, car"], "Proposed MAX, partitions")
    one = [r.scores["MAX"].auroc for r in records if r.case == "car 2 random 0"]
    assert len(crosses.get_ydata()) == 4 * 5
    assert np.mean(one) in crosses.get_ydata()
    assert len(bars(found["imagenet, paper, car"], "Proposed MAX")[1]) == 5
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["Proposed MAX", "Proposed ODIN"]
    assert set(labels[2:]) == {"95 % interval", "the paper's number", "a random partition"}


def test_a_variant_of_many_settings_has_several_lines_in_the_legend():
    settings = {"subcluster": {"lr": 0.001, "optimizer": "adam", "weight_decay": 0, "epochs": 20}}
    records = records_of("test2", "mnist", ALL)
    changed = [one.model_copy(update={"settings": settings}) for one in records if one.method == "subcluster"]
    figure = lines(records + changed, read_protocol("test2"), "number of normal classes")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Proposed (epochs=20, lr=0.001, optimizer='adam', weight_decay=0) ODIN" in [
        " ".join(one.split()) for one in labels
    ]
    assert max(len(line) for label in labels for line in label.splitlines()) <= LEGEND_WIDTH
    assert_legible(figure)


def test_near_and_far_have_a_panel_each():
    records = records_of("test4", "imagenet", TWO | {"ssl": ("KL",)})
    found = panels(lines(records, read_protocol("test4"), "normal set"))
    assert list(found) == ["imagenet, paper, near", "imagenet, paper, far"]
    assert [text.get_text() for text in found["imagenet, paper, far"].get_xticklabels()] == [
        *("spitz", "snake", "car", "boat", "truck")
    ]
    far = [r.scores["KL"].auroc for r in records if (r.case, r.anomaly_set, r.method) == ("snake", "far", "ssl")]
    assert bars(found["imagenet, paper, far"], "SSL KL")[0].get_ydata()[1] == pytest.approx(np.mean(far))


@pytest.mark.parametrize(("level", "shown"), [(0.95, False), (0.52, True), (0.49, True), (0.3, False)])
def test_chance_is_shown_where_it_is_in_view_and_nothing_is_cut_off(level, shown):
    records = [record("test2", "mnist", k, "ssl", {"KL": metrics(level, 0.01)}) for k in "123"]
    axes = lines(records, read_protocol("test2"), "k").axes[0]
    chance = [line for line in axes.lines if list(line.get_ydata()) == [0.5, 0.5]]
    assert bool(chance) == shown
    low, high = axes.get_ylim()
    assert low < level - 0.01
    assert high > level + 0.01
    assert (low < 0.5 < high) == shown


def test_two_scores_never_look_alike_and_a_method_keeps_its_colour():
    table = {}
    own = {f"own{i}": ("A", "B") for i in range(6)}
    seven = ALL | {name: own[name] for name in list(own)[: len(COLOURS) - len(ALL)]}
    tables = {"test2": ALL, "test3": TWO | {"ssl": ("KL", "TrueProb")}, "levels": ALL | own, "clusters": seven}
    for protocol, methods in tables.items():
        found = looks(records_of(protocol, "digits", methods, seeds=(0,)), read_protocol(protocol))
        assert len({(look.color, str(look.linestyle), look.marker) for look in found.values()}) == len(found)
        table[protocol] = {variant.method: look.color for (variant, _), look in found.items()}
    assert table["test2"]["ssl"] == table["test3"]["ssl"]
    assert len(set(table["test2"].values())) == 3
    assert table["test2"].items() <= table["clusters"].items()
    assert len(set(table["clusters"].values())) == len(COLOURS), "no colour twice before all are used"
    alone = looks(records_of("clusters", "digits", TWO, seeds=(0,)), read_protocol("clusters"))
    assert len({look.color for look in alone.values()}) == 2, "of a single method, colours tell the scores"
    assert {to_hex(look.color).upper() for look in alone.values()} <= set(COLOURS)


def test_each_bundled_method_has_a_colour_of_its_own_whichever_are_drawn():
    names = ("subcluster", "rotnet", "ssl", "jigsaw", "isif", "isolation-forest", "kde", "lof", "ocsvm")
    every = dict.fromkeys(names, ("A",))

    def colours(methods):
        found = looks(records_of("test2", "digits", methods, seeds=(0,)), read_protocol("test2"))
        return {variant.method: look.color for (variant, _), look in found.items()}

    assert len(set(colours(every).values())) == len(names)
    assert colours({"lof": ("A",), "ssl": ("A",)}).items() <= colours(every).items()


@pytest.mark.parametrize(
    ("protocol", "dataset", "methods", "x_label"),
    [
        ("clusters", "imagenet", TWO, "number of clusters"),
        ("levels", "imagenet", TWO, "class level"),
        ("test2", "cifar10", ALL, "number of normal classes"),
        ("test3", "cifar10", TWO | {"ssl": ("KL",)}, "anomaly"),
        ("test4", "imagenet", TWO | {"ssl": ("KL",)}, "normal set"),
    ],
)
def test_line_charts_are_legible(protocol, dataset, methods, x_label):
    assert_legible(lines(records_of(protocol, dataset, methods), read_protocol(protocol), x_label, read_published()))


def test_nothing_scored_means_no_figure(tmp_path):
    records = [record("test2", "mnist", "1", "subcluster")]
    protocol = read_protocol("test2")
    assert lines(records, protocol, "k") is None
    assert roc_and_histogram(records, protocol, lambda one: {}) is None
    assert not list(draw("board", records, protocol, lambda one: {}, tmp_path, "k"))
    # A case of which a seed failed has no mean to draw, either, and the paper has no numbers of digits.
    half = [record("test2", "digits", "2", "subcluster", {"MAX": metrics(0.9)}, seed=0)]
    half.append(record("test2", "digits", "2", "subcluster", seed=1).model_copy(update={"status": "failed"}))
    assert lines(half, protocol, "k") is None


# ROC curves and histograms


def scored(methods, seeds=(0, 1), n=(60, 45)):
    """Records of a case with their scores by image: whole numbers, so that there are ties, and real ones."""
    stream = np.random.default_rng(0)
    scores, made = {}, []
    for method, names in methods.items():
        for seed in seeds:
            here = {}
            for turn, name in enumerate(names):
                normal, anomaly = stream.normal(0, 1, n[0]), stream.normal(0.7 + turn, 1.5, n[1])
                both = [np.round(one) if turn == 0 else one for one in (normal, anomaly)]
                here[f"normal.{name}"], here[f"anomaly.{name}"] = both
            found = {name: measure(here[f"normal.{name}"], here[f"anomaly.{name}"]) for name in names}
            made.append(record("test2", "mnist", "3", method, found, seed=seed))
            scores[method, seed] = here
    return made, lambda one: scores[one.method, one.seed]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_area_under_a_drawn_curve_is_the_mean_auroc(seeds):
    records, scores = scored(ALL, seeds)
    axes = roc_and_histogram(records, read_protocol("test2"), scores).axes[0]
    for method, name, head in (("subcluster", "MAX", "Proposed"), ("rotnet", "ODIN", "RotNet")):
        mine = [scores(one) for one in records if one.method == method]
        truth = np.repeat([0, 1], [60, 45])
        each = [roc_auc_score(truth, np.concatenate([s[f"normal.{name}"], s[f"anomaly.{name}"]])) for s in mine]
        (line,) = [one for one in axes.lines if str(one.get_label()).startswith(f"{head} {name}: ")]
        assert auc(*line.get_data()) == pytest.approx(np.mean(each), abs=1e-12)
        assert line.get_label() == f"{head} {name}: {np.mean(each):.3f}"


def test_a_mean_curve_says_of_how_many_seeds_it_is():
    records, scores = scored(ALL, (0, 1, 2))
    failure = {"status": "failed", "reason": "no luck", "scores": {}}
    records = [one.model_copy(update=failure) if (one.method, one.seed) == ("ssl", 1) else one for one in records]
    axes = roc_and_histogram(records, read_protocol("test2"), scores).axes[0]
    labels = [str(line.get_label()) for line in axes.lines if ": " in str(line.get_label())]
    assert len(labels) > 2
    for label in labels:
        assert label.endswith("(2/3)") is label.startswith("SSL")


def test_a_mean_curve_by_hand():
    # Seed 1 has every anomaly above; seed 2 ties one anomaly with one normal image: a slope from (0, .5) to (.5, 1).
    x, y = mean_roc([(np.array([0, 1]), np.array([2, 3])), (np.array([0, 1]), np.array([1, 3]))])
    assert x.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert y.tolist() == [0, 0.75, 1, 1, 1, 1]


def test_histograms_hold_every_image_of_the_lowest_seed():
    """Those outside of the bins are in the outermost ones."""
    records, scores = scored(TWO, seeds=(1, 0), n=(400, 100))
    figure = roc_and_histogram(records, read_protocol("test2"), scores)
    axes = panels(figure)["Proposed ODIN"]
    drawn = [patch.get_path().vertices for patch in axes.patches]
    images = [scores(records[1])[f"{kind}.ODIN"] for kind in ("normal", "anomaly")]
    ends = [np.quantile(values, (0.005, 0.995)) for values in images]
    for outline, values in zip(drawn, images, strict=True):
        edges = np.unique(outline[:, 0])
        assert edges[[0, -1]] == pytest.approx([np.min(ends), np.max(ends)])
        assert values.min() < edges[0] or values.max() > edges[-1]
        bins, shares = np.digitize(values, edges[1:-1]), outline[1 : 2 * len(edges) - 1 : 2, 1]
        assert shares == pytest.approx(np.bincount(bins, minlength=len(edges) - 1) / len(values))
    labels = [text.get_text() for text in figure.subfigs[1].legends[0].get_texts()]
    assert labels == ["normal (400)", "anomaly (100)"]


def test_a_case_called_0_has_its_place(here):
    angles = {name: case(["0", "1"], "6") for name in ("0", "15", "45")}
    protocol = named(angles, table={"title": "Table 0", "figure": "angle"})
    harness("run", "--protocol", protocol, "--method", plugin())
    (axes,) = lines([*Store(Path("results")).records()], read_protocol(str(protocol)), "angle").axes
    assert [*axes.get_xticks()] == [0, 15, 45]


@pytest.mark.parametrize("methods", [{"ssl": ("KL",)}, ALL, ALL | {f"own{i}": ("A", "B") for i in range(4)}])
def test_roc_figures_are_legible(methods):
    records, scores = scored(methods)
    assert_legible(roc_and_histogram(records, read_protocol("test2"), scores))


def test_a_roc_figure_of_variants_with_many_settings_is_legible():
    records, scores = scored(ALL)
    settings = {"subcluster": {"lr": 0.001, "optimizer": "adam", "weight_decay": 0, "epochs": 20}}
    changed = [one.model_copy(update={"settings": settings}) for one in records if one.method == "subcluster"]
    figure = roc_and_histogram(records + changed, read_protocol("test2"), scores)
    assert_legible(figure)
    titles = [axes.title for axes in figure.axes if "weight_decay=0" in axes.get_title()]
    assert len(titles) == 2
    assert min(title.get_fontsize() for title in titles) > 4


def test_a_roc_figure_is_as_legible_when_it_is_written(tmp_path):
    records, scores = scored(ALL)
    settings = {"rotnet": {"epochs": 10}, "subcluster": {"epochs": 10}, "ssl": {"epochs": 10}}
    changed = [one.model_copy(update={"settings": {one.method: settings[one.method]}}) for one in records if one.seed]
    figure = roc_and_histogram(records + changed, read_protocol("test2"), scores)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sum("(1/2)" in label for label in labels) == 5
    save(figure, tmp_path / "figure")
    assert_legible(figure)


def test_a_roc_figure_has_room_for_a_legend_of_broken_lines(tmp_path):
    records, scores = scored({"rotnet": ("MAX", "ODIN")})
    settings = {"lr": 1e-4, "momentum": 0.95, "weight_decay": 5e-4, "lr_end": 1e-6, "step_factor": 0.8}
    changed = [
        one.model_copy(update={"settings": {"rotnet": settings | {"epochs": epochs}}})
        for epochs in (100, 200, 300)
        for one in records
        if one.seed
    ]
    figure = roc_and_histogram(records + changed, read_protocol("test2"), scores)
    assert len(figure.axes) == 1 + 8
    save(figure, tmp_path / "figure")
    assert_legible(figure)


def test_a_line_is_broken_where_nothing_was_run():
    records = [one for one in records_of("test2", "mnist", TWO) if one.case != "4"]
    figure = lines(records, read_protocol("test2"), "number of normal classes")
    (line,) = [one.lines[0] for one in figure.axes[0].containers if one.get_label() == "Proposed MAX"]
    assert np.isfinite(np.array(line.get_ydata(), float)).tolist() == [True, True, False, True], (
        "2, 3 and 5 classes; one is skipped"
    )
    assert_legible(figure)


def test_scores_that_are_all_the_same_are_drawn():
    one = record("test2", "mnist", "3", "ssl", {"KL": metrics(0.5)})
    same = {"normal.KL": np.ones(5), "anomaly.KL": np.ones(4)}
    assert_legible(roc_and_histogram([one], read_protocol("test2"), lambda _: same))


def test_scores_that_stand_for_an_infinity_are_drawn():
    most = float(np.finfo(np.float64).max)
    one = record("test2", "mnist", "3", "ssl", {"KL": metrics(0.5)})
    huge = {"normal.KL": np.array([-most] * 5), "anomaly.KL": np.array([most] * 5)}
    assert_legible(roc_and_histogram([one], read_protocol("test2"), lambda _: huge))
    drawn = histogram(huge["normal.KL"], huge["anomaly.KL"])
    assert np.isfinite(drawn["ends"]).all()
    assert (drawn["normal"][0], drawn["anomaly"][-1]) == (5, 5)


# Files


def test_a_figure_has_the_same_bytes_whatever_the_users_settings(tmp_path):
    records, scores = scored(TWO)
    protocol, published = read_protocol("test2"), read_published()

    def files(folder):
        paths = list(draw("board", records, protocol, scores, tmp_path / folder, "number of normal classes", published))
        return {path.name: path.read_bytes() for path in paths}

    first = files("a")
    with matplotlib.rc_context({"axes.labelsize": 20, "lines.markeredgewidth": 3, "svg.hashsalt": "mine"}):
        before = dict(matplotlib.rcParams)
        assert files("b") == first
        assert dict(matplotlib.rcParams) == before, "the user's settings are left as they were"
    names = ("board-lines", "board-roc-3")
    assert set(first) == {f"{name}.{ending}" for name in names for ending in ("svg", "png")}
    assert b"<dc:date>" not in first["board-lines.svg"]


def test_the_noise_of_a_layout_changes_no_byte(tmp_path):
    def drawn(noise):
        figure = Figure()
        axes = figure.add_axes((0.1 + noise, 0.1, 0.5, 0.5))
        axes.plot([0, 1, 2], [1, 3, 2], marker="o")
        return [path.read_bytes() for path in save(figure, tmp_path / "figure")]

    first = drawn(0)
    assert b"clip-path=" in first[0]
    assert drawn(1e-15) == first


def test_there_is_a_figure_for_each_anomaly_set_and_none_for_random_partitions(tmp_path):
    def scores(one):
        return {f"{kind}.MAX": np.arange(5.0) for kind in ("normal", "anomaly")}

    more = {"scores": {"MAX": metrics(0.5)}}
    records = [record("test4", "imagenet", "spitz", "subcluster", anomaly_set=one, **more) for one in ("near", "far")]
    paths = list(draw("b", records, read_protocol("test4"), scores, tmp_path))
    assert [path.name for path in paths if path.suffix == ".svg"] == ["b-roc-spitz-near.svg", "b-roc-spitz-far.svg"]
    records = [record("clusters", "digits", case, "subcluster", **more) for case in ("digits 2", "digits 2 random 0")]
    paths = list(draw("b", records, read_protocol("clusters"), scores, tmp_path))
    assert [path.name for path in paths] == ["b-roc-digits-2.svg", "b-roc-digits-2.png"]


def test_cases_whose_names_a_file_does_not_tell_apart_have_a_figure_each(here):
    cases = {name: case(["0"], "8") for name in ("猫", "犬", "c 1", "c-1", "d")}
    harness("run", "--protocol", named(cases), "--method", plugin())
    written = harness("leaderboard", "--out", "out").out.splitlines()
    assert len(written) == len(set(written)) == 11  # the table, and two files of each figure
    assert "out/mine-digits-small-roc-d.svg" in written


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    from harness import HarnessError

    (tmp_path / "file").write_text("")
    records, scores = scored(TWO)
    figure = roc_and_histogram(records, read_protocol("test2"), scores)
    with pytest.raises(HarnessError, match="can't write there"):
        save(figure, tmp_path / "file" / "figure")
