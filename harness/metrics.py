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

Share = Annotated[float, Field(ge=0, le=1)]


class Metrics(Spec):
    """One evaluation in numbers, each a share in [0, 1]. Anomalies are the positive class."""

    auroc: Share
    auroc_low: Share
    """Lower end of the 95 % interval of the AUROC."""
    auroc_high: Share
    """Upper end of the 95 % interval of the AUROC."""
    aupr: Share
    fpr95: Share


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
    of_anomalies, of_normals = _placements(_scores(normal, "normal"), _scores(anomaly, "anomaly"))
    return float(of_anomalies.mean()), _variance(of_anomalies, of_normals)


def compare(normal_a: ArrayLike, anomaly_a: ArrayLike, normal_b: ArrayLike, anomaly_b: ArrayLike) -> Comparison:
    """The paired DeLong test: does method a have another AUROC than method b on the same images?

    Scores at the same index belong to the same image; both methods having found the same images hard cancels out.
    The interval is the normal one, cut to [-1, 1]. The variance says nothing where it is zero (two methods that rank
    alike, say) or unknown (a class has one image). The n = min(n_normal, n_anomaly) disjoint pairs of images are then
    taken to have all shown the same difference d, and the rest follows as in `measure`: a share 1 - 0.025**(1/n) of
    pairs may be unlike them and show anything from -1 to 1, and p = 2 (1 + |d|)**-n, at most 1, since pairs that
    differ by zero on average can show d no more often than one time in 1 + |d|.

    Args:
        normal_a, normal_b: (N,) scores of the normal images by each method; higher = more anomalous.
        anomaly_a, anomaly_b: (M,) scores of the anomalies by each method.

    Raises:
        ValueError: as for `measure`, or the methods scored different numbers of images.
    """
    normal_a, normal_b = _scores(normal_a, "normal"), _scores(normal_b, "normal")
    anomaly_a, anomaly_b = _scores(anomaly_a, "anomaly"), _scores(anomaly_b, "anomaly")
    if len(normal_a) != len(normal_b) or len(anomaly_a) != len(anomaly_b):
        raise ValueError(
            f"compare: {len(normal_a)} and {len(normal_b)} normal, {len(anomaly_a)} and {len(anomaly_b)} anomaly "
            "scores; both methods must score the same images"
        )
    # The variance of a difference is that of the differences: no covariances to add up.
    of_anomalies, of_normals = (
        a - b for a, b in zip(_placements(normal_a, anomaly_a), _placements(normal_b, anomaly_b), strict=True)
    )
    difference, variance = float(of_anomalies.mean()), _variance(of_anomalies, of_normals)
    if variance > 0:
        error = variance**0.5
        low, high = max(difference - Z * error, -1.0), min(difference + Z * error, 1.0)
        p_value = 2 * GAUSS.cdf(-abs(difference) / error)
    else:
        n = min(len(normal_a), len(anomaly_a))
        unseen = 1 - TAIL ** (1 / n)
        low, high = difference - unseen * (1 + difference), difference + unseen * (1 - difference)
        p_value = min(2 * (1 + abs(difference)) ** -n, 1.0)
    return Comparison(difference=difference, low=low, high=high, p_value=p_value)


def over_seeds(values: Sequence[float]) -> Summary:
    """Mean and spread of one number over seeds.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("over_seeds: no values; at least one seed is needed")
    values = [float(value) for value in values]
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(mean=statistics.fmean(values), std=std, n=len(values))


def pooled_interval(seeds: Sequence[Metrics]) -> tuple[float, float]:
    """A 95 % interval for the mean AUROC over seeds that were tested on the same images.

    Two things are random: which images are in the test set, and the seed of training. More seeds average out the
    second, but not the first, because they share the images. With k seeds the two half-widths are

    - images: the mean of the k evaluations' own half-widths, below and above apart since they differ near 1;
    - seeds: t s / sqrt(k), with s the sample standard deviation of the k AUROCs and t the 97.5 % quantile of Student's
      t with k - 1 degrees of freedom; 0 for one seed, whose interval therefore does not speak of other seeds,

    and independent half-widths add in squares (Zou & Donner 2008, who recover variances from confidence limits; here
    it keeps the interval honest where the AUROC is exactly 1). The result is cut to [0, 1].

    Raises:
        ValueError: there are no seeds.
    """
    summary = over_seeds([one.auroc for one in seeds])
    below = statistics.fmean(one.auroc - one.auroc_low for one in seeds)
    above = statistics.fmean(one.auroc_high - one.auroc for one in seeds)
    spread = student([one.auroc for one in seeds])
    return max(summary.mean - math.hypot(below, spread), 0.0), min(summary.mean + math.hypot(above, spread), 1.0)


def student(values: Sequence[float]) -> float:
    """How far the 95 % interval of the mean reaches on either side, by Student's t; 0 for a single value."""
    from scipy.special import stdtrit

    summary = over_seeds(values)
    return 0.0 if summary.std is None else float(stdtrit(summary.n - 1, 1 - TAIL)) * summary.std / summary.n**0.5


def _scores(values: ArrayLike, kind: str) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{kind} scores: shape {scores.shape}; one score per image is needed, as shape (N,)")
    if not scores.size:
        raise ValueError(f"{kind} scores: none; at least one normal image and one anomaly are needed")
    if bad := int(np.sum(~np.isfinite(scores))):
        raise ValueError(f"{kind} scores: {bad} of {scores.size} are not finite; a score must be a finite number")
    return scores


def _placements(normal: NDArray[np.float64], anomaly: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """(M,) for each anomaly the share of normal images below it, (N,) for each normal image that of anomalies above.

    Ties count half. A place in the sorted other class is an image's midrank among all less its midrank in its own.
    """
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
