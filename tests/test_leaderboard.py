"""Leaderboards: the paper's layout from records alone, and which numbers never meet in one table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import statistics
from pathlib import Path

import pytest
from made_up import metrics, text, tidy_rows
from made_up import record as made_up_record
from read_page import Read
from tiny import case, harness, named, plugin, table

from harness import HarnessError
from harness.protocol import read_protocol
from harness.records import Record, Store
from harness.report.leaderboard import leaderboards

DASH = "–"


@pytest.fixture(scope="module")
def made(run_here) -> list[Record]:
    """Records of test 2 on digits, of cases 1 to 5 and seeds 0 to 2, of a method of one's own."""
    with run_here("records"):
        harness("run", "--protocol", "test2", "--method", plugin(), "--seed", "0,1,2")
        return list(Store(Path("results")).records())


def as_method(record: Record, method: str, status: str = "ok", reason: str = "", **aurocs: float) -> Record:
    """The record as if another method had made it."""
    (metrics,) = record.scores.values()
    scores = {name: metrics.model_copy(update={"auroc": value}) for name, value in aurocs.items()}
    fit = f"{method} {record.case} {record.seed}"
    values = {"method": method, "scores": scores, "status": status, "reason": reason, "fit": fit}
    return record.model_copy(update=values)


def three(records: list[Record], seeds=(0,)) -> list[Record]:
    """Records as of the three methods of table 8: subcluster does not apply to case 1."""
    found = []
    for record in (one for one in records if one.seed in seeds):
        k, s = int(record.case), record.seed
        found.append(as_method(record, "ssl", KL=0.9 - k / 100 + s / 1000, TrueProb=0.95 - k / 100))
        found.append(as_method(record, "rotnet", MAX=0.6 + k / 100, ODIN=0.7 + k / 100))
        if k == 1:
            found.append(as_method(record, "subcluster", "skipped", "needs at least two sub-clusters"))
        else:
            found.append(as_method(record, "subcluster", MAX=0.8 + k / 100, ODIN=0.81 + k / 100))
    return found


# --- the layout ------------------------------------------------------------------------------------------------------


def test_table_8_as_the_paper_has_it(made):
    found = text(three(made))
    assert found.startswith(
        "### Table 8, digits, recipe small: Test 2: normal of multiple classes, anomaly of multiple classes\n"
    )
    assert table(found) == [
        ["number", "SSL KL", "RotNet MAX", "RotNet ODIN", "Proposed MAX", "Proposed ODIN", "SSL TrueProb"],
        ["1", "0.890", "0.610", "0.710", DASH, DASH, "0.940"],
        ["2", "0.880", "0.620", "0.720", "0.820", "0.830", "0.930"],
        ["3", "0.870", "0.630", "0.730", "0.830", "0.840", "0.920"],
        ["4", "0.860", "0.640", "0.740", "0.840", "0.850", "0.910"],
        ["5", "0.850", "0.650", "0.750", "0.850", "0.860", "0.900"],
    ]
    assert "subcluster: needs at least two sub-clusters" in found
    assert "arXiv:2011.08408" in found


def test_several_seeds_are_a_mean_and_a_deviation(made):
    rows = table(text(three(made, seeds=(0, 1, 2))))
    assert rows[1][1] == "0.891 ± 0.001"
    assert rows[1][2] == "0.610 ± 0.000"
    assert rows[1][4] == DASH
    kl = [row for row in tidy_rows(three(made, seeds=(0, 1, 2))) if row["score"] == "KL"]
    by_hand = [[0.9 - k / 100 + s / 1000 for s in range(3)] for k in range(1, 6)]
    assert [float(row["mean"]) for row in kl] == pytest.approx([statistics.fmean(values) for values in by_hand])
    assert [float(row["std"]) for row in kl] == pytest.approx([statistics.stdev(values) for values in by_hand])
    assert [row["runs"] for row in kl] == ["3"] * 5


def test_accuracies_among_neighbours_are_shown_but_never_compared():
    scores = {"Cosine": metrics(0.6), "Euclidean": metrics(0.9)}
    records = [
        made_up_record("test5", "cifar100", name, "isif", scores, knn_accuracy={str(k): 0.99}, params={"k": k})
        for name, k in (("fish", 3), ("carnivores", 300), ("cat_family", 3))
    ]
    (board,) = leaderboards(records, scores=lambda record: {})
    shown = {line.score: [(cell.text, cell.bold) for cell in line.cells] for line in board.lines[1:]}  # after SSL's
    assert shown == {
        "Cosine": [("0.600", False)] * 4,
        "Euclidean": [("0.900", True)] * 4,
        "kNN accuracy": [("0.990", False)] * 4,
    }


