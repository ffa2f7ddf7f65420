"""The metrics against other libraries, brute force, simulation, and examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from harness.metrics import (
    Metrics,
    compare,
    compare_placements,
    delong_variance,
    measure,
    over_seeds,
    pooled_interval,
    reach,
)

# Few distinct values, so that most examples hold ties within and between the classes.
tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)
smooth = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
scores = tied | smooth


def kernel(normal, anomaly):
    """(M, N): 1 where the anomaly scores higher, one half at a tie."""
    normal, anomaly = np.asarray(normal)[None, :], np.asarray(anomaly)[:, None]
    return (anomaly > normal) + 0.5 * (anomaly == normal)


def truth(normal, anomaly):
    return [0] * len(normal) + [1] * len(anomaly), [*normal, *anomaly]


@given(scores, scores)
def test_auroc_is_that_of_all_pairs_and_of_sklearn(normal, anomaly):
    auroc = measure(normal, anomaly).auroc
    assert auroc == pytest.approx(kernel(normal, anomaly).mean(), abs=1e-12)
    assert auroc == pytest.approx(roc_auc_score(*truth(normal, anomaly)), abs=1e-12)


@given(scores.filter(lambda x: len(x) > 1), scores.filter(lambda x: len(x) > 1))
def test_variance_is_delongs_from_all_pairs(normal, anomaly):
    pairs = kernel(normal, anomaly)
    direct = np.var(pairs.mean(1), ddof=1) / len(anomaly) + np.var(pairs.mean(0), ddof=1) / len(normal)
    auroc, variance = delong_variance(normal, anomaly)
    assert auroc == pytest.approx(pairs.mean(), abs=1e-12)
    assert variance == pytest.approx(direct, abs=1e-12)


def test_variance_by_hand():
    # Placements: anomalies 1 and 1/2, normal images 1/2 and 1; each has variance 1/8, over 2 images.
    assert delong_variance([1, 3], [2, 4]) == pytest.approx((0.75, 0.125))


@given(scores, scores)
def test_fpr95_is_that_of_sklearns_curve(normal, anomaly):
    fpr, tpr, _ = roc_curve(*truth(normal, anomaly), drop_intermediate=False)
    assert measure(normal, anomaly).fpr95 == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


@pytest.mark.parametrize(
    ("n", "missed"),
    [(19, 0), (20, 1), (39, 1), (40, 2), (60, 3), (100, 5)],
)
def test_fpr95_lets_go_of_no_more_than_a_twentieth(n, missed):
    # One normal image between any two anomalies: those above the threshold are counted by the anomalies below it.
    anomaly, normal = np.arange(n), np.arange(n) + 0.5
    assert measure(normal, anomaly).fpr95 == pytest.approx((n - missed) / n)


def test_all_metrics_by_hand():
    # Descending: a 4, n 3, a 2, n 1. Precision at the two recalls: 1 and 2/3.
    found = measure(normal=[1, 3], anomaly=[2, 4])
    assert found.auroc == 0.75
    assert found.aupr == pytest.approx((1 + 2 / 3) / 2)
    assert found.fpr95 == 0.5
    logit, reach = math.log(3), 1.959964 * math.sqrt(0.125) / (0.75 * 0.25)
    assert found.auroc_low == pytest.approx(1 / (1 + math.exp(reach - logit)), abs=1e-6)
    assert found.auroc_high == pytest.approx(1 / (1 + math.exp(-reach - logit)), abs=1e-6)


@given(tied, tied)
def test_only_the_order_of_scores_counts(normal, anomaly):
    assert measure(np.exp(normal), np.exp(anomaly)) == measure(normal, anomaly)


@given(scores, scores)
def test_swapped_classes_and_turned_signs_mirror_the_auroc(normal, anomaly):
    found = measure(normal, anomaly)
    turned = (np.negative(normal), np.negative(anomaly))
    for mirror in (measure(anomaly, normal), measure(*turned)):
        assert mirror.auroc == pytest.approx(1 - found.auroc, abs=1e-12)
        assert mirror.auroc_low == pytest.approx(1 - found.auroc_high, abs=1e-9)
        assert mirror.auroc_high == pytest.approx(1 - found.auroc_low, abs=1e-9)


@given(scores, scores)
def test_interval_holds_the_auroc_and_has_a_width(normal, anomaly):
    found = measure(normal, anomaly)
    assert 0 <= found.auroc_low <= found.auroc <= found.auroc_high <= 1
    assert found.auroc_low < found.auroc_high


@pytest.mark.parametrize(("n_normal", "n_anomaly"), [(1, 1), (7, 30), (30, 7)])
def test_interval_of_a_faultless_detector_is_the_exact_binomial_one(n_normal, n_anomaly):
    n = min(n_normal, n_anomaly)
    exact = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    found = measure(np.zeros(n_normal), np.ones(n_anomaly))
    assert (found.auroc_low, found.auroc_high) == pytest.approx((exact.low, exact.high))
    found = measure(np.ones(n_normal), np.zeros(n_anomaly))
    assert (found.auroc_low, found.auroc_high) == pytest.approx((1 - exact.high, 1 - exact.low))


def test_interval_of_a_detector_that_says_nothing_is_about_one_half():
    found = measure(np.zeros(50), np.zeros(100))
    assert found.auroc == 0.5
    assert found.auroc_high - 0.5 == pytest.approx(0.5 - found.auroc_low)
    assert found.auroc_high - 0.5 == pytest.approx(1.96 * math.sqrt(0.25 / 50), rel=0.05)


@pytest.mark.parametrize(
    ("shift", "n_normal", "n_anomaly"),
    [(0.0, 40, 40), (1.2, 100, 25), (2.5, 60, 60), (3.5, 30, 30)],
)
def test_interval_covers_the_true_auroc(shift, n_normal, n_anomaly):
    rng = np.random.default_rng(7)
    true = stats.norm.cdf(shift / math.sqrt(2))
    drawn = [measure(rng.normal(size=n_normal), rng.normal(shift, size=n_anomaly)) for _ in range(300)]
    assert 0.90 <= np.mean([one.auroc_low <= true <= one.auroc_high for one in drawn]) <= 0.99


def test_scores_may_be_single_precision():
    rng = np.random.default_rng(0)
    normal, anomaly = rng.normal(size=50).astype("float32"), rng.normal(1, size=40).astype("float32")
    assert measure(normal, anomaly) == measure(normal.astype("float64"), anomaly.astype("float64"))


@pytest.mark.parametrize(
    ("normal", "anomaly", "line"),
    [
        ([], [1.0], "normal scores: none"),
        ([1.0], [], "anomaly scores: none"),
        ([0.0, math.nan, math.inf], [1.0], "normal scores: 2 of 3 are not finite"),
        ([0.0], [-math.inf], "anomaly scores: 1 of 1 are not finite"),
        ([[0.0]], [1.0], r"normal scores: shape \(1, 1\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(normal, anomaly, line):
    for function in (measure, delong_variance):
        with pytest.raises(ValueError, match=line):
            function(normal, anomaly)


def test_variance_of_a_single_image_is_unknown():
    auroc, variance = delong_variance([0.0], [1.0, -1.0])
    assert auroc == 0.5
    assert math.isnan(variance)


# Two methods


def test_comparison_is_delongs_with_covariances():
    rng = np.random.default_rng(3)
    normal, anomaly = rng.normal(size=(2, 40)), rng.normal(0.8, size=(2, 30))
    normal[1] += normal[0]
    pairs = [kernel(n, a) for n, a in zip(normal, anomaly, strict=True)]
    covariance = np.cov([p.mean(1) for p in pairs]) / 30 + np.cov([p.mean(0) for p in pairs]) / 40
    error = math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    difference = pairs[0].mean() - pairs[1].mean()

    found = compare(normal[0], anomaly[0], normal[1], anomaly[1])
    assert found.difference == pytest.approx(difference)
    assert (found.low, found.high) == pytest.approx((difference - 1.959964 * error, difference + 1.959964 * error))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / error))


def test_comparison_errs_as_often_as_it_says():
    rng = np.random.default_rng(11)
    wrong, repetitions = 0, 400
    for _ in range(repetitions):
        images = rng.normal(size=(2, 60)) + np.array([[0.0], [1.0]])
        a, b = images + rng.normal(size=(2, 60)), images + rng.normal(size=(2, 60))  # equally good
        found = compare(a[0], a[1], b[0], b[1])
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
        wrong += found.p_value < 0.05
    assert 0.02 <= wrong / repetitions <= 0.09


@given(tied, tied)
def test_methods_that_rank_alike_do_not_differ(normal, anomaly):
    found = compare(normal, anomaly, np.exp(normal), np.exp(anomaly))
    assert (found.difference, found.p_value) == (0, 1)
    assert -1 <= found.low < 0 < found.high <= 1


def test_rounding_is_no_difference():
    """The same method, of ten seeds and of one."""
    ten, one = ([sum([place] * n) / n for place in (0.1, 0.7, 0.9)] for n in (10, 1))
    assert ten != one
    found = compare_placements((np.array(ten), np.array(ten)), (np.array(one), np.array(one)))
    assert found.difference == pytest.approx(0, abs=1e-12)
    assert found.low < -0.5 < 0.5 < found.high


def test_right_against_wrong_on_every_image():
    low, high = np.zeros(10), np.ones(12)
    found = compare(low, high, np.ones(10), np.zeros(12))
    assert (found.difference, found.high) == (1, 1)
    assert found.low == pytest.approx(2 * 0.025 ** (1 / 10) - 1)  # the same bound on a scale from -1 to 1
    assert found.p_value == pytest.approx(stats.binomtest(10, 10).pvalue)  # the sign test
    assert compare([0.0], [1.0], [1.0], [0.0]).p_value == 1  # a single pair shows nothing


def test_methods_must_score_the_same_images():
    with pytest.raises(ValueError, match="the same images"):
        compare([0.0], [1.0], [0.0, 0.5], [1.0])


# Several seeds


def interval(auroc, low, high):
    return Metrics(auroc=auroc, auroc_low=low, auroc_high=high, aupr=0.5, fpr95=0.5)


def test_mean_and_spread_over_seeds():
    summary = over_seeds([0.8, 0.9, 0.7])
    assert (summary.mean, summary.std, summary.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert over_seeds(np.array([0.8])).std is None
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_pooled_interval_of_one_seed_is_its_own():
    assert pooled_interval([interval(0.9, 0.84, 0.93)]) == pytest.approx((0.84, 0.93))


def test_pooled_interval_does_not_shrink_with_seeds_that_agree():
    assert pooled_interval([interval(0.9, 0.84, 0.93)] * 20) == pytest.approx((0.84, 0.93))


def test_pooled_interval_of_huge_test_sets_is_students():
    aurocs = [0.81, 0.84, 0.83, 0.80]
    student = stats.t.interval(0.95, 3, loc=np.mean(aurocs), scale=stats.sem(aurocs))
    assert pooled_interval([interval(a, a, a) for a in aurocs]) == pytest.approx(student)


def test_pooled_interval_stays_within_bounds():
    assert pooled_interval([interval(1.0, 0.9, 1.0), interval(0.8, 0.7, 0.9)])[1] == 1
    assert pooled_interval([interval(0.0, 0.0, 0.1), interval(0.2, 0.1, 0.3)])[0] == 0
    with pytest.raises(ValueError, match="no values"):
        pooled_interval([])


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed_spread", [0.05, 0.5])
def test_pooled_interval_covers_the_mean_over_all_seeds_and_images(seed_spread, seeds):
    rng = np.random.default_rng(5)
    true = stats.norm.cdf(1.2 / math.sqrt(2 + seed_spread**2))  # the mean of the binormal AUROC over shifts
    covered, repetitions = 0, 200
    for _ in range(repetitions):
        normal, anomaly = rng.normal(size=80), rng.normal(size=80)  # every seed is tested on these
        low, high = pooled_interval([measure(normal, anomaly + 1.2 + seed_spread * rng.normal()) for _ in range(seeds)])
        covered += low <= true <= high
    assert covered / repetitions >= {2: 0.87, 3: 0.92}[seeds]


def test_reach_of_seeds_alone_is_welchs():
    a, b = [0.81, 0.84, 0.83, 0.80], [0.7, 0.75]
    ends = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert reach(0, a, b) == pytest.approx((ends.high - ends.low) / 2)


@given(st.floats(0, 0.5), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_reach_lies_between_what_either_says_alone(images, aurocs):
    student = float(stats.t.ppf(0.975, len(aurocs) - 1) * stats.sem(aurocs)) if len(aurocs) > 1 else 0.0
    assert images <= reach(images, aurocs) <= math.hypot(images, student) * (1 + 1e-9)


def test_two_seeds_say_something_beside_the_images():
    """Student's t has 12.7 standard errors with two seeds, so that 0.25 and 0.37 were anything from 0 to 1."""
    low, high = pooled_interval([interval(0.25, 0.20, 0.30), interval(0.37, 0.31, 0.43)])
    assert 0 <= low < 0.2
    assert 0.43 < high < 0.8
