"""Bold: the best of a row and what is tied with it, against a bootstrap and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import case, harness, named, plugin

from harness.metrics import measure
from harness.records import Record
from harness.ties import Entry, best_or_tied


class Made:
    """Records of made-up scores, and the scores."""

    def __init__(self):
        self.kept = {}

    def record(self, method: str, seed: int, normal: np.ndarray, anomaly: np.ndarray) -> Record:
        names = {"protocol": "p", "dataset": "d", "case": "c", "anomaly_set": "a", "recipe": "r", "status": "ok"}
        one = Record(method=method, seed=seed, scores={"S": measure(normal, anomaly)}, **names)
        self.kept[method, seed] = {"normal.S": normal, "anomaly.S": anomaly}
        return one

    def scores(self, record: Record):
        return self.kept[record.method, record.seed]


def entry(*records: Record) -> Entry:
    return Entry("S", (records,))


def test_the_pairing_decides():
    """Two methods whose intervals overlap widely: told apart where they err on the same images, tied where not."""
    rng = np.random.default_rng(0)
    made = Made()
    hard, anomaly = rng.normal(size=300), rng.normal(1.2, 1, size=300)
    noise = rng.normal(size=300) * 0.05
    best = made.record("best", 0, hard, anomaly)
    alike = made.record("alike", 0, hard + 0.08 + noise, anomaly)
    other = made.record("other", 0, rng.normal(size=300), rng.normal(1.15, 1, size=300))
    assert best.scores["S"].auroc_low < alike.scores["S"].auroc < best.scores["S"].auroc
    assert best_or_tied([entry(alike), entry(best)], made.scores) == [False, True]
    if other.scores["S"].auroc < best.scores["S"].auroc:
        assert best_or_tied([entry(best), entry(other)], made.scores) == [True, True]


def test_the_decision_is_that_of_a_bootstrap_over_images():
    rng = np.random.default_rng(1)
    agreed = 0
    for _ in range(30):
        made, shift = Made(), rng.uniform(0, 0.5)
        shared = rng.normal(size=(2, 150))
        x = (shared[0] + rng.normal(size=150) * 0.5, shared[1] + 1.3 + rng.normal(size=150) * 0.5)
        y = (shared[0] + rng.normal(size=150) * 0.5, shared[1] + 1.3 - shift + rng.normal(size=150) * 0.5)
        a, b = made.record("a", 0, *x), made.record("b", 0, *y)
        if b.scores["S"].auroc > a.scores["S"].auroc:
            (a, x), (b, y) = (b, y), (a, x)
        # Of each pair of images, whether the anomaly scores higher: a resampled AUROC is a mean over resampled pairs.
        above = [(z[1] > z[0][:, None]).astype(float) for z in (x, y)]
        draws = [np.ix_(rng.integers(150, size=150), rng.integers(150, size=150)) for _ in range(400)]
        differences = [above[0][draw].mean() - above[1][draw].mean() for draw in draws]
        tied = np.quantile(differences, 0.025) <= 0
        agreed += best_or_tied([entry(a), entry(b)], made.scores)[1] == tied
    assert agreed >= 27  # on the border the two may differ


def test_seeds_that_disagree_make_a_tie():
    made = Made()
    x = np.linspace(-2, 2, 400)
    steady = [made.record("steady", seed, x, x + 1.0) for seed in range(3)]
    swinging = [made.record("swinging", seed, x, x + shift) for seed, shift in enumerate((0.2, 0.9, 1.6))]
    constant = [made.record("constant", seed, x, x + 0.9) for seed in range(3)]
    assert best_or_tied([entry(*steady), entry(*swinging), entry(*constant)], made.scores) == [True, True, False]


def test_scores_are_not_read_where_the_intervals_lie_apart():
    made = Made()
    rng = np.random.default_rng(2)
    good = made.record("good", 0, rng.normal(size=500), rng.normal(3, 1, size=500))
    bad = made.record("bad", 0, rng.normal(size=500), rng.normal(0.1, 1, size=500))

    def unreadable(record):
        raise AssertionError("the scores were read")

    assert best_or_tied([entry(bad), entry(good)], unreadable) == [False, True]


def test_no_seed_in_common_is_compared_unpaired():
    made = Made()
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=200), rng.normal(1, 1, size=200)
    first, second = made.record("a", 0, x, y), made.record("b", 1, x, y - 0.02)
    assert best_or_tied([entry(first), entry(second)], made.scores) == [True, True]


def test_cases_are_averaged():
    made = Made()
    x = np.linspace(-2, 2, 400)
    up = Entry("S", tuple((made.record(f"up{i}", 0, x, x + 1.0),) for i in range(3)))
    mixed = Entry("S", tuple((made.record(f"mixed{i}", 0, x, x + s),) for i, s in enumerate((1.2, 0.9, 0.3))))
    assert best_or_tied([mixed, up], made.scores) == [False, True]


def test_the_table_shows_it_and_says_so(here):
    good = plugin("good")
    bad = plugin("bad", fit="pass", score='return {"L2": images.float().flatten(1).mean(1) * 0}')
    protocol = named({"a": case(["0"], "6")})
    harness("run", "--protocol", protocol, "--method", good)
    alone = harness("leaderboard", "--protocol", protocol).out
    assert "**" not in alone
    assert "Bold" not in alone
    out = harness("run", "--protocol", protocol, "--method", f"{good},{bad}").out
    assert "| a | 0.500 | **" in out
    assert "Bold: the best of its row" in out
    assert out == harness("leaderboard", "--protocol", protocol).out


def test_each_anomaly_set_has_its_own_best(here):
    bad = plugin("bad", fit="pass", score='return {"L2": images.float().flatten(1).mean(1) * 0}')
    protocol = named({"a": case(["0"], near=["6"], far=["1"])})
    out = harness("run", "--protocol", protocol, "--method", f"{plugin('good')},{bad}").out
    row = next(line for line in out.splitlines() if line.startswith("| a |"))
    assert row.count("**") == 4


@pytest.mark.parametrize("form", ["md", "html", "tex"])
def test_every_form_shows_bold(here, form):
    protocol = named({"a": case(["0"], "6")})
    bad = plugin("bad", fit="pass", score='return {"L2": images.float().flatten(1).mean(1) * 0}')
    harness("run", "--protocol", protocol, "--method", f"{plugin('good')},{bad}")
    out = harness("leaderboard", "--protocol", protocol, "--format", form).out
    assert {"md": "| **", "html": "<strong>", "tex": r"\textbf{"}[form] in out
