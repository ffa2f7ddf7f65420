"""A drawn curve is that of the scores by image, a histogram holds each of them, and both are legible."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import ALL, TWO, metrics, record, scored
from read_figure import assert_legible, panels
from sklearn.metrics import auc, roc_auc_score

from harness.protocol import read_protocol
from harness.report.look import save
from harness.report.page.evidence import histogram
from harness.report.roc import mean_roc, roc_and_histogram


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
