"""One method's numbers beside all others: `harness compare --against`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tiny import case, harness, named, plugin

from harness.metrics import compare, measure
from harness.records import Record, Store

BRIGHT = "return {'L2': images.float().flatten(1).mean(1) + self.mean.mean()}"
ODD = "return {'L2': (images.float() ** self.power).flatten(1).mean(1)}"


@pytest.fixture(scope="module")
def made(run_here) -> Path:
    """Records of three methods, of test 2's cases 2 and 3 and of seeds 0 to 2."""
    with run_here("paired"):
        methods = [
            plugin("mean-image"),
            plugin("bright", score=BRIGHT),
            plugin("odd", score=ODD, fit="self.mean = train.images.float().mean(0); self.power = 1 + run.seed"),
        ]
        words = ["run", "--protocol", "test2", "--case", "2,3", "--seed", "0,1,2"]
        harness(*words, "--method", ",".join(map(str, methods)))
        return Path("results").absolute()


def rows(results: Path, *words: str) -> list[dict[str, str]]:
    text = harness("compare", "--results", results, "--format", "csv", *words).out
    return list(csv.DictReader(io.StringIO(text)))


def scores(results: Path, method: str, case: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    (record,) = (one for one in Store(results).records() if (one.method, one.case, one.seed) == (method, case, seed))
    kept = Store(results).scores(record)
    return kept["normal.L2"], kept["anomaly.L2"]


def test_one_seed_is_delong_s_paired_interval(made):
    found = rows(made, "--against", "mean-image", "--seed", "1")
    assert [(row["number"], row["method"]) for row in found] == [
        (number, f"{method} L2") for number in "23" for method in ("bright", "odd")
    ]
    for row in found:
        ours = scores(made, row["method"].removesuffix(" L2"), row["number"], 1)
        its = scores(made, "mean-image", row["number"], 1)
        expected = compare(*ours, *its)
        assert float(row["difference"]) == pytest.approx(expected.difference, abs=1e-9)
        assert float(row["95 % interval low"]) == pytest.approx(expected.low, abs=1e-9)
        assert float(row["95 % interval high"]) == pytest.approx(expected.high, abs=1e-9)
        assert (row["verdict"] == "more than noise") == (expected.low > 0 or expected.high < 0)
        assert float(row["AUROC"]) == pytest.approx(measure(*ours).auroc)
        assert float(row["its AUROC"]) == pytest.approx(measure(*its).auroc)


def test_several_seeds_add_what_they_differ_by(made):
    for row in rows(made, "--against", "bright", "--method", "bright,odd"):
        each = [
            [measure(*scores(made, method, row["number"], seed)).auroc for seed in range(3)]
            for method in ("odd", "bright")
        ]
        assert len(set(each[1])) == 1
        difference = np.mean(each[0]) - np.mean(each[1])
        assert float(row["difference"]) == pytest.approx(difference, abs=1e-9)
        # As if the seeds alone were random, known from three: no method that adds the images can be narrower than
        # their standard error under the normal law.
        least = 1.96 * stats.sem(each[0])
        assert float(row["95 % interval high"]) - difference > least > 0
        assert difference - float(row["95 % interval low"]) > least


def test_each_anomaly_set_and_the_average(here):
    cases = {"a": case(["0"], near=["6"], far=["patches"]), "b": case(["1"], near=["7"], far=["8"])}
    protocol = named(cases, table={"title": "Table 9", "corner": "normal", "average": True})
    harness("run", "--protocol", protocol, "--method", f"{plugin()},{plugin('bright', score=BRIGHT)}")
    found = rows(Path("results"), "--protocol", str(protocol), "--against", "bright.L2")
    assert [(row["normal"], row["anomalies"]) for row in found] == [
        (place, name) for place in ("a", "b", "average") for name in ("near", "far")
    ]
    by_place = {(row["normal"], row["anomalies"]): row for row in found}
    for name in ("near", "far"):
        mean = np.mean([float(by_place[place, name]["difference"]) for place in "ab"])
        assert float(by_place["average", name]["difference"]) == pytest.approx(mean)


def test_a_table_with_methods_as_rows(here):
    harness("run", "--protocol", "test1", "--case", "3,4", "--method", f"{plugin()},{plugin('bright', score=BRIGHT)}")
    found = rows(Path("results"), "--against", "bright")
    assert [(row["case"], row["method"]) for row in found] == [("3", "mean-image L2"), ("4", "mean-image L2")]


def test_the_numbers_of_another_recipe(here):
    mean, odd = plugin(), plugin("odd", score=ODD, fit="self.mean = train.images.float().mean(0); self.power = 2")
    harness("run", "--protocol", "test2", "--case", "2,3", "--method", mean, "--recipe", "small")
    harness("run", "--protocol", "test2", "--case", "2,3", "--method", f"{mean},{odd}", "--recipe", "fast")
    results = Path("results")
    found = rows(results, "--against", "mean-image@small")
    # The table of small has no other method; that of fast has the same method, too.
    assert [(row["number"], row["method"]) for row in found] == [
        (number, f"{method} L2") for number in "23" for method in ("mean-image", "odd")
    ]
    assert all("recipe fast" in row["table"] and "against mean-image@small" in row["table"] for row in found)
    by_place = {(row["number"], row["method"]): row for row in found}
    for number in "23":
        (its,) = (r for r in Store(results).records() if (r.recipe, r.case) == ("small", number))
        its = Store(results).scores(its)
        expected = compare(*scores(results, "odd", number, 0), its["normal.L2"], its["anomaly.L2"])
        row = by_place[number, "odd L2"]
        assert float(row["difference"]) == pytest.approx(expected.difference, abs=1e-9)
        assert float(row["95 % interval low"]) == pytest.approx(expected.low, abs=1e-9)
        assert float(by_place[number, "mean-image L2"]["difference"]) == 0  # which trains nothing
    both = [(row["method"], row["table"].partition(":")[0]) for row in rows(results, "--against", "mean-image@fast")]
    assert [(method, title.rpartition(" ")[2]) for method, title in both] == [
        *[("odd L2", "fast")] * 2,
        *[("mean-image L2", "small")] * 2,
    ]

    assert {row["against"] for row in found} == {"mean-image L2@small"}
    # The recipe to compare with stays, whatever the filter leaves out.
    assert rows(results, "--against", "mean-image@small", "--recipe", "fast") == found

    assert "did you mean 'small'" in harness("compare", "--against", "mean-image@smal", code=2).line
    assert "of recipe ''" in harness("compare", "--against", "mean-image@", code=2).line
    assert "no number of it" in harness("compare", "--against", "odd@small", code=2).line
    for record in Store(results).records():
        if record.recipe == "small":
            changed = record.model_copy(update={"digests": {**record.digests, "dataset": "0" * 16}})
            Path(f"{Store(results).path(record.key)}.json").write_text(changed.model_dump_json())
    assert "not of the same images" in harness("compare", "--against", "mean-image@small", code=2).line


def test_what_can_t_be_compared_is_refused(made):
    assert "did you mean 'bright'" in harness("compare", "--results", made, "--against", "brihgt", code=2).line
    assert "known: L2" in harness("compare", "--results", made, "--against", "bright.MAX", code=2).line
    alone = harness("compare", "--results", made, "--method", "odd", "--against", "odd", code=2).line
    assert "no other method" in alone


def test_a_record_s_scores_are_needed(made, tmp_path):
    copy = tmp_path / "copy"
    for record in Store(made).records():
        for file in Store(made).files(record)[:1]:
            place = copy / file.relative_to(made)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    assert isinstance(next(Store(copy).records()), Record)
    assert "no scores" in harness("compare", "--results", copy, "--against", "odd", code=2).line
