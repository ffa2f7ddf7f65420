"""How well anomaly scores tell anomalies from normal images: AUROC and its interval, AUPR, FPR95."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from harness.spec import Spec

# scipy and scikit-learn take long to import, and whoever only reads records needs neither: see inside the functions.

GAUSS = statistics.NormalDist()
TAIL = 0.025  # on each side of a 95 % interval
Z = GAUSS.inv_cdf(1 - TAIL)

ROUNDING = 1e-30
"""The variance that a difference may have by rounding alone: the same placements, as means over other numbers of seeds.
One pair of images among 10 000 of each class that one of ten seeds ranks otherwise makes 1e-19."""

Share = Annotated[float, Field(ge=0, le=1)]
Placements = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Of the anomalies (M,) and of the normal images (N,): see `placements`."""


class Metrics(Spec):
    """One evaluation in numbers, each a share in [0, 1]. Anomalies are the positive class."""

    auroc: Share = Field(description="the chance that an anomaly scores higher than a normal image; a tie counts half")
    auroc_low: Share = Field(description="lower end of the 95 % interval of the AUROC")
    auroc_high: Share = Field(description="upper end of the 95 % interval of the AUROC")
    aupr: Share = Field(description="average precision, anomalies being the positive class")
    fpr95: Share = Field(description="share of normal images at or above the score that 95 % of the anomalies reach")


class Comparison(Spec):
    """The AUROC of method a minus that of method b on the same images, with its 95 % interval and two-sided p."""

    difference: float
    low: float
    high: float
    p_value: Share


class Summary(Spec):
    """One number over several seeds."""

    mean: float
    std: float | None
    """Sample standard deviation (ddof = 1); None for a single seed."""
    n: int


