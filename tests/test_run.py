"""Carrying out a fit: what a method is handed, what of it can be relied on again, and how a failure is told."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_data import make, write_pictures
from sklearn.metrics import roc_auc_score
from tiny import DISTANCE, MEAN, case, fits, harness, named, plugin, records, scorings, spy

import harness as api
from harness.fitting import Fitting, task_of
from harness.records import Store
from harness.seeding import seeded

ONE = ("--protocol", "test2", "--case", "1")
TWO = ("--protocol", "test2", "--case", "2")


def hashes(split: str, *classes: str) -> list[str]:
    images, _ = make("digits").load(split, classes)
    return [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]


# --- what a method is handed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["visible", "withheld"])
@pytest.mark.parametrize("uses_labels", [True, False])
def test_fit_sees_normal_training_images_and_no_label_too_many(here, labels, uses_labels):
    method = spy(uses_labels=uses_labels)
    protocol = named({"a": case(["4", ["2", "7"]], near=["1"], far=["patches"])}, labels=labels)
    harness("run", "--protocol", protocol, "--method", method)
    (seen,) = fits(method)
    assert Counter(seen["hashes"]) == Counter(hashes("train", "4", "2", "7"))
    anything_else = hashes("test", *"0123456789", "patches") + hashes("train", *"01356", "8", "9")
    assert not set(seen["hashes"]) & set(anything_else)
    if not (uses_labels and labels == "visible"):
        assert seen["labels"] is None
        return
    clusters: dict[int, Counter] = {}
    for label, one in zip(seen["labels"], seen["hashes"], strict=True):
        clusters.setdefault(label, Counter())[one] += 1
    assert sorted(clusters) == [0, 1]
    expected = [Counter(hashes("train", "4")), Counter(hashes("train", "2", "7"))]
    assert sorted(clusters.values(), key=len) == sorted(expected, key=len)


def test_score_sees_the_test_images_and_nothing_that_tells_them_apart(here):
    method = spy()
    harness("run", "--protocol", named({"a": case(["4"], near=["1"], far=["patches"])}), "--method", method)
    seen = [one for scoring in scorings(method) for one in scoring["hashes"]]
    assert Counter(seen) == Counter(hashes("test", "4", "1", "patches"))
    digits = seen[: -len(hashes("test", "patches"))]
    normal = set(hashes("test", "4"))
    places = [place for place, one in enumerate(digits) if one in normal]
    assert max(places) - min(places) > 1.5 * len(places)  # not block by block


def test_the_task_describes_the_training_images_alone():
    images, _ = make("digits").load("train", ("3", "5"))
    task = task_of(images, 2)
    pixels = images.double().numpy() / 255
    assert (task.channels, task.height, task.width, task.n_images, task.n_clusters) == (1, 8, 8, len(images), 2)
    assert task.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert task.std == pytest.approx(pixels.std((0, 2, 3)))
    flat = task_of(torch.full((4, 3, 2, 2), 7, dtype=torch.uint8), None)
    assert flat.mean == pytest.approx((7 / 255,) * 3)
    assert flat.std == pytest.approx((1 / 255,) * 3)


# --- the same again --------------------------------------------------------------------------------------------------

FAST = ("--method", "subcluster", *TWO, "--set", "subcluster.epochs=2")


def scores(folder: str) -> bytes:
    (path,) = Path(folder).rglob("*.npz")
    return path.read_bytes()


def test_the_same_seed_gives_the_same_numbers_to_the_last_digit(here):
    torch.manual_seed(1)
    harness("run", *FAST, "--results", "one")
    torch.manual_seed(2)
    np.random.rand(3)
    harness("run", *FAST, "--results", "two")
    harness("run", *FAST, "--results", "three", "--seed", "1")
    assert scores("one") == scores("two")
    assert records("one")[0].scores == records("two")[0].scores
    assert records("one")[0].diagnostics == records("two")[0].diagnostics
    assert records("one")[0].scores != records("three")[0].scores


def test_numbers_do_not_depend_on_what_else_is_run(here):
    harness("run", *FAST, "--results", "alone")
    both = named({"before": case(["6", "7"], "8"), "same": case(["1", "0"], *"56789")})
    words = ("--protocol", both, "--method", "subcluster", "--set", "subcluster.epochs=2")
    harness("run", *words, "--results", "among")
    alone, among = records("alone")[0], records("among")[1]
    assert among.case == "same"
    for name in alone.scores:
        assert among.scores[name].auroc == pytest.approx(alone.scores[name].auroc, abs=1e-4)


def test_a_fit_that_is_loaded_scores_as_when_it_was_trained(here):
    harness("run", *FAST)
    again = named({"again": case(["0", "1"], *"56789")})
    err = harness("run", "--protocol", again, "--method", "subcluster", "--set", "subcluster.epochs=2").err
    assert "already trained" in err
    again, first = sorted(records(), key=lambda record: record.protocol)
    assert again.scores == first.scores
    assert (again.accuracy, again.fit_seconds) == (first.accuracy, first.fit_seconds)
    assert again.scores_sha256 == first.scores_sha256


STATES = {
    "a tensor": MEAN,
    "a list of tensors": f"{MEAN}; self.means = [self.mean]; del self.mean",
    "a number beside a tensor": f"{MEAN}; self.scale = 3.0; self.mean = self.mean / 3",
    "tensors that share memory": f"{MEAN}; self.other = self.mean",
    "a transposed tensor": f"{MEAN}; self.mean = self.mean.mT.contiguous().mT",
    "an object of scikit-learn": "import sklearn.decomposition as d; "
    "self.pca = d.PCA(4).fit(train.images.flatten(1).numpy())",
}
SCORES = {
    "a list of tensors": DISTANCE.replace("self.mean", "self.means[0]"),
    "a number beside a tensor": DISTANCE.replace("self.mean", "self.mean * getattr(self, 'scale', 1)"),
    "an object of scikit-learn": 'import torch; return {"L2": -torch.as_tensor('
    "self.pca.score_samples(images.flatten(1).numpy()))}",
}


@pytest.mark.parametrize("kind", STATES)
def test_whatever_a_method_learns_a_shared_fit_scores_alike(here, kind):
    method = plugin("m", fit=STATES[kind], score=SCORES.get(kind, DISTANCE))
    harness("run", *TWO, "--method", method)
    harness("run", "--protocol", named({"again": case(["0", "1"], *"56789")}), "--method", method)
    again, first = sorted(records(), key=lambda record: record.protocol)
    assert again.scores == first.scores


def test_random_numbers_outside_go_on_as_if_nothing_had_happened(here):
    wild = "import random, numpy, torch; random.seed(7); numpy.random.seed(7); torch.manual_seed(7); " + MEAN

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def after(*words, code=0):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        if words:
            harness(*words, code=code)
        return draw()

    assert after("run", *FAST) == after()
    assert after("run", *ONE, "--method", plugin("wild", wild)) == after()
    assert after("run", *ONE, "--method", plugin("sad", wild + "; 1 / 0"), code=1) == after()


def test_where_the_seed_is_set_a_gpu_is_asked_for_the_same_again():
    cudnn = torch.backends.cudnn

    def asked():
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32

    before = asked()
    with seeded(0):
        assert asked() == (True, False, False)
    assert asked() == before != (True, False, False)


def test_build_fit_and_score_find_the_seed_set(here):
    draw = "import random, numpy, torch; print('drawn', random.random(), numpy.random.rand(), torch.rand(1).item()); "
    build = f"def build(self, task, run):\n        {draw}\n"
    method = plugin(fit=draw + MEAN, score=draw + DISTANCE, body=build)
    drawn = []
    for i, seed in enumerate((0, 0, 1)):
        said = harness("run", *ONE, "--method", method, "--seed", seed, "--results", f"r{i}").err
        drawn.append([line for line in said.splitlines() if line.startswith("drawn")])
    assert [len(lines) for lines in drawn] == [3, 3, 3]
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_a_data_set_that_seeds_the_generators_makes_no_two_seeds_alike(here):
    harness("new", "dataset", "shapes")
    path = Path("shapes.py")
    begin = "        images, targets = [], []\n"
    path.write_text(path.read_text().replace(begin, f"        torch.manual_seed(0)\n{begin}"))
    method = plugin(fit=f"import torch; print('drawn', torch.rand(1).item()); {MEAN}")
    words = "--dataset shapes --plugins ./shapes.py --recipe ./shapes-recipe.toml --case disc --seed 0,1,2"
    said = harness("run", "--protocol", "./shapes-protocol.toml", *words.split(), "--method", method).err
    assert len({line for line in said.splitlines() if line.startswith("drawn")}) == 3


def test_a_tensor_that_was_kept_on_the_cpu_is_loaded_there(here, monkeypatch):
    """On a GPU, for which PyTorch's `meta` stands in: it has devices, and no values."""
    from harness.fits import Fits, KeptFit

    about = KeptFit(fit={}, task={}, digests={}, seconds=1, numerics={"device": "cuda:0"})
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: torch.zeros(tensor.shape))
    state = {"mean": torch.ones(2), "weight": torch.ones(3, device="meta")}
    Fits(here).keep("gpu", about, state)
    Fits(here).keep("cpu", about.model_copy(update={"numerics": {"device": "cpu"}}), {"mean": torch.ones(2)})
    kept, _ = Fits(here).find("gpu", {})
    assert kept.on_cpu == ("mean",)
    assert Fits(here).find("cpu", {})[0].on_cpu == ()

    class Reads(api.Method):
        def load(self, state):
            self.places = {name: tensor.device.type for name, tensor in state.items()}

    fitting = Fitting.__new__(Fitting)
    fitting.method, fitting.checkpoints = Reads(), here / "none" / "x"
    fitting.fit = type("Fit", (), {"id": "x"})
    fitting.run = api.Run("meta", 0, None, None)
    fitting.worker = type("Worker", (), {"reporter": type("Silent", (), {"fit_reused": lambda fit: None})})
    task = {"channels": 1, "height": 8, "width": 8, "n_images": 2, "n_clusters": 1, "mean": (0.0,), "std": (1.0,)}
    fitting._load(kept.model_copy(update={"task": task}), {"mean": torch.ones(2), "weight": torch.ones(3)})
    assert fitting.method.places == {"mean": "cpu", "weight": "meta"}
    # What was trained on the CPU is scored there, too, unless all of it is in modules: no one knows which is which.
    for state, device in (({"network.weight": torch.ones(3)}, "meta"), ({"mean": torch.ones(2)}, "cpu")):
        fitting.run = api.Run("meta", 0, None, None)
        on_cpu = {"task": task, "numerics": {"device": "cpu"}, "on_cpu": ()}
        fitting._load(kept.model_copy(update=on_cpu), state)
        assert (*fitting.method.places.values(), fitting.run.device) == (device, device)


