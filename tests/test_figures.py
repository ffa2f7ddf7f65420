"""What is drawn is what is on record; a figure is legible, and has the same bytes whenever it is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from made_up import ALL, TWO, metrics, record, records_of, scored
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from read_figure import assert_legible, bars, panels, points
from tiny import case, harness, named, plugin

from harness.metrics import pooled_interval
from harness.protocol import read_protocol
from harness.records import Store
from harness.report.figures import LEGEND_WIDTH, draw, lines
from harness.report.look import COLOURS, looks, save
from harness.report.published import read_published
from harness.report.roc import roc_and_histogram


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


def test_a_case_called_0_has_its_place(here):
    angles = {name: case(["0", "1"], "6") for name in ("0", "15", "45")}
    protocol = named(angles, table={"title": "Table 0", "figure": "angle"})
    harness("run", "--protocol", protocol, "--method", plugin())
    (axes,) = lines([*Store(Path("results")).records()], read_protocol(str(protocol)), "angle").axes
    assert [*axes.get_xticks()] == [0, 15, 45]


def test_figures_say_of_which_reading_of_the_protocol_they_are():
    records, scores = scored(TWO)
    changed = {"test2": {"order": "1,2,3,4,0"}, "recipe": {"epochs": 3}}
    records = [one.model_copy(update={"settings": changed}) for one in records]
    figure = lines(records, read_protocol("test2"), "number of normal classes")
    assert list(panels(figure)) == [f"{records[0].dataset}, {records[0].recipe}, test2.order=1,2,3,4,0"]
    assert_legible(figure)
    (one, *_), protocol = records, read_protocol("test2")
    figure = roc_and_histogram([each for each in records if each.case == one.case], protocol, scores)
    assert figure.get_suptitle() == f"test2, {one.dataset}, test2.order=1,2,3,4,0: case {one.case}"


def test_a_line_is_broken_where_nothing_was_run():
    records = [one for one in records_of("test2", "mnist", TWO) if one.case != "4"]
    figure = lines(records, read_protocol("test2"), "number of normal classes")
    (line,) = [one.lines[0] for one in figure.axes[0].containers if one.get_label() == "Proposed MAX"]
    assert np.isfinite(np.array(line.get_ydata(), float)).tolist() == [True, True, False, True], (
        "2, 3 and 5 classes; one is skipped"
    )
    assert_legible(figure)


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
