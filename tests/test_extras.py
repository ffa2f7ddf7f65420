"""Scores and metrics beside a method's own: found by name, used, recorded, and no fit is another for them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import DISTANCE, MEAN, fits, harness, hook, plugin, spy

from harness import testing
from harness.executors import local
from harness.planning import Request, make_plan
from harness.plugins import Plugins
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


def test_a_score_that_writes_into_the_logits_changes_no_other(here):
    own = hook("score", "Odd", "(logits):\n    return logits.zero_()[:, 0]")
    path = classifier()
    harness(*RUN, "--method", path, "--score", "Energy", "--results", "alone")
    harness(*RUN, "--method", path, "--score", f"{own},Energy")
    (alone,), (both,) = Store(Path("alone")).records(), records()
    assert list(both.scores) == ["L2", "Odd", "Energy"]
    assert both.scores["Energy"] == alone.scores["Energy"]


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


def test_a_scoring_that_fails_when_more_is_asked_for_leaves_the_numbers_that_hold(here):
    fails = "import pathlib; assert not pathlib.Path(__file__).with_name('busy').exists(), 'no memory'; "
    path = plugin(score=fails + DISTANCE)
    good = hook("metric", "Good", "(normal, anomaly):\n    return float(anomaly.mean())")
    asked = (*RUN, "--method", path, "--metric", good)
    harness(*RUN, "--method", path)
    (before,) = records("mean-image")
    Path("busy").touch()
    found = harness(*asked, code=1)
    assert "FAILED: AssertionError: no memory" in found.err
    assert "1 evaluation(s) failed; the traceback is in results/failures/" in found.err
    assert "failed" not in found.out
    assert records("mean-image") == [before]
    assert not Path("results/superseded").exists()
    Path("busy").unlink()
    harness(*asked)
    assert list(records("mean-image")[0].metrics) == ["L2"]
    # Numbers of another version of the method do not hold.
    Path("busy").touch()
    path.write_text(path.read_text() + "# edited")
    harness(*asked, code=1)
    assert [record.status for record in records("mean-image")] == ["failed"]


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
