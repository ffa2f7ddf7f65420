"""Bold: the best of a row and what is tied with it, against a bootstrap and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from tiny import case, harness, named, plugin

from harness.metrics import Metrics, delong_variance, measure
from harness.records import Record
from harness.report.ties import Entry, Scores, _reach_at_most, best_of_each, differences


def measured(normal: np.ndarray, anomaly: np.ndarray) -> Metrics:
    """What bold looks at: `measure` also takes an average precision, in most of its time."""
    auroc, variance = delong_variance(normal, anomaly)
    if auroc in (0, 1) or not variance > 0:
        return measure(normal, anomaly)
    low, high = expit(logit(auroc) + np.array([-1.959964, 1.959964]) * variance**0.5 / (auroc * (1 - auroc)))
    return Metrics(auroc=auroc, auroc_low=low, auroc_high=high, aupr=0, fpr95=0)


def best_or_tied(row: list[Entry], scores: Scores) -> list[bool]:
    return best_of_each([row], scores)[0]


class Made:
    """Records of made-up scores, and the scores."""

    def __init__(self):
        self.kept = {}

    def record(self, method: str, seed: int, normal: np.ndarray, anomaly: np.ndarray) -> Record:
        names = {"protocol": "p", "dataset": "d", "case": "c", "anomaly_set": "a", "recipe": "r", "status": "ok"}
        names |= {"n_normal": len(normal), "n_anomaly": len(anomaly)}
        one = Record(method=method, seed=seed, fit=method, scores={"S": measured(normal, anomaly)}, **names)
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
    assert other.scores["S"].auroc < best.scores["S"].auroc
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
    assert best_or_tied([entry(*steady), entry(*swinging)], made.scores) == [True, True]


def test_nothing_is_bold_that_is_lower_than_what_is_not():
    """A number that is known for sure to be lower than the best rules out all that are lower still, however unsure."""
    made = Made()
    x = np.linspace(-2, 2, 400)
    steady = [made.record("steady", seed, x, x + 1.0) for seed in range(3)]
    constant = [made.record("constant", seed, x, x + 0.9) for seed in range(3)]
    swinging = [made.record("swinging", seed, x, x + shift) for seed, shift in enumerate((0.2, 0.8, 1.6))]
    row = [entry(*swinging), entry(*constant), entry(*steady)]
    assert row[0].mean < row[1].mean
    assert best_or_tied(row, made.scores) == [False, False, True]


def test_bold_is_a_top_of_every_row():
    rng = np.random.default_rng(7)
    sizes = set()
    for _ in range(60):
        made, row = Made(), []
        images = rng.normal(size=(2, 40)) + np.array([[0], [1]])
        for method in range(6):
            spread, shift = rng.choice([0, 0.1, 0.6]), rng.uniform(0, 0.6)
            noise = rng.normal(size=(3, 2, 40)) * rng.choice([0.1, 1])
            scored = [images + one + np.array([[0], [spread * rng.normal() - shift]]) for one in noise]
            row.append(entry(*(made.record(str(method), seed, *one) for seed, one in enumerate(scored))))
        bold = best_or_tied(row, made.scores)
        order = sorted(range(6), key=lambda place: -row[place].mean)
        n = sum(bold)
        assert [bold[place] for place in order] == [True] * n + [False] * (6 - n)
        sizes.add(n)
    assert len(sizes) > 3


def test_two_seeds_far_apart_do_not_reach_a_number_far_above():
    """0.999 of a method without a seed, 0.972 of another, and 0.25 and 0.37 of a third: 180 images a class."""
    made, rng = Made(), np.random.default_rng(8)
    x, y = rng.normal(size=(2, 180))
    best = [made.record("knn", seed, x, y + 4.5) for seed in (0, 1)]
    lower = [made.record("lof", seed, x, y + 2.7) for seed in (0, 1)]
    below = [made.record("rotnet", seed, x, y + shift) for seed, shift in enumerate((-0.95, -0.45))]
    assert [round(one.scores["S"].auroc, 2) for one in below] == [0.25, 0.37]
    assert best_or_tied([entry(*below), entry(*best)], made.scores) == [False, True]
    assert best_or_tied([entry(*below), entry(*best), entry(*lower)], made.scores) == [False, True, False]


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(("of_images", "of_seeds"), [(1.0, 0.1), (0.5, 0.5)])
def test_equally_good_methods_are_told_apart_as_seldom_as_the_docstring_says(seeds, of_images, of_seeds):
    rng = np.random.default_rng(9)
    apart, repetitions = 0, 300
    for _ in range(repetitions):
        made, images = Made(), rng.normal(size=(2, 60)) + np.array([[0], [1]])
        row = []
        for method in "ab":
            own = images + of_images * rng.normal(size=(2, 60))  # what this method finds hard, whatever the seed
            scored = [own + np.array([[0], [of_seeds * rng.normal()]]) for _ in range(seeds)]
            row.append(entry(*(made.record(method, seed, *one) for seed, one in enumerate(scored))))
        apart += not all(best_or_tied(row, made.scores))
    assert apart / repetitions <= {2: 0.13, 3: 0.09}[seeds]


def test_scores_of_the_same_fits_are_compared_seed_by_seed():
    made = Made()
    x = np.linspace(-2, 2, 400)
    records = []
    for seed, shift in enumerate((0.5, 1.0, 1.5)):
        one = made.record("m", seed, x, x + shift)
        other = made.record("other", seed, x, x + shift - 0.1)
        made.kept["m", seed] |= {"normal.T": x, "anomaly.T": x + shift - 0.1}
        records.append(one.model_copy(update={"scores": one.scores | {"T": other.scores["S"]}}))
    high, low = Entry("S", (tuple(records),)), Entry("T", (tuple(records),))
    assert best_or_tied([high, low], made.scores) == [True, False]
    # As another method's, with seeds of its own, the same numbers are tied.
    others = [one.model_copy(update={"fit": "another"}) for one in records]
    assert best_or_tied([high, Entry("T", (tuple(others),))], made.scores) == [True, True]


def test_scores_of_the_same_fits_that_lack_different_seeds_are_compared_apart():
    """Of one fit for two cases, the one score is there of seeds 0 and 1 in both, the other not in the same ones."""
    made = Made()
    x = np.linspace(-2, 2, 60)
    records = [made.record("m", seed, x, x + 0.5) for seed in (0, 1, 2)]
    both = [one.model_copy(update={"scores": one.scores | {"T": one.scores["S"]}}) for one in records]
    for seed in (0, 1, 2):
        made.kept["m", seed] |= {f"{part}.T": made.kept["m", seed][f"{part}.S"] for part in ("normal", "anomaly")}
    whole = Entry("S", (tuple(both), tuple(both)))
    lacking = Entry("T", (tuple(both[:2]), tuple(both[1:])))
    assert best_or_tied([whole, lacking], made.scores) == [True, True]
    (one,) = differences([(whole, lacking)], made.scores)
    assert one.value == pytest.approx(0, abs=1e-12)
    assert one.low < 0 < one.high


def test_scores_are_not_read_where_the_intervals_lie_apart():
    made = Made()
    rng = np.random.default_rng(2)
    good = made.record("good", 0, rng.normal(size=500), rng.normal(3, 1, size=500))
    bad = made.record("bad", 0, rng.normal(size=500), rng.normal(0.1, 1, size=500))

    def unreadable(record):
        raise AssertionError("the scores were read")

    assert best_or_tied([entry(bad), entry(good)], unreadable) == [False, True]


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 40), st.lists(st.floats(-1, 8), min_size=2, max_size=2),
    st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 0.01, 1.0]), st.booleans(),
)  # fmt: skip
def test_what_is_told_without_the_scores_is_what_the_scores_tell(seed, n, shifts, seeds, cases, spread, same_fits):
    """However far apart the numbers are, and however the seeds scatter: near 1 single intervals say otherwise."""
    rng, made = np.random.default_rng(seed), Made()

    def number(method: str, shift: float) -> Entry:
        def one(case: int, seed: int) -> Record:
            images = rng.normal(size=n), rng.normal(shift + spread * rng.normal(), size=n)
            found = made.record(f"{method}{case}", seed, *images)
            return found.model_copy(update={"fit": str(case)}) if same_fits else found

        return Entry("S", tuple(tuple(one(case, seed) for seed in range(seeds)) for case in range(cases)))

    a, b = sorted((number("a", shifts[0]), number("b", shifts[1])), key=lambda entry: -entry.mean)
    (truth,) = differences([(a, b)], made.scores)
    assert truth.value - truth.low <= _reach_at_most(a, b) + 1e-9


def test_images_are_compared_in_pairs_even_where_no_seed_is_in_common():
    made = Made()
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=200), rng.normal(1, 1, size=200)
    first, alike = made.record("a", 0, x, y), made.record("b", 1, x, y + rng.normal(size=200) * 0.1)
    lower = made.record("c", 2, x, y - 0.05)
    assert lower.scores["S"].auroc_high > first.scores["S"].auroc
    assert best_or_tied([entry(first), entry(alike), entry(lower)], made.scores) == [True, True, False]


def test_an_average_is_as_steady_as_its_means_over_the_seeds():
    """Seeds that err in opposite directions in two cases cancel out; those that err alike do not."""
    made = Made()
    x = np.linspace(-2, 2, 400)

    def number(method: str, *shifts: tuple[float, float]) -> Entry:
        cases = (
            tuple(made.record(f"{method}{case}", seed, x, x + one) for seed, one in enumerate(each))
            for case, each in enumerate(shifts)
        )
        return Entry("S", tuple(cases))

    best = number("best", (1.0, 1.0), (1.0, 1.0))
    opposed, alike = number("opposed", (0.75, 0.95), (0.95, 0.75)), number("alike", (0.75, 0.95), (0.75, 0.95))
    assert best_or_tied([best, opposed], made.scores) == [True, False]
    assert best_or_tied([best, alike], made.scores) == [True, True]


def test_cases_are_averaged():
    made = Made()
    x = np.linspace(-2, 2, 400)
    up = Entry("S", tuple((made.record(f"up{i}", 0, x, x + 1.0),) for i in range(3)))
    mixed = Entry("S", tuple((made.record(f"mixed{i}", 0, x, x + s),) for i, s in enumerate((1.2, 0.9, 0.3))))
    assert best_or_tied([mixed, up], made.scores) == [False, True]


def test_one_case_that_is_clear_does_not_decide_an_average():
    made = Made()
    x = np.linspace(-2, 2, 400)

    def number(method: str, *shifts: float) -> Entry:
        return Entry("S", tuple((made.record(f"{method}{i}", 0, x, x + shift),) for i, shift in enumerate(shifts)))

    best, other = number("best", 1.5, 0.3), number("other", 0.3, 1.49)
    assert other.mean < best.mean
    assert best_or_tied([best, other], made.scores) == [True, True]


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
    assert "Bold: the best number of its row" in out
    assert "(DeLong; each test" in out
    assert "A number of one seed is taken as if every seed gave the same." in out
    more = harness("run", "--protocol", protocol, "--method", f"{good},{bad}", "--seed", "0,1").out
    assert "(DeLong, and seeds; each test" in more
    assert "one seed" not in more
    assert more == harness("leaderboard", "--protocol", protocol).out


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