def measure(normal: ArrayLike, anomaly: ArrayLike) -> Metrics:
    """Every metric of one evaluation.

    AUROC is the chance that an anomaly scores higher than a normal image, a tie counting half. Its 95 % interval is
    the normal one on the logit scale, so that it stays within [0, 1], with DeLong's variance. That variance says
    nothing in two cases, where what is certain about n = min(n_normal, n_anomaly) disjoint pairs takes its place:

    - AUROC exactly 1: all n pairs are in order, which has a chance of at most AUROC**n. The interval is
      [0.025**(1/n), 1], as an exact binomial one would be; at 0 it is the mirror image.
    - the variance is zero otherwise (every score is tied), or a class has one image: AUROC (1 - AUROC) / n, which the
      variance never exceeds.

    AUPR is the average precision. FPR95 is the share of normal images at or above the largest threshold that has at
    least 95 % of the anomalies at or above it.

    Args:
        normal: (N,) scores of the normal images; higher = more anomalous.
        anomaly: (M,) scores of the anomalies.

    Raises:
        ValueError: either is empty, not one-dimensional, or not finite.
    """
    from sklearn.metrics import average_precision_score

    normal, anomaly = _scores(normal, "normal"), _scores(anomaly, "anomaly")
    auroc, variance = delong_variance(normal, anomaly)
    low, high = _interval(auroc, variance, min(len(normal), len(anomaly)))

    truth = np.concatenate([np.zeros(len(normal)), np.ones(len(anomaly))])
    aupr = average_precision_score(truth, np.concatenate([normal, anomaly]))

    caught = -(-95 * len(anomaly) // 100)  # 95 % rounded up, in integers: 0.95 * n is not exact
    threshold = np.sort(anomaly)[-caught]
    fpr95 = np.mean(normal >= threshold)
    return Metrics(auroc=auroc, auroc_low=low, auroc_high=high, aupr=min(float(aupr), 1.0), fpr95=float(fpr95))


def delong_variance(normal: ArrayLike, anomaly: ArrayLike) -> tuple[float, float]:
    """AUROC and the variance that it has because the test images are a sample.

    DeLong, DeLong & Clarke-Pearson (1988), *Comparing the areas under two or more correlated receiver operating
    characteristic curves*, from placements in O(n log n) as by Sun & Xu (2014). The variance is NaN if a class has a
    single image, since nothing is then known of the spread within that class.

    Args and errors: as for `measure`.
    """
    of_anomalies, of_normals = placements(normal, anomaly)
    return float(of_anomalies.mean()), _variance(of_anomalies, of_normals)


def compare(normal_a: ArrayLike, anomaly_a: ArrayLike, normal_b: ArrayLike, anomaly_b: ArrayLike) -> Comparison:
    """The paired DeLong test: does method a have another AUROC than method b on the same images?

    Scores at the same index belong to the same image; both methods having found the same images hard cancels out.
    The interval is the normal one, cut to [-1, 1]. The variance says nothing where it is zero but for rounding (two
    methods that rank alike, say) or unknown (a class has one image). The n = min(n_normal, n_anomaly) disjoint pairs of
    images are then taken to have all shown the same difference d, and the rest follows as in `measure`: a share
    1 - 0.025**(1/n) of pairs may be unlike them and show anything from -1 to 1, and p = 2 (1 + |d|)**-n, at most 1,
    since pairs that differ by zero on average can show d no more often than one time in 1 + |d|.

    Args:
        normal_a, normal_b: (N,) scores of the normal images by each method; higher = more anomalous.
        anomaly_a, anomaly_b: (M,) scores of the anomalies by each method.

    Raises:
        ValueError: as for `measure`, or the methods scored different numbers of images.
    """
    return compare_placements(placements(normal_a, anomaly_a), placements(normal_b, anomaly_b))


def compare_placements(a: Placements, b: Placements) -> Comparison:
    """The same from the placements of either method, for who compares one with many."""
    if [len(part) for part in a] != [len(part) for part in b]:
        raise ValueError(
            f"compare: {len(a[1])} and {len(b[1])} normal, {len(a[0])} and {len(b[0])} anomaly scores; "
            "both methods must score the same images"
        )
    # The variance of a difference is that of the differences: no covariances to add up.
    of_anomalies, of_normals = a[0] - b[0], a[1] - b[1]
    difference, variance = float(of_anomalies.mean()), _variance(of_anomalies, of_normals)
    if variance > ROUNDING:
        error = variance**0.5
        low, high = max(difference - Z * error, -1.0), min(difference + Z * error, 1.0)
        p_value = 2 * GAUSS.cdf(-abs(difference) / error)
    else:
        n = min(len(of_anomalies), len(of_normals))
        low, high = difference - unlike(n) * (1 + difference), difference + unlike(n) * (1 - difference)
        p_value = min(2 * (1 + abs(difference)) ** -n, 1.0)
    return Comparison(difference=difference, low=low, high=high, p_value=p_value)


def unlike(n: int) -> float:
    """The share of pairs that may be unlike n that were seen, all of which were alike; all, where none was."""
    return 1 - TAIL ** (1 / n) if n else 1.0


def delong_half_width(one: Metrics) -> float:
    """Half of an AUROC's 95 % interval as DeLong's variance gives it, without the logit of `measure`; more where that
    is zero, infinite where the interval does not tell, and 0 for 0 and 1, whose placements are all alike."""
    from scipy.special import logit

    if one.auroc in (0, 1):
        return 0.0
    return float((logit(one.auroc) - logit(one.auroc_low)) * one.auroc * (1 - one.auroc))


def over_seeds(values: Sequence[float]) -> Summary:
    """Mean and spread of one number over seeds.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("over_seeds: no values; at least one seed is needed")
    values = [float(value) for value in values]
    n, mean = len(values), statistics.fmean(values)
    # Not statistics.stdev, whose fractions take a tenth of a second for as many seeds as a large study has.
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 else None
    return Summary(mean=mean, std=std, n=n)


def pooled_interval(seeds: Sequence[Metrics]) -> tuple[float, float]:
    """A 95 % interval for the mean AUROC over seeds that were tested on the same images.

    Two things are random: which images are in the test set, and the seed of training. More seeds average out the
    second, but not the first, because they share the images. What the images do is the mean of the evaluations' own
    half-widths, below and above apart since they differ near 1; `reach` says what the seeds add. The result is cut to
    [0, 1].

    Raises:
        ValueError: there are no seeds.
    """
    aurocs = [one.auroc for one in seeds]
    mean, (below, above) = over_seeds(aurocs).mean, half_widths(seeds)
    return max(mean - reach(below, aurocs), 0.0), min(mean + reach(above, aurocs), 1.0)


def half_widths(seeds: Sequence[Metrics]) -> tuple[float, float]:
    """How far the intervals of one number reach below and above it, on average over seeds: what the images do."""
    below = statistics.fmean([one.auroc - one.auroc_low for one in seeds])
    return below, statistics.fmean([one.auroc_high - one.auroc for one in seeds])


def reach(images: float, *seeds: Sequence[float]) -> float:
    """How far the 95 % interval of a number reaches to one side, by the choice of images and of seeds.

    The number is a mean over seeds, or the sum or difference of several means over seeds of their own. Its variance is
    that of the images, (images / 1.96)**2, known from all of them, and s**2 / k for each mean, known from k seeds.
    Student's t has the degrees of freedom that Satterthwaite (1946) gives such a sum, as for few readers of the same
    cases in Hillis (2007), *A comparison of denominator degrees of freedom methods for multiple observer ROC
    analysis*: one that the seeds hardly add to is left alone, one of nothing but seeds has k - 1. The result is never
    below `images`. In simulations it covers 92 to 95 % with three seeds, and 87 to 95 % with two, whose spread is a
    guess; what would always cover 95 % (the sum of the squares of either half-width) is several times as wide, and
    with two seeds tells next to nothing from anything.

    Args:
        images: half of the 95 % interval, on that side, that speaks of the images alone.
        seeds: the values of each mean, one per seed; fewer than two say nothing of other seeds.
    """
    from scipy.special import stdtrit

    summaries = [over_seeds(values) for values in seeds]
    parts = [((one.std or 0.0) ** 2 / one.n, one.n - 1) for one in summaries]
    total = (images / Z) ** 2 + math.fsum(variance for variance, _ in parts)
    uncertain = math.fsum((variance / total) ** 2 / degrees for variance, degrees in parts if variance)
    return max(float(stdtrit(1 / uncertain, 1 - TAIL)) * math.sqrt(total), images) if uncertain else images


def _scores(values: ArrayLike, kind: str) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{kind} scores: shape {scores.shape}; one score per image is needed, as shape (N,)")
    if not scores.size:
        raise ValueError(f"{kind} scores: none; at least one normal image and one anomaly are needed")
    if bad := int(np.sum(~np.isfinite(scores))):
        raise ValueError(f"{kind} scores: {bad} of {scores.size} are not finite; a score must be a finite number")
    return scores


def placements(normal: ArrayLike, anomaly: ArrayLike) -> Placements:
    """(M,) for each anomaly the share of normal images below it, (N,) for each normal image that of anomalies above.

    Ties count half. A place in the sorted other class is an image's midrank among all less its midrank in its own.

    Args and errors: as for `measure`.
    """
    normal, anomaly = _scores(normal, "normal"), _scores(anomaly, "anomaly")
    return _share_below(anomaly, normal), 1 - _share_below(normal, anomaly)


def _share_below(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    others = np.sort(others)
    twice = np.searchsorted(others, scores, side="left") + np.searchsorted(others, scores, side="right")
    return twice / (2 * len(others))


def _variance(of_anomalies: NDArray[np.float64], of_normals: NDArray[np.float64]) -> float:
    if min(len(of_anomalies), len(of_normals)) < 2:
        return float("nan")
    return float(sum(placements.var(ddof=1) / len(placements) for placements in (of_anomalies, of_normals)))


def _interval(auroc: float, variance: float, n: int) -> tuple[float, float]:
    """The interval that `measure` describes; n is the number of disjoint pairs."""
    from scipy.special import expit, logit

    if auroc == 1:
        return TAIL ** (1 / n), 1.0
    if auroc == 0:
        return 0.0, 1 - TAIL ** (1 / n)
    slope = auroc * (1 - auroc)
    if not variance > 0:  # zero or NaN
        variance = slope / n
    reach = Z * variance**0.5 / slope
    return float(expit(logit(auroc) - reach)), float(expit(logit(auroc) + reach))