def test_the_order_of_the_records_is_no_matter(made):
    records = three(made, seeds=(0, 1))
    records += [as_method(one, name, "failed", "why") for one in made[:4] for name in ("x", "y", "z")]
    expected = text(records)
    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        assert text(shuffled) == expected


@pytest.mark.parametrize("form", ["md", "html", "tex", "csv"])
def test_every_form_has_every_number(made, form):
    found = text(three(made), form)
    for number in ("0.89", "0.61", "0.83", "Proposed", "RotNet"):
        assert number in found
    assert re.search(f"{DASH}|&ndash;|--|skipped", found)


def test_a_method_of_one_s_own_comes_after_the_paper_s(made):
    rows = table(text(three(made) + [one for one in made if one.seed == 0]))
    assert rows[0][-1] == "mean-image L2"
    assert [re.fullmatch(r"[01]\.\d{3}", row[-1]) is not None for row in rows[1:]] == [True] * 5


def test_several_anomaly_sets_and_an_average_by_hand(here):
    cases = {"a": case(["0"], near=["6"], far=["patches"]), "b": case(["1"], near=["7"], far=["8"])}
    layout = {"title": "Table 9", "corner": "normal", "average": True}
    protocol = named(cases, table=layout)
    rows = table(harness("run", "--protocol", protocol, "--method", plugin()).out)
    assert rows[0] == ["normal", "mean-image L2 near", "mean-image L2 far"]
    assert [row[0] for row in rows[1:]] == ["a", "b", "average"]
    aurocs = {(one.case, one.anomaly_set): one.scores["L2"].auroc for one in Store(Path("results")).records()}
    for column, name in ((1, "near"), (2, "far")):
        values = [aurocs["a", name], aurocs["b", name]]
        assert [row[column] for row in rows[1:]] == [f"{value:.3f}" for value in (*values, statistics.fmean(values))]


def test_an_average_tells_how_many_runs_it_is_of(here):
    protocol = named({"a": case(["0"], "6"), "b": case(["1"], "7")}, table={"title": "T", "average": True})
    words = ("run", "--protocol", protocol, "--method", plugin())

    def parts():
        rows = table(harness("leaderboard", "--protocol", protocol).out)
        return [row[1].partition(" (")[2] for row in rows[1:]]

    harness(*words, "--seed", "0,1")
    assert parts() == ["", "", ""]
    harness(*words, "--seed", "2", "--case", "a")
    assert parts() == ["", "2/3)", "5/6)"]


def test_a_run_of_a_case_without_one_of_the_anomaly_sets(here):
    protocol = named({"a": case(["0"], near=["6"], far=["patches"]), "b": case(["1"], near=["7"])})
    rows = table(harness("run", "--protocol", protocol, "--method", plugin(), "--case", "b").out)
    assert rows[0] == ["case", "mean-image L2 near"]
    assert [row[0] for row in rows[1:]] == ["b"]


# --- what is not there -----------------------------------------------------------------------------------------------


def test_a_failure_never_enters_a_mean(made):
    records = three(made, seeds=(0, 1, 2))

    def fails(one: Record) -> bool:
        return (one.method, one.case, one.seed) == ("ssl", "2", 1) or (one.method, one.case) == ("rotnet", "3")

    failure = {"status": "failed", "reason": "no luck", "scores": {}}
    failed = [one.model_copy(update=failure) if fails(one) else one for one in records]
    rows = table(text(failed))
    assert rows[2][1] == "1 of 3 failed"
    assert rows[3][2] == rows[3][3] == "failed"
    assert rows[1] == table(text(records))[1]
    assert "ssl, case 2, seed 1: no luck" in text(failed)
    numbers = {(row["row"], row["heading"], row["score"]): row for row in tidy_rows(failed)}
    assert [numbers["2", "SSL", "KL"][name] for name in ("status", "mean", "std")] == ["failed", "", ""]
    assert numbers["1", "Proposed", "MAX"]["status"] == "skipped"
    assert numbers["1", "SSL", "KL"]["status"] == "ok"


def test_what_was_not_run_says_so(made):
    rows = table(text([one for one in three(made) if one.case in "23" and one.method != "rotnet"]))
    assert rows[1][1:] == ["not run"] * 6
    assert rows[2] == ["2", "0.880", "not run", "not run", "0.820", "0.830", "0.930"]


