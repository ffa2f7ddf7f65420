"""The plan: which evaluations share a fit, what a method is handed, and what is left to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tiny import DISTANCE, MEAN, case, fits, harness, named, plugin, spy

from harness import Params, fitting, kit, scoring
from harness.digests import ENGINE
from harness.plan import IDENTITY, Fit
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.records import Store

TEST2 = ("--protocol", "test2")
POWER = 'return {"L2": (images.float() - self.mean).flatten(1).norm(p=self.params.power, dim=1)}'
POWERED = (
    "scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 2.0\n        base: float = 1.0\n"
)


def ran(method: Path) -> int:
    return len(fits(method))


# --- the same fit is trained once ------------------------------------------------------------------------------------


def test_within_a_command_and_across_commands(here):
    method = spy()
    near_and_far = named({"x": case(["1", "0"], near=["2"], far=["3", "patches"])}, "mine")
    request = ("--protocol", f"test2,{near_and_far}", "--method", method, "--seed", "0,1")
    first = harness("run", *request)
    # Five normal sets and two seeds; the two cells of the protocol of one's own need no fit of their own.
    assert ran(method) == 10
    assert "14 evaluations (14 to run); 10 fit(s)" in first.err
    second = harness("run", *request)
    assert ran(method) == 10
    assert "nothing to train" in second.err
    assert second.out == first.out

    other = named({"y": case(["2", ["1", "0"]], "9")}, "other")
    harness("run", "--protocol", other, "--method", method, "--seed", "0,1")
    assert ran(method) == 10
    harness("run", "--protocol", other, "--method", method, "--seed", "2")
    assert ran(method) == 11


def test_a_seed_or_method_that_is_named_twice_is_run_once(here):
    method = spy()
    harness("run", *TEST2, "--method", f"{method},{method}", "--seed", "0,0", "--case", "1")
    assert ran(method) == 1


def test_a_method_without_labels_shares_fits_over_partitions(here):
    blind, seeing = spy("blind"), spy("seeing", uses_labels=True)
    protocol = named(
        {
            "two": case([["0", "1"], ["2", "3"]], "9"),
            "same two": case([["3", "2"], ["1", "0"]], "8"),
            "four": case(["0", "1", "2", "3"], "9"),
        }
    )
    harness("run", "--protocol", protocol, "--method", f"{blind},{seeing}")
    assert ran(blind) == 1
    assert fits(blind)[0]["labels"] is None
    assert [max(fit["labels"]) + 1 for fit in fits(seeing)] == [2, 4]


def test_withheld_labels_are_withheld_and_fits_without_labels_are_shared(here):
    seeing, blind = spy("seeing", uses_labels=True), spy("blind")
    cases = {"a": case(["0", "1"], "9")}
    words = ("--method", f"{seeing},{blind}")
    harness("run", "--protocol", named(cases, "shown"), *words)
    harness("run", "--protocol", named(cases, "hidden", labels="withheld"), *words)
    assert [fit["labels"] is None for fit in fits(seeing)] == [False, True]
    assert ran(blind) == 1


def test_a_parameter_of_scoring_needs_no_training_and_any_other_does(here):
    fit = f"print('learning'); {MEAN}"
    words = (*TEST2, "--case", "2", "--method", plugin("powered", fit, POWER, body=POWERED))
    assert harness("run", *words).err.count("learning") == 1
    assert "learning" not in harness("run", *words, "--set", "powered.power=1").err
    assert harness("run", *words, "--set", "powered.base=2").err.count("learning") == 1
    assert harness("run", *words, "--set", "powered.epochs=2").err.count("learning") == 1
    assert harness("run", *words, "--set", "recipe.lr=0.5").err.count("learning") == 1
    rows = [line.split(",") for line in harness("results", "--format", "csv").out.splitlines()[1:]]
    assert len(rows) == 5
    assert len({row[8] for row in rows}) == 2  # only the other norm gives another AUROC


def test_a_set_parameter_goes_before_the_case_s_own(here):
    cases = {"a": case(["0"], "5") | {"params": {"powered": {"power": 3.0, "base": 5.0}}}}
    method = plugin("powered", MEAN, POWER, body=POWERED)
    harness("run", "--protocol", named(cases), "--method", method, "--set", "powered.power=1")
    (record,) = Store(Path("results")).records()
    assert record.params == {"power": 1.0, "base": 5.0}


def test_a_changed_value_is_another_fit(here):
    method = plugin("powered", MEAN, POWER, body=POWERED)

    def fit(*words):
        (row,) = harness("plan", *TEST2, "--case", "2", "--method", method, *words).plan
        return row["fit"]

    same = [fit(), fit("--set", "powered.power=1"), fit("--set", "powered.base=1"), fit("--recipe", "small")]
    assert len(set(same)) == 1
    others = [
        fit("--set", "powered.base=2"),
        fit("--set", "recipe.epochs=31"),
        fit("--set", "recipe.weight_decay=0.1"),
        fit("--recipe", "fast"),
        fit("--seed", "1"),
        fit("--set", "test2.order=1,2"),
    ]
    assert len({same[0], *others}) == 7


def test_the_identity_of_a_fit_is_pinned():
    """Finished fits are found by it: if this fails, count `IDENTITY` up, on purpose."""
    fit = Fit(
        method="m",
        params={"a": 1.5, "b": None},
        recipe={"epochs": 3},
        dataset="digits",
        dataset_params={},
        clusters=(("0", "1"), ("2",)),
        labels=True,
        seed=0,
    )
    assert (IDENTITY, fit.id) == (1, "444b180f42162d83")


def test_a_set_among_the_parameters_is_the_same_in_every_process():
    class Lettered(Params):
        letters: set[str] = set("abcdefghijklmnopqrstuvwxyz")

    assert list(Lettered().letters) != sorted(Lettered().letters)  # which is by chance, but once in 10**26
    assert Lettered().model_dump(mode="json") == {"letters": list("abcdefghijklmnopqrstuvwxyz")}


def test_what_trains_and_scores_is_pinned():
    """No digest sees these files, and a change to them leaves every record done: if this fails, count `ENGINE` up where
    the change makes other numbers, by more than rounding or another seed; then put in the digest that is shown."""
    files = [*sorted(Path(kit.__file__).parent.glob("*.py")), Path(fitting.__file__), Path(scoring.__file__)]
    texts = [path.read_bytes().replace(b"\r\n", b"\n") for path in files]
    assert (ENGINE, hashlib.sha256(b"".join(texts)).hexdigest()[:16]) == (1, "2b1881feb248a530")


def test_the_identities_of_bundled_fits_are_pinned():
    """A parameter or recipe that changes one makes published fits unfindable: do so on purpose, with a new number."""
    request = {"protocols": ["test2"], "cases": ["2"], "methods": ["subcluster", "rotnet", "ssl", "jigsaw", "isif"]}
    found = {}
    for dataset, recipe in (("digits", "small"), ("mnist", "fast"), ("cifar10", "paper"), ("cifar10", "small")):
        plan = make_plan(Request(**request, dataset=dataset, recipe=recipe), Plugins())
        found[f"{dataset}.{recipe}"] = " ".join(one.evaluation.fit.id for one in plan.planned)
    assert found == {
        "digits.small": "5822614dcf09f03b 85a43a8839a27895 37f0418d70e4c8c5 5ae8f95b960f81b9 96f6f98d3343d503",
        "mnist.fast": "34289d9543f92fc3 521a19e58916bbf0 e6bdf117fb4a020a 16245211b1e47190 69f84abdfe0ff69a",
        "cifar10.paper": "1fc79166e5128dad 2d97f14d9659021f 5d9115927ca63f35 51b09b3546873ea0 38f44626adcf3a3b",
        "cifar10.small": "4a614a97197171df 0ce7d0317a4f3ca6 38061e174ec17a51 4843dc2371b82ee7 784acd6cca764a0c",
    }


# --- what there is to do ---------------------------------------------------------------------------------------------


def test_a_plan_changes_nothing(here):
    harness("plan", *TEST2, "--method", "subcluster,rotnet,ssl", "--dataset", "mnist", "--seed", "0,1,2")
    assert not list(here.iterdir())


def test_what_is_done_skipped_to_run_failed(here):
    def plan(*words):
        return harness("plan", *TEST2, "--method", f"{good},{bad},subcluster", "--case", "1", *words).statuses

    good, bad = plugin(), plugin("bad", fit="raise RuntimeError('no luck today')")
    skipped = "skipped: needs at least two sub-clusters"
    assert plan() == ["to run", "to run", skipped]
    harness("run", *TEST2, "--method", f"{good},{bad},subcluster", "--case", "1", code=1)
    assert plan() == ["done", "failed: RuntimeError: no luck today (bad.py, line 14)", skipped]
    assert plan("--seed", "1") == ["to run", "to run", skipped]
    out = harness("plan", *TEST2, "--method", "subcluster").out
    assert "5 evaluations (4 to run, 1 skipped); 4 fit(s)" in out


def test_a_method_that_was_edited_is_stale_and_trained_again(here):
    words = (*TEST2, "--case", "1", "--method", spy())
    harness("run", *words)
    method = spy(head="# another version")
    assert harness("plan", *words).statuses == ["stale: method changed"]
    harness("run", *words)
    assert harness("plan", *words).statuses == ["done"]
    assert ran(method) == 2


def test_an_edit_of_another_method_s_file_is_no_change(here):
    method, other = plugin("one"), plugin("other")
    words = (*TEST2, "--case", "1", "--method", f"{method},{other}")
    harness("run", *words)
    plugin("other", head="# a comment")
    assert harness("plan", *words).statuses == ["done", "stale: method changed"]


def test_line_endings_are_no_change(here):
    method = plugin()
    words = (*TEST2, "--case", "1", "--method", method)
    harness("run", *words)
    method.write_bytes(method.read_bytes().replace(b"\n", b"\r\n"))
    assert harness("plan", *words).statuses == ["done"]


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        ({}, "done"),
        ({"title": "Another title", "source": "elsewhere", "table": {"title": "T", "average": True}}, "done"),
        ({"cases": {"a": case(["1", "0"], "6", "5")}}, "done"),
        ({"cases": {"a": case(["0", "1"], "5")}}, "stale"),
        ({"cases": {"a": case(["0", "2"], "5", "6")}}, "stale"),
        ({"cases": {"a": case([["0", "1"]], "5", "6")}}, "stale"),
        ({"labels": "withheld"}, "stale"),
        ({"cases": {"a": case(["0", "1"], "5", "6") | {"params": {"powered": {"power": 1.0}}}}}, "stale"),
        ({"cases": {"a": case(["0", "1"], "5", "6") | {"params": {"powered": {"base": 2.0}}}}}, "stale"),
        ({"cases": {"a": case(["0", "1"], "5", "6") | {"params": {"other": {"x": 1}}}}}, "done"),
    ],
)
def test_an_edited_protocol_is_stale_where_it_decides_the_numbers(here, edit, status):
    method = plugin("powered", MEAN, POWER, body=POWERED)
    cases = {"a": case(["0", "1"], "5", "6")}
    words = ("--protocol", named(cases), "--method", method)
    harness("run", *words)
    named(**{"cases": cases} | edit)
    (found,) = harness("plan", *words).statuses
    assert found.partition(":")[0] == status
    if status == "stale":
        harness("run", *words)
        assert harness("plan", *words).statuses == ["done"]


def test_a_failed_evaluation_is_tried_again(here):
    fail_once = "import pathlib; f = pathlib.Path(__file__ + '.x'); n = f.exists(); f.touch(); assert n, 'not yet'; "
    words = (*TEST2, "--case", "1", "--method", plugin("late", fail_once + MEAN))
    assert "not yet" in harness("run", *words, code=1).err
    harness("run", *words)
    assert harness("plan", *words).statuses == ["done"]


def test_what_is_not_applicable_any_more_is_run(here):
    skip = "@classmethod\n    def skip(cls, n_clusters, params):\n        return 'not today'\n"
    words = (*TEST2, "--case", "1", "--method", plugin(body=skip))
    assert harness("run", *words).out.count("–") > 0
    assert harness("plan", *words).statuses == ["skipped: not today"]
    plugin()
    assert harness("plan", *words).statuses == ["to run"]
    harness("run", *words)
    assert harness("plan", *words).statuses == ["done"]


def test_the_method_hears_how_many_clusters_there_are(here):
    skip = "@classmethod\n    def skip(cls, n_clusters, params):\n        return f'clusters: {n_clusters}'\n"
    method = plugin(score=DISTANCE, body=skip)
    cases = {"a": case(["0", ["1", "2"]], "5")}
    assert harness("plan", "--protocol", named(cases), "--method", method).statuses == ["skipped: clusters: 2"]
    hidden = named(cases, labels="withheld")
    assert harness("plan", "--protocol", hidden, "--method", method).statuses == ["skipped: clusters: None"]