def test_test_images_of_another_size_are_refused_before_training(here):
    """A network would take them, and score what it was never trained on."""
    harness("new", "dataset", "shapes")
    path = Path("shapes.py")
    path.write_text(path.read_text().replace(", None], torch", ", None, : 16 if split == 'train' else 12], torch"))
    method = spy()
    words = ["--dataset", "shapes", "--plugins", "./shapes.py", "--recipe", "./shapes-recipe.toml", "--case", "disc"]
    found = harness("run", "--protocol", "./shapes-protocol.toml", *words, "--method", method, code=1)
    said = "training images have the shape (1, 16, 16) (channels, height, width), and test images (1, 12, 16)"
    assert said in found.err
    assert not fits(method)


def test_a_record_names_the_commit_that_it_was_begun_with(here, monkeypatch):
    monkeypatch.setattr("harness.run.provenance", cache(lambda device: {"commit": Path("commit").read_text()}))
    Path("commit").write_text("one")
    harness("run", "--protocol", "test2", "--case", "2", "--method",
            plugin(fit=f"from pathlib import Path; Path('commit').write_text('another'); {MEAN}"))  # fmt: skip
    (record,) = records()
    assert record.provenance["commit"] == "one"


# --- what goes wrong -------------------------------------------------------------------------------------------------