def test_a_seed_that_is_missing_is_counted(made):
    records = [one for one in three(made, seeds=(0, 1)) if (one.method, one.case, one.seed) != ("ssl", "2", 1)]
    assert table(text(records))[2][1] == "0.880 (1/2)"
    assert "(n/m): the mean of n runs" in text(records)
    assert "(n/m)" not in text(three(made, seeds=(0, 1)))


def test_an_average_needs_every_case(here):
    layout = {"title": "T", "average": True}
    protocol = named({"a": case(["0"], "6"), "b": case(["1"], "7")}, table=layout)
    bad = plugin(fit="assert run.seed or train.images[0].sum() < 0, 'no'; self.mean = train.images.float().mean(0)")
    columns = zip(
        *table(harness("run", "--protocol", protocol, "--method", f"{bad},subcluster", code=1).out), strict=True
    )
    found = {name: cells for name, *cells in columns}
    assert found["mean-image"] == ["failed", "failed", "incomplete"]
    assert found["subcluster"] == [DASH, DASH, DASH]
    good = plugin("good")
    assert table(harness("run", "--protocol", protocol, "--method", good, "--case", "a").out)[-1][1] == "incomplete"
    assert re.fullmatch(r"0\.\d+", table(harness("run", "--protocol", protocol, "--method", good).out)[-1][1])


def test_a_run_shows_what_was_asked_for_and_a_leaderboard_the_whole_table(here):
    shown = table(harness("run", "--protocol", "test2", "--method", plugin(), "--case", "2,4").out)
    assert [row[0] for row in shown] == ["number", "2", "4"]
    assert shown[0][1:] == ["mean-image L2"]
    whole = table(harness("leaderboard").out)
    assert [row[0] for row in whole] == ["number", "1", "2", "3", "4", "5"]
    assert whole[0][-1] == "mean-image L2"
    assert len(whole[0]) == 7


def test_what_failed_with_another_plugin_of_the_name_keeps_no_number_out(here):
    protocol = named({"a": case(["0"], "6")})
    harness("run", "--protocol", protocol, "--method", plugin(fit="raise ValueError('no')"), code=1)
    harness("run", "--protocol", protocol, "--method", plugin(), "--seed", "1")
    assert "1 of 2 failed" in harness("leaderboard", "--protocol", protocol).out


def test_variants_are_told_apart_in_the_results(here):
    method = plugin(body="class Params(harness.Params):\n        k: int = 1")
    for words in ((), ("--set", "mean-image.k=2")):
        harness("run", "--protocol", "test2", "--case", "1", "--method", method, *words)
    found = csv.DictReader(io.StringIO(harness("results", "--format", "csv").out))
    assert sorted(row["settings"] for row in found) == ["", "mean-image.k=2"]


def test_nothing_on_record_is_told(here):
    assert "run something first" in harness("leaderboard", code=2).line
    assert "no such folder" in harness("results", code=2).line
    Path("results").mkdir()
    assert harness("results").out.count("\n") == 2
    assert json.loads(harness("results", "--format", "json").out) == []


# --- what never meets in one table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["dataset", "recipe", "method", "engine", "network", "score L2", "protocol"])
def test_numbers_that_are_not_comparable_are_refused(made, part):
    records = [one.model_copy(update={"digests": {part: "one"} | one.digests}) for one in made if one.seed == 0]
    records[3] = records[3].model_copy(update={"digests": records[3].digests | {part: "another"}})
    with pytest.raises(HarnessError, match=part if part != "protocol" else "another version of test2") as caught:
        text(records)
    assert f"case {records[3].case}" in str(caught.value)
    assert "run" in str(caught.value)


def test_numbers_by_other_parameters_than_the_protocol_declares_are_refused(here):
    power = "class Params(harness.Params):\n        power: int = 2"

    def run(power, *words):
        own = {"params": {"powered": {"power": power}}}
        cases = {"a": case(["0"], "8") | own, "b": case(["1"], "8") | own, "c": case(["2"], "8")}
        harness("run", "--protocol", named(cases), "--method", method, *words)

    method = plugin("powered", body=power)
    run(3, "--seed", "0,1")
    assert "± 0.000" in harness("leaderboard", "--protocol", "mine.toml").out
    run(4, "--seed", "1")
    line = harness("leaderboard", "--protocol", "mine.toml", code=2).line
    assert "case a, powered" in line
    assert "seed 0: made with power = 3, where mine has 4; run it again" in line
    run(4, "--seed", "0", "--case", "a")
    assert "case b, powered" in harness("leaderboard", "--protocol", "mine.toml", code=2).line
    run(4, "--seed", "0", "--set", "powered.power=3")
    run(4, "--seed", "0")
    assert "powered (power=3)" in harness("leaderboard", "--protocol", "mine.toml").out


