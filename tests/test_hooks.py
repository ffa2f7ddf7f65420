"""Networks and reporters of plugins, and what all hooks have in common; of scores and metrics: test_extras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import MEAN, harness, hook, plugin, records

from harness import hookspecs, testing
from harness.plugins import KINDS
from harness.progress import Lines

RUN = ("run", "--protocol", "test2", "--case", "2")
PLAN = ("plan", *RUN[1:])


# --- networks --------------------------------------------------------------------------------------------------------

PLAIN = """(channels, side):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, {width}), nn.ReLU()), {width}"""


OF_ALL = "nn.BatchNorm1d(16, track_running_stats=False)"


def test_a_network_is_there_for_every_recipe_that_names_it(here):
    own = hook("network", "plain", PLAIN.format(width=16))
    words = (*RUN, "--method", "subcluster", "--plugins", own, "--set", "recipe.epochs=2", "--set")
    harness(*words, "recipe.network=plain")
    (record,) = records()
    assert record.recipe_values["network"] == "plain"
    kept = next(Path("results/fits").glob("*.safetensors"))
    from safetensors.torch import load_file

    assert load_file(kept)["network.body.1.weight"].shape == (16, 64)
    # Another network of the same name is trained anew.
    own.write_text(own.read_text().replace("16", "24"))
    plan = harness("plan", *words[1:], "recipe.network=plain")
    assert plan.statuses == ["stale: network changed"]
    harness(*words, "recipe.network=plain")
    assert load_file(kept)["network.body.1.weight"].shape == (24, 64)


def test_a_network_that_is_not_there_is_refused_with_those_that_are(here):
    own = hook("network", "plain", PLAIN.format(width=16))
    words = (*PLAN, "--method", "subcluster", "--plugins", own)
    line = harness(*words, "--set", "recipe.network=plian", code=2).line
    assert "did you mean 'plain'?" in line
    assert "two-conv" in line


def test_a_builder_that_returns_no_network_fails_its_fit(here):
    own = hook("network", "plain", "(channels, side):\n    return 7")
    words = (*RUN, "--method", "subcluster", "--plugins", own, "--set", "recipe.network=plain")
    harness(*words, code=1)
    assert "must return (module, width), not int" in records()[0].reason


# --- reporters -------------------------------------------------------------------------------------------------------

REPORTER = """\
import json
import harness


class Log(harness.Reporter):
    \"\"\"Writes down what happens.\"\"\"

    name = "log"

    def __init__(self, results):
        self.path = results / "log.txt"

    def write(self, *what):
        with self.path.open("a") as file:
            print(*what, file=file)

    def begin(self, plan):
        self.write("begin", len(plan.jobs()))

    def fit_started(self, fit):
        self.write("fit", fit.method)

    def epoch(self, fit, epoch, epochs, loss):
        self.write("epoch", epoch, "of", epochs)

    def evaluated(self, evaluation, record):
        self.write("evaluated", *record.scores)

    def failed(self, evaluation, reason):
        self.write("failed", reason)

    def end(self):
        self.write("end")


@harness.hookimpl
def register_reporters(register):
    register(Log)