FAILURES = {
    "raises in build": (
        {"body": "def build(self, task, run):\n        raise OSError('no room')\n"},
        "OSError: no room",
    ),
    "reads in fit what only score may read": (
        {
            "fit": f"self.k = self.params.k; {MEAN}",
            "body": "scoring = ('k',)\n    class Params(harness.Params):\n        k: int = 1\n",
        },
        "Withheld: only score() may read k, from self.params as they are then: a fit serves every value (bad.py, line ",
    ),
    "raises in fit": ({"fit": "raise RuntimeError('first\\n  second line')"}, "RuntimeError: first second line"),
    "raises without a word": ({"fit": "raise MemoryError"}, "MemoryError"),
    "raises in score": ({"score": "raise KeyError('x')"}, "KeyError: 'x'"),
    "raises what is no Exception": ({"fit": "raise BaseException('as pytest does')"}, "BaseException: as pytest does"),
    "no fit": ({"fit": "return super().fit(train, run)"}, "has no fit"),
    "NaN": ({"score": "return {'L2': images.float().mean((1, 2, 3)).log() * 0 / 0}"}, "score L2 is not finite"),
    "one infinity": (
        {"score": "s = images.float().mean((1, 2, 3)); s[0] = float('inf'); return {'L2': s}"},
        "score L2 is not finite for 1 test image",
    ),
    "another shape": ({"score": "return {'L2': images.float().flatten(1)[:, :1]}"}, "shape"),
    "too few": ({"score": "return {'L2': images.float().mean((1, 2, 3))[1:]}"}, "shape"),
    "another name": ({"score": "return {'L1': images.float().mean((1, 2, 3))}"}, "L1"),
    "one name more": (
        {"score": "s = images.float().mean((1, 2, 3)); return {'L2': s, 'extra': s}"},
        "the method declares L2",
    ),
    "nothing": ({"score": "pass"}, "NoneType"),
    "a tensor": ({"score": "return images.float().mean((1, 2, 3))"}, "Tensor"),
}