def test_seeds_of_other_parameters_are_never_averaged(made):
    """As where a default that is no part of the method's own file has changed."""
    records = [one.model_copy(update={"params": {"power": 3 + one.seed}}) for one in made if one.seed in (0, 1)]
    with pytest.raises(HarnessError, match=r"have other parameters \(power\) and can't share a cell"):
        leaderboards(records)


def test_scores_in_other_orders_are_never_compared_image_by_image(here):
    harness(
        "run", "--protocol", named({"a": case([["0", "5"], ["1"]], "8")}), "--method", f"{plugin()},{plugin('other')}"
    )
    first, second = Store(Path("results")).records()
    assert leaderboards([first, second], ["mine.toml"])
    before = second.model_copy(update={"normal": (), "labels": True})  # as it was kept before the order was
    assert before.order == (("0", "5", "1"), ("8",))
    with pytest.raises(HarnessError, match=r"in different orders.*harness forget.*other") as refused:
        leaderboards([first, before], ["mine.toml"])
    assert "\n" not in str(refused.value)


def test_methods_and_their_recipes_may_differ_but_not_the_data(made):
    one, other = made[0], as_method(made[0], "ssl", KL=0.5)
    for part in ("method", "recipe"):
        text([one, other.model_copy(update={"digests": other.digests | {part: "another"}})])
    with pytest.raises(HarnessError, match="dataset"):
        text([one, other.model_copy(update={"digests": other.digests | {"dataset": "another"}})])


def test_changed_settings_stand_apart(here):
    method = plugin(body="class Params(harness.Params):\n        power: float = 2.0\n")
    words = ("--protocol", "test2", "--method", method)
    harness("run", *words)
    assert len(leaderboards(Store(Path("results")).records())) == 1
    # One method's own setting is a column of its own in the same table ...
    harness("run", *words, "--set", "mean-image.power=3")
    head = table(harness("leaderboard").out)[0]
    assert [name for name in head if "mean-image" in name] == ["mean-image L2", "mean-image (power=3) L2"]
    # ... and what changes the protocol or every method is a table of its own, which says so.
    for change in ("test2.order=1,2,3,4,0", "recipe.epochs=3"):
        (title,) = (line for line in harness("run", *words, "--set", change).out.splitlines() if line.startswith("###"))
        assert f"recipe small, {change}: Test 2" in title
    boards = leaderboards(Store(Path("results")).records())
    assert len(boards) == len({board.name for board in boards}) == len({board.table.title for board in boards}) == 3
    # In the page, too, where one is chosen, and where a number is open over it.
    found = harness("leaderboard", "--format", "html").out
    opened = {board["changed"] for board in Read(found).json("data")["boards"]}
    assert opened == {"", "test2.order=1,2,3,4,0", "recipe.epochs=3"}
    links = re.findall(r'<a href="#[^"]*">(digits[^<]*)</a>', found)
    assert sorted(links) == ["digits small", "digits small, recipe.epochs=3", "digits small, test2.order=1,2,3,4,0"]


def test_recipes_and_data_sets_stand_apart(here):
    words = ("--protocol", "test2", "--method", plugin())
    for recipe in ("small", "fast"):
        harness("run", *words, "--recipe", recipe)
    assert harness("leaderboard").out.count("### ") == 2
    assert harness("leaderboard", "--recipe", "fast").out.count("### ") == 1


def test_the_leaderboard_after_an_edited_protocol_names_what_to_do(here):
    words = ("--method", plugin())
    protocol = named({"a": case(["0"], "6")})
    harness("run", "--protocol", protocol, *words)
    named({"a": case(["0"], "7")})
    assert "run it again" in harness("leaderboard", "--protocol", protocol, code=2).line
    harness("run", "--protocol", protocol, *words)
    harness("leaderboard", "--protocol", protocol)


def test_a_protocol_of_one_s_own_hides_no_other_table(here):
    harness("run", "--protocol", "test2", "--method", plugin())
    own = named({"a": case(["0"], "6")})
    harness("run", "--protocol", own, "--method", plugin())
    assert harness("leaderboard", "--protocol", f"test2,{own}").out.count("### ") == 2
    # A copy of its file is beside its records. Without any they can't be laid out, and the line says how.
    own.unlink()
    assert harness("leaderboard").out.count("### ") == 2
    Path("results/protocols/mine.toml").unlink()
    assert "no protocol is called 'mine'" in harness("leaderboard", code=2).line


