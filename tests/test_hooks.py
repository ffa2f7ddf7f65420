"""Networks, scores, metrics and reporters of plugins: found by name, used, recorded, and no fit is another for them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import MEAN, fits, harness, plugin, spy

from harness import hookspecs, testing
from harness.executors import local
from harness.planning import Request, make_plan
from harness.plugins import KINDS, Plugins
from harness.records import Record, Store
from harness.reporter import Reporter
from harness.run import Worker

RUN = ("run", "--protocol", "test2", "--case", "2")
PLAN = ("plan", *RUN[1:])
LOGITS = f"{MEAN}; self.at = train.images.float().flatten(1)[:3]"
"""Three training images, whose likenesses are the logits."""
OF_LOGITS = "def logits(self, images):\n        return -(images.float().flatten(1)[:, None] - self.at).norm(dim=2) / 99"


def classifier(name: str = "spy", **more) -> Path:
    """A spy that has logits."""
    path = spy(name, body=OF_LOGITS, **more)
    path.write_text(path.read_text().replace(MEAN, LOGITS))
    return path


def hook(kind: str, name: str, function: str, file: str = "") -> Path:
    """A plugin of one function."""
    path = Path(file or f"{name}.py").absolute()
    hooked = f'@harness.hookimpl\ndef register_{kind}s(register):\n    register("{name}", thing)\n'
    path.write_text(f"import harness\n\n\ndef thing{function}\n\n\n{hooked}")
    return path


def records(method: str = "spy") -> list[Record]:
    return [record for record in Store(Path("results")).records() if record.method == method]


# --- scores ----------------------------------------------------------------------------------------------------------


def test_the_bundled_scores_are_their_formulas():
    logits = np.random.default_rng(0).normal(scale=5, size=(50, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = {"Energy": -np.log(np.exp(logits).sum(1)), "MaxLogit": -logits.max(1), "Entropy": -(p * np.log(p)).sum(1)}
    plugins = Plugins()
    assert set(wanted) == set(plugins.names("score"))
    for name, values in wanted.items():
        found = plugins.get("score", name)(torch.from_numpy(logits))
        np.testing.assert_allclose(found, values, rtol=1e-12)


def test_entropy_orders_very_confident_predictions():
    logits = torch.tensor([[0.0, lead, 0.0] for lead in (10, 30, 60, 120, 300)], dtype=torch.float64)
    assert Plugins().get("score", "Entropy")(logits).diff().lt(0).all()


def test_scores_are_added_to_a_finished_fit_without_training_and_without_another_identity(here):
    path = classifier()
    harness(*RUN, "--method", path)
    (before,) = records()
    assert harness(*PLAN, "--method", path, "--score", "Energy").statuses == ["to run: score Energy asked for"]
    harness(*RUN, "--method", path, "--score", "Energy")
    (after,) = records()
    assert len(fits(path)) == 1
    assert list(after.scores) == ["L2", "Energy"]
    assert after.scores["L2"] == before.scores["L2"]
    assert (after.fit, after.key) == (before.fit, before.key)
    # Whoever does not ask for it does not lose it, and who asks for one more keeps it.
    assert harness(*PLAN, "--method", path).statuses == ["done"]
    harness(*RUN, "--method", path, "--score", "MaxLogit,Entropy")
    assert list(records()[0].scores) == ["L2", "Energy", "MaxLogit", "Entropy"]
    assert "| spy Energy |" in harness("leaderboard").out


def test_a_score_that_a_method_has_itself_by_now_is_its_own(here):
    path = classifier()
    harness(*RUN, "--method", path, "--score", "Energy")
    text = path.read_text().replace('scores = ("L2",)', 'scores = ("L2", "Energy")')
    own = text.replace('return {"L2"', 'return {"Energy": -images.flatten(1).sum(1).float(), "L2"')
    assert own.count("Energy") == 2
    assert own != path.read_text()
    path.write_text(own)
    harness(*RUN, "--method", path)
    (record,) = records()
    assert {*record.scores} == {"Energy", "L2"}
    assert not [part for part in record.digests if part.startswith("score ")]


def test_subcluster_has_the_logits_of_its_network(here):
    harness(*RUN, "--method", "subcluster", "--score", "Energy", "--set", "subcluster.epochs=3")
    (record,) = records("subcluster")
    assert list(record.scores) == ["MAX", "ODIN", "Energy"]
    assert record.scores["Energy"].auroc > 0.5
    # The odds of two classes are the difference of their logits, so that the softmax of MAX can be told from them.
    method = testing.fitted("subcluster", torch.randint(256, (20, 1, 8, 8)).byte(), torch.arange(20) % 2)
    from harness.extras import logits

    images = torch.randint(256, (6, 1, 8, 8)).byte()
    found = logits(method, images, method.run)
    assert found.dtype == torch.float64
    torch.testing.assert_close(method.score(images)["MAX"], -found.log_softmax(1).amax(1))


def test_a_method_without_logits_is_left_as_it_is_but_not_all_methods_may_be(here):
    classes, plain = classifier(), plugin()
    harness(*RUN, "--method", f"{classes},{plain}", "--score", "Energy")
    assert list(records("mean-image")[0].scores) == ["L2"]
    assert harness(*PLAN, "--method", f"{classes},{plain}", "--score", "Energy").statuses == ["done", "done"]
    line = harness(*RUN, "--method", plain, "--score", "Energy", code=2).line
    assert "made of logits, and there are none in mean-image" in line


def test_a_score_of_one_s_own_is_stale_once_its_file_has_changed(here):
    path, own = classifier(), hook("score", "Odd", "(logits):\n    return -logits[:, 0]")
    harness(*RUN, "--method", path, "--score", own)
    first = records()[0].scores["Odd"]
    own.write_text(own.read_text().replace("-logits[:, 0]", "logits[:, 0]"))
    assert harness(*PLAN, "--method", path, "--plugins", own).statuses == ["stale: score Odd changed"]
    harness(*RUN, "--method", path, "--score", "Odd", "--plugins", own)
    assert records()[0].scores["Odd"].auroc == pytest.approx(1 - first.auroc)
    assert len(fits(path)) == 1


@pytest.mark.parametrize(
    ("function", "part"),
    [
        ("(logits):\n    return logits", "it has the shape"),
        ("(logits):\n    return logits[:, 0] / 0", "not finite"),
        ("(logits):\n    return logits.nothing()", "Odd.py: Odd.score() raised AttributeError"),
    ],
)
def test_a_score_that_is_none_is_left_out_and_told(here, function, part):
    own = hook("score", "Odd", function)
    found = harness(*RUN, "--method", classifier(), "--score", f"{own},Energy", code=1)
    (record,) = records()
    assert (record.status, list(record.scores)) == ("ok", ["L2", "Energy"])
    assert record.reason.startswith("without score Odd: ")
    assert part in record.reason
    assert record.reason in found.err
    assert f"- failed: spy, case 2, seed 0: {record.reason}" in found.out.replace("\\", "")
    assert "Traceback" in Path(found.err.rpartition(" ")[2].strip()).read_text()


def test_logits_that_fail_leave_the_method_s_own_scores(here):
    path = spy(body="def logits(self, images):\n        raise OSError('no room')\n")
    harness(*RUN, "--method", path, "--score", "Energy,Entropy", code=1)
    (record,) = records()
    assert (record.status, list(record.scores)) == ("ok", ["L2"])
    assert record.reason == "without score Energy: OSError: no room; without score Entropy: OSError: no room"


def test_a_score_may_not_have_the_name_of_a_method_s_own(here):
    own = hook("score", "L2", "(logits):\n    return logits[:, 0]", "own.py")
    assert "spy has a score of that name" in harness(*PLAN, "--method", classifier(), "--score", own, code=2).line


def test_logits_may_write_into_what_they_are_handed(here):
    of_its_own = "images.float() - self.mean).flatten(1).norm(dim=1)[:, None].repeat(1, 2"
    writes = "def logits(self, images):\n        logits = (OWN)\n        images.zero_()\n        return logits\n"
    path = plugin("writes", uses_labels=True, body=writes.replace("OWN", of_its_own) + PREDICTS)
    harness(*RUN, "--method", path)
    (alone,) = records("writes")
    harness(*RUN, "--method", path, "--score", "Energy")
    (both,) = records("writes")
    assert both.accuracy == alone.accuracy
    assert both.scores["L2"] == alone.scores["L2"]


PREDICTS = "\n    def predict(self, images):\n        return (images.float().mean((1, 2, 3)) > 70).long()\n"


# --- what is asked for beside the method's own scores, and goes wrong ------------------------------------------------


def test_a_metric_that_can_not_be_loaded_is_refused_before_anything_starts(here):
    path = spy()
    bad = hook("metric", "Bad", "(normal, anomaly):\n    return 1.0")
    bad.write_text("import nowhere\n" + bad.read_text())
    for words in (RUN, PLAN):
        assert "Bad.py" in harness(*words, "--method", path, "--metric", bad, code=2).line
    assert not fits(path)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_metric_that_fails_costs_no_other_number(here, jobs):
    path, good = spy(), hook("metric", "Good", "(normal, anomaly):\n    return float(anomaly.mean())")
    harness(*RUN, "--method", path, "--metric", good)
    (before,) = records()
    bad = hook("metric", "Bad", "(normal, anomaly):\n    raise ValueError('no')")
    asked = (*RUN, "--method", path, "--plugins", good, "--metric", bad, "--seed", "0,1", "--jobs", jobs)
    for _ in range(3 - int(jobs)):  # whoever asks for it has it tried again
        found = harness(*asked, code=1)
        assert f"FAILED: without metric Bad: HarnessError: {bad}: Bad.metric() raised ValueError: no" in found.err
        assert "2 evaluation(s) failed; the traceback is in results/failures/" in found.err
    assert [record.status for record in records()] == ["ok", "ok"]
    assert records()[0].scores == before.scores
    assert [list(record.metrics) for record in records()] == [["L2"], []]
    assert records()[0].metrics == before.metrics
    # And nobody else.
    assert harness(*PLAN, "--method", path, "--plugins", bad, "--seed", "0,1").statuses == ["done", "done"]
    assert len(fits(path)) == 2


def test_a_training_that_fails_loses_nothing_that_was_asked_for(here):
    path = classifier()
    harness(*RUN, "--method", path, "--score", "Energy")
    good = path.read_text()
    path.write_text(good.replace(LOGITS, "raise OSError('no room')"))
    harness(*RUN, "--method", path, code=1)
    path.write_text(good + "# edited")
    harness(*RUN, "--method", path)
    assert list(records()[0].scores) == ["L2", "Energy"]


def test_a_method_that_has_no_logits_any_more_is_not_asked_for_scores_of_them(here):
    harness(*RUN, "--method", classifier(), "--score", "Energy")
    path = spy()
    harness(*RUN, "--method", path)
    (record,) = records()
    assert (record.status, list(record.scores)) == ("ok", ["L2"])


def test_two_runs_that_ask_for_different_things_lose_none(here):
    path, bright = classifier(), hook("metric", "Bright", "(normal, anomaly):\n    return float(anomaly.mean())")
    harness(*RUN, "--method", path)
    plugins, store = Plugins([bright]), Store(Path("results"))
    words = {"protocols": ("test2",), "methods": (str(path),), "cases": ("2",)}
    more = ({"scores": ("Energy",)}, {"metrics": ("Bright",)})
    plans = [make_plan(Request(**words, **each), plugins, store) for each in more]
    for plan in plans:  # both made before either is carried out
        local.execute(plan, Worker(plugins, store, Path("data"), "cpu", Reporter()))
    (record,) = records()
    assert list(record.scores) == ["L2", "Energy"]
    assert set(record.metrics) == {"L2", "Energy"}
    assert len(fits(path)) == 1


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_a_metric_is_recorded_under_its_name_for_every_score(here):
    gap = hook("metric", "gap", "(normal, anomaly):\n    return anomaly.mean() - normal.mean()")
    path = classifier()
    harness(*RUN, "--method", path, "--metric", gap, "--score", "Energy")
    (record,) = records()
    assert set(record.metrics) == {"L2", "Energy"}
    for score, metrics in record.metrics.items():
        (file,) = Path("results").rglob("*.npz")
        with np.load(file) as arrays:
            wanted = arrays[f"anomaly.{score}"].mean() - arrays[f"normal.{score}"].mean()
        assert metrics == {"gap": pytest.approx(wanted, rel=1e-5)}
    assert harness(*PLAN, "--method", path, "--plugins", gap).statuses == ["done"]
    head, *rows = harness("results", "--format", "csv").out.splitlines()
    assert head.endswith(",reason,settings,fit,gap")
    assert all(math.isfinite(float(row.rsplit(",", 1)[1])) for row in rows)


def test_without_metrics_of_plugins_there_is_no_further_column(here):
    harness(*RUN, "--method", plugin())
    assert harness("results", "--format", "csv").out.splitlines()[0].endswith(",reason,settings,fit")
    old = json.loads(next(Path("results/records").rglob("*.json")).read_text())
    del old["metrics"]  # as it was written before there were any
    assert Record.model_validate(old).metrics == {}


def test_a_metric_that_is_no_number_is_left_out_and_told(here):
    own = hook("metric", "odd", "(normal, anomaly):\n    return float('nan')")
    harness(*RUN, "--method", plugin(), "--metric", own, code=1)
    (record,) = records("mean-image")
    assert (record.status, record.metrics) == ("ok", {})
    assert record.reason == "without metric odd: ValueError: of L2 it is nan, no finite number"


# --- networks --------------------------------------------------------------------------------------------------------

PLAIN = """(channels, side):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, {width}), nn.ReLU()), {width}"""


OF_ALL = "nn.BatchNorm1d(16, track_running_stats=False)"


def test_a_network_is_there_for_every_recipe_that_names_it(here):
    own = hook("network", "plain", PLAIN.format(width=16))
    words = (*RUN, "--method", "subcluster", "--plugins", own, "--set", "recipe.epochs=2", "--set")
    harness(*words, "recipe.network=plain")
    (record,) = records("subcluster")
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
    assert "must return (module, width), not int" in records("subcluster")[0].reason


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
    assert records("mean-image")[0].status == "ok"


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
    assert auroc.value == pytest.approx(records("mean-image")[0].scores["L2"].auroc)


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