"""


def test_a_reporter_is_told_of_run_fit_epoch_and_evaluation(here):
    Path("log.py").write_text(REPORTER)
    more = "for epoch in (1, 2): run.progress(epoch, 2, 0.5)"
    path = plugin(fit=f"{MEAN}\n        {more}")
    harness(*RUN, "--method", path, "--reporter", "log.py")
    told = Path("results/log.txt").read_text().splitlines()
    assert told == ["begin 1", "fit mean-image", "epoch 1 of 2", "epoch 2 of 2", "evaluated L2", "end"]
    broken = plugin("broken", fit="raise ValueError('no')")
    harness(*RUN, "--method", broken, "--reporter", "log", "--plugins", "log.py", code=1)
    assert "failed ValueError: no" in Path("results/log.txt").read_text()


def test_a_reporter_that_raises_is_left_out_and_stops_nothing(here):
    Path("log.py").write_text(REPORTER.replace('self.write("fit", fit.method)', "raise RuntimeError('full')"))
    found = harness(*RUN, "--method", plugin(), "--reporter", "log.py")
    assert found.err.count("reporter log is left out: fit_started() raised RuntimeError: full") == 1
    assert Path("results/log.txt").read_text() == "begin 1\n"
    assert records()[0].status == "ok"


def test_a_display_that_raises_is_left_out_likewise(here, monkeypatch):
    Path("log.py").write_text(REPORTER)
    monkeypatch.setattr(Lines, "fit_started", lambda display, fit: display.nothing)
    for more in ((), ("--reporter", "log.py", "--seed", "1")):
        found = harness(*RUN, "--method", plugin(), *more)
        assert found.err.count("reporter progress is left out: fit_started() raised AttributeError: ") == 1
    assert [record.status for record in records()] == ["ok", "ok"]
    assert Path("results/log.txt").read_text() == "begin 1\nfit mean-image\nevaluated L2\nend\n"


@pytest.mark.parametrize(
    ("text", "part"),
    [(REPORTER.replace("results /", "results +"), "log.__init__() raised TypeError"), ("", "registers")],
)
def test_a_reporter_that_can_not_be_made_is_refused(here, text, part):
    Path("log.py").write_text(text)
    assert part in harness(*RUN, "--method", plugin(), "--reporter", "log.py", code=2).line


def test_tensorboard_has_the_losses_and_the_aurocs(here):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = plugin(fit=f"{MEAN}; run.progress(1, 2, 0.5); run.progress(2, 2, 0.25)")
    harness(*RUN, "--method", path, "--reporter", "tensorboard")
    (folder,) = Path("results/tensorboard").iterdir()
    events = event_file.EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    (auroc,) = events.Scalars("AUROC L2/test2/2 anomaly")
    assert auroc.value == pytest.approx(records()[0].scores["L2"].auroc)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_what_a_plugin_brings_is_listed_without_running_it(here):
    own = hook("score", "Odd", '(logits):\n    """A score like no other."""\n    return logits[:, 0]')
    own.write_text("raise SystemExit('ran')\n" + own.read_text())
    rows = json.loads(harness("list", "scores", "--json", "--plugins", own).out)
    assert {row["name"]: row["summary"] for row in rows}["Odd"] == "A score like no other."
    assert "resnet18-cbam" in harness("list", "networks").out
    assert "tensorboard" in harness("list", "reporters").out


@pytest.mark.parametrize(
    ("kind", "name", "function", "part"),
    [
        ("score", "a,b", "(logits):\n    return logits", "no name of a score"),
        ("network", "Plain", "(channels, side):\n    return 1", "no name of a network"),
        ("network", "resnet18", "(channels, side):\n    return 1", "there already"),
        ("metric", "auroc", "(normal, anomaly):\n    return 1", "there already"),
        ("reporter", "log", "():\n    return 1", "register takes a class here"),
    ],
)
def test_a_name_that_is_none_or_taken_is_refused(here, kind, name, function, part):
    own = hook(kind, name, function, "own.py")
    assert part in harness("check", own, code=2).line


def test_every_hook_of_the_file_registers_something():
    assert {name for name in vars(hookspecs) if name.startswith("register_")} == set(KINDS)


@pytest.mark.parametrize("name", ["Energy", "MaxLogit", "Entropy"])
def test_bundled_scores_keep_to_their_contract(name):
    (each,) = testing.checks(name).values()
    for check in each:
        check()


BROKEN = {
    "score_values: shape": ("score", "(logits):\n    return logits"),
    "score_values: finite": ("score", "(logits):\n    return -logits.exp().sum(1).log()"),
    "score_values: in place": (
        "score",
        "(logits):\n    return -logits.sub_(logits.logsumexp(1, keepdim=True)).amax(1)",
    ),
    "score_alone": ("score", "(logits):\n    return logits.max() - logits.amax(1)"),
    "score_sign": ("score", "(logits):\n    return logits.amax(1)"),
    "metric_value": ("metric", "(normal, anomaly):\n    return sum(normal < anomaly[10]) / len(normal)"),
    "network_features": ("network", PLAIN.format(width=16).replace("), 16", "), 17")),
    "network_features: of a batch": ("network", PLAIN.format(width=16).replace("nn.ReLU()", OF_ALL)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_check_fails_on_a_function_that_is_broken_in_just_that_way(here, case):
    kind, function = BROKEN[case]
    (each,) = testing.checks(hook(kind, "odd", function)).values()
    found = set()
    for check in each:
        try:
            if check.name != "imports":
                check()
        except testing.Broken:
            found.add(check.name)
    more = {"score_alone", "score_sign"} if "shape" in case else set()  # there are no values to look at
    assert found == {case.partition(":")[0]} | more
