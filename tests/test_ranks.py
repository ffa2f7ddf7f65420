"""Ranks keep what numbers are made of: the order of the scores and their ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.arrays import npz
from harness.metrics import measure
from harness.ranks import MANY, from_ranks, to_ranks

SPREADS = {
    "normal": lambda draw, n: draw.normal(size=n),
    "float32": lambda draw, n: draw.normal(size=n).astype(np.float32),
    "ties": lambda draw, n: draw.integers(0, 2000, n) / 7,
    "few": lambda draw, n: draw.integers(0, 9, n) / 7,
    "one": lambda draw, n: np.ones(n),
    "many sizes": lambda draw, n: draw.choice([-1, 1], n) * 10 ** draw.uniform(-300, 300, n),
    "saturated": lambda draw, n: 1 - 10 ** draw.uniform(-16, 0, n),
    "neighbours": lambda draw, n: 1 + np.spacing(1.0) * draw.permutation(n),
}


def scores(spread, seed, n=3000, names=("A", "B")):
    draw = np.random.default_rng(seed)
    return {f"{part}.{name}": SPREADS[spread](draw, n) for name in names for part in ("normal", "anomaly")}


def both(arrays, name="A"):
    return np.concatenate([arrays[f"normal.{name}"], arrays[f"anomaly.{name}"]])


def order(values):
    return np.unique(values, return_inverse=True)[1]


@given(st.sampled_from(sorted(SPREADS)), st.integers(0, 2**32 - 1), st.integers(MANY // 3, 4 * MANY))
def test_order_and_ties_are_kept_whatever_the_values(spread, seed, n):
    given = scores(spread, seed, n)
    ranks = to_ranks(given)
    made = from_ranks(ranks, n)
    assert set(made) == set(given)
    for name in ("A", "B"):
        assert (order(both(made, name)) == order(both(given, name))).all()
        assert np.isfinite(both(made, name)).all()
    assert npz(to_ranks(made)) == npz(ranks), "what is published again stays as it is"


@pytest.mark.parametrize("spread", ["few", "one", "neighbours"])
def test_scores_that_ranks_do_not_suit_stay_as_they_are(spread):
    given = scores(spread, 0)
    assert npz(to_ranks(given)) == npz(given)


@pytest.mark.parametrize("spread", ["normal", "float32", "ties", "many sizes"])
def test_a_number_is_the_same_and_a_value_nearly(spread):
    given = scores(spread, 0)
    made = from_ranks(to_ranks(given), 3000)
    assert measure(made["normal.A"], made["anomaly.A"]) == measure(given["normal.A"], given["anomaly.A"])
    exact, near = np.sort(both(given)), np.sort(both(made))
    assert (near[0], near[-1]) == pytest.approx((exact[0], exact[-1]), rel=1e-7)
    # No value leaves the stretch between two that are kept, so no bar of a histogram gains more than such a stretch:
    # of 1.6 % of the images in the middle, of .2 % at what a histogram ends with.
    for share, most in {0.005: 0.002, 0.1: 0.007, 0.5: 0.016, 0.9: 0.007, 0.995: 0.002}.items():
        cut = np.quantile(exact, share)
        assert abs(np.searchsorted(near, cut) - np.searchsorted(exact, cut)) <= 1.1 * most * len(exact)


def test_ranks_are_small():
    for spread, share in {"normal": 0.25, "float32": 0.5}.items():
        given = scores(spread, 0, 5000, names=("A",))
        assert len(npz(to_ranks(given))) < share * len(npz(given))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"rank2.A": np.full(6000, 255, np.uint8)}, "ranks up to 167"),  # which would take 300 times the memory
        ({"rank1.A": np.zeros(5999, np.uint8)}, "same shape"),
        ({"values.A": np.arange(128.0)}, "same length"),
    ],
)
def test_what_are_no_ranks_of_so_many_images_is_refused(damage, told):
    ranks = to_ranks(scores("normal", 0, names=("A",)))
    with pytest.raises(ValueError, match=told):
        from_ranks(ranks | damage, 3000)