def test_a_table_that_can_not_be_made_hides_no_other(here):
    """Of an edited method one seed was run again."""
    for protocol in ("test2", named({"a": case(["0"], "6")})):
        harness("run", "--protocol", protocol, "--method", f"{plugin()},lof", "--seed", "0,1")
    plugin(score="return {'L2': 2 * (images.float() - self.mean).flatten(1).norm(dim=1)}")
    harness("run", "--protocol", "test2", "--method", "./mean-image.py")
    for words in (["leaderboard"], ["leaderboard", "--format", "html"], ["compare", "--against", "lof"]):
        found = harness(*words, code=2)
        assert "differ in their method and can't share a column" in found.line
        assert "Table 0, digits, recipe small" in found.out
        assert "Table 8, digits, recipe small" not in found.out
    assert "share a column" in harness("leaderboard", "--protocol", "test2", code=2).line
    assert "share a column" in harness("leaderboard", "--out", "published", code=2).line
    assert not Path("published").exists()


# --- what a table says of a method -----------------------------------------------------------------------------------


def test_a_network_of_a_method_s_own_is_not_called_the_recipe_s(here):
    build = "def build(self, task, run):\n        import torch\n        self.net = torch.nn.Linear(8, 8)\n"
    fit = "harness.kit.train_network(self.net, train.images, lambda x, index: (self.net(x) - x).square().mean(), run)"
    score = "return {'L2': (self.net(images / 255) - images / 255).flatten(1).norm(dim=1).detach()}"
    method = plugin(body=build, fit=fit, score=score)
    words = ("run", "--protocol", "test2", "--case", "2", "--set", "recipe.epochs=1")
    assert "- Recipe small: a network of its own, adam" in harness(*words, "--method", method).out
    bundled = harness(*words, "--method", "subcluster,rotnet,ssl,jigsaw,isif").out
    assert "- Recipe small: two-conv, adam" in bundled
    assert "a network of its own" not in bundled


def test_a_plugin_is_named_with_its_file_and_digest(here):
    mine = plugin()
    out = harness("run", "--protocol", "test2", "--case", "2", "--method", mine).out
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()[:16]
    assert f"- mean-image: a plugin, mean-image.py, digest {digest}." in out
    bundled = harness("run", "--protocol", "test2", "--case", "2", "--method", "ocsvm").out
    assert "ocsvm: a plugin" not in bundled
    assert "two-conv" not in bundled  # it trained no network, so the recipe says nothing of its numbers


def test_the_seconds_of_a_fit_are_counted_once_however_many_evaluations_it_has():
    seconds = {"fit_seconds": 30, "score_seconds": 7}
    evaluations = [(name, anomaly_set) for name in ("even", "odd") for anomaly_set in ("near", "far")]
    records = [
        made_up_record("test4", "digits", name, "ssl", {"KL": metrics(0.9)}, anomaly_set=anomaly_set, **seconds)
        for name, anomaly_set in evaluations
    ]
    assert "- 2 fits, 60 s of training and 14 s of scoring on" in text(records)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"diagnostics": {"images_used": 50}}, True),
        ({"params": {"limit": 50}}, True),  # as detectors recorded it once
        ({"params": {"limit": 200}}, False),
        (
            {"params": {"limit": 50}, "provenance": {"plugin": "mine.py"}},
            False,
        ),  # of its own meaning
    ],
)
def test_a_sample_of_the_training_images_is_told(more, told):
    scores = {"LOF": metrics(0.9)}
    shown = text([made_up_record("test2", "digits", "2", "lof", scores, n_train=100, **more)])
    note = "Fitted to 50 training images, drawn at random, where there were more (lof)."
    assert (note in shown) == told


def test_a_method_has_the_paper_s_spelling_in_every_table_but_not_another_table_s_role(made):
    records = [as_method(one, "rotnet", MAX=0.9) for one in made] + [as_method(one, "isif", Cosine=0.9) for one in made]
    head = table(text(records))[0]
    assert "RotNet MAX" in head
    (test1,) = leaderboards(under_test1(one) for one in records if one.case == "1")
    names = [f"{line.group} {line.score}" for line in test1.lines]
    assert names == ["Jigsaw MAX", "SSL KL", "isif Cosine", "RotNet MAX"]


def under_test1(record: Record) -> Record:
    """The record as if it were of test 1's case 0."""
    protocol = read_protocol("test1", "digits")
    case = protocol.cases("digits")[0]
    values = {"protocol": "test1", "case": case.name, "digests": record.digests | {"protocol": protocol.digest(case)}}
    return record.model_copy(update=values)