@pytest.mark.parametrize(("broken", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_recorded_with_its_reason_and_stops_nothing_else(here, broken, reason):
    bad, good = plugin("bad", **broken), plugin()
    found = harness("run", *ONE, "--method", f"{bad},{good}", code=1)
    failed, ok = records()
    assert (failed.method, failed.status, ok.status) == ("bad", "failed", "ok")
    assert reason in failed.reason
    assert "\n" not in failed.reason
    assert failed.scores == {}
    assert f"bad, seed 0: FAILED: {failed.reason}" in found.err
    assert f"failed: bad, case 1, seed 0: {failed.reason}" in found.out
    assert "1 evaluation(s) failed" in found.err
    (trace,) = Path("results/failures").iterdir()
    assert trace.read_text().startswith("Traceback")
    # Mended, it is run again, and the failure is forgotten.
    plugin("bad", uses_labels=broken.get("uses_labels", False))
    harness("run", *ONE, "--method", f"{bad},{good}")
    assert [record.status for record in records()] == ["ok", "ok"]


def test_a_method_that_another_one_has_fitted_scores_by_its_parameters(here):
    powered = "class Params(harness.Params):\n        power: float = 2.0\n    scoring = ('power',)\n"
    inner = plugin("inner", body=powered, score=DISTANCE.replace("dim=1", "dim=1, p=self.params.power"))
    on = "class Params(harness.Params):\n        on: str = 'inner'\n"
    fit = f"run.note(mean=run.fitted(self.params.on, train.images).score(train.images)['L2'].mean()); {MEAN}"
    harness("run", *ONE, "--method", plugin("outer", fit, body=on), "--plugins", inner)
    images = make("digits").load("train", ("0",))[0].double()
    expected = (images - images.mean(0)).flatten(1).norm(dim=1).mean().item()
    assert records()[0].diagnostics == {"mean": pytest.approx(expected, rel=1e-5)}


def test_one_bad_seed_does_not_spoil_the_others(here):
    bad = plugin(fit=f"assert run.seed != 1, 'bad luck'; {MEAN}")
    out = harness("run", *ONE, "--method", bad, "--seed", "0,1,2", code=1).out
    assert [record.status for record in records()] == ["ok", "failed", "ok"]
    assert "1 of 3 failed" in out


def test_training_that_diverges_is_a_failure(here):
    words = (*TWO, "--method", "subcluster", "--set", "subcluster.epochs=1", "--set", "subcluster.lr=1e30")
    assert "FAILED: Diverged: training diverged" in harness("run", *words, code=1).err


def test_numbers_of_a_method_need_no_particular_kind(here):
    score = "return {'L2': images.float().mean((1, 2, 3)).numpy().astype('float16')}"
    harness("run", *ONE, "--method", plugin(score=score))
    assert records()[0].status == "ok"


def test_differences_beyond_single_precision_keep_their_order(here):
    score = "return {'L2': 1 + images.double().mean((1, 2, 3)) * 1e-12}"
    harness("run", *ONE, "--method", plugin("fine", score=score))
    harness("run", *ONE, "--method", plugin("coarse", score="return {'L2': images.double().mean((1, 2, 3))}"))
    coarse, fine = records()
    assert fine.scores == coarse.scores
    kept = Store(Path("results")).scores(fine)
    truth = np.repeat([0, 1], [fine.n_normal, fine.n_anomaly])
    auroc = roc_auc_score(truth, np.concatenate([kept["normal.L2"], kept["anomaly.L2"]]))
    assert auroc == pytest.approx(fine.scores["L2"].auroc, abs=1e-12)


def test_normal_classes_without_training_images_are_refused(here):
    protocol = named({"a": case(["0"], "5"), "b": case(["patches"], "5")})
    err = harness("run", "--protocol", protocol, "--method", plugin(), code=2).err
    assert "'patches' has test images only" in err.splitlines()[-1]


@pytest.fixture(params=["folder", "imagenet"])
def of_pictures(request, here):
    """A run of two fits on pictures, whose anomalies have no training images; and the folder of the last one's."""
    name = request.param
    folders = {"good": "good", "bad": "bad", "other": "other", "worse": "worse"}
    if name == "imagenet":
        folders = {"tench": "n01440764", "tank": "n04389033", "Samoyed": "n02111889", "Cardigan": "n02113186"}
    (good, bad, other, worse), (a, b, c, d) = folders, folders.values()
    write_pictures(Path("data/mine"), {f"train/{a}": 4, f"train/{c}": 4, f"val/{a}": 3, f"val/{b}": 2, f"val/{c}": 3,
                                       f"val/{d}": 2})  # fmt: skip
    protocol = named({"1": case([good], bad), "2": case([other], worse)}, dataset=name)
    words = ["run", "--protocol", protocol, "--dataset", name, "--recipe", "fast", "--method", spy()]
    words += ["--set", "folder.path=mine" if name == "folder" else "imagenet.folder=mine"]
    for limit in ("size=8", "per_class=3", "per_class_test=1"):
        words += ["--set", f"{name}.{limit}"]
    return words, Path("data/mine/val") / d


def test_anomalies_need_no_training_images(of_pictures):
    words, _ = of_pictures
    harness(*words)
    assert [(one.status, one.n_train, one.n_normal, one.n_anomaly) for one in records()] == [("ok", 3, 1, 1)] * 2


def test_pictures_that_the_last_case_lacks_are_told_before_the_first_trains(of_pictures):
    words, folder = of_pictures
    for picture in folder.iterdir():
        picture.unlink()
    assert f"in val/{folder.name}" in harness(*words, code=2).line
    assert not fits(Path("spy.py"))


def test_a_sample_of_the_training_images_is_told_under_the_table(here):
    for settings in (), ("--set", "lof.limit=50"):
        harness("run", *ONE, "--method", "lof", *settings)
    (told,) = [line for line in harness("leaderboard").out.splitlines() if line.startswith("- Fitted")]
    assert told == "- Fitted to 50 training images, drawn at random, where there were more (lof (limit=50))."


REPORTER = """

class Loud(harness.Reporter):
    name = "loud"

    def __init__(self, results):
        pass

    def end(self):
        print("of the reporter")


@harness.hookimpl
def register_reporters(register):
    register(Loud)
"""


def test_what_plugins_print_is_not_part_of_the_table(here):
    skip = "@classmethod\n    def skip(cls, n_clusters, params):\n        print('of the plan')\n"
    method = plugin("mine", f"print('of the fit'); {MEAN}", f"print('of the score'); {DISTANCE}", body=skip)
    method.write_text(f"print('of the import')\n{method.read_text()}" + REPORTER)
    found = harness("run", *ONE, "--method", method, "--reporter", "loud", "--jobs", "1")
    for said in ("of the import", "of the plan", "of the fit", "of the score", "of the reporter"):
        assert said in found.err
        assert said not in found.out


def test_notes_of_a_method_are_kept(here):
    harness("run", *ONE, "--method", plugin(fit=f"run.note(found=3, share=0.5); {MEAN}"))
    assert records()[0].diagnostics == {"found": 3.0, "share": 0.5}
    assert json.loads(next(Path("results/records").rglob("*.json")).read_text())["diagnostics"]["found"] == 3
