"""The contract of plugins: bundled ones keep to it, and each check fails on what is broken in just that way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_data import write_pictures
from PIL import Image
from tiny import DISTANCE, MEAN, harness, plugin

from harness import testing
from harness.plugins import Plugins
from harness.testing.trial import defaults

BUNDLED = Plugins()
HEAVY = ("torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "matplotlib", "faiss", "pyod", "tensorboard")
EXTRAS = ("pyod", "pytorch-ood")
FLOATS = "images.float()"
POWERED = "scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 2.0\n"


@pytest.mark.parametrize("name", BUNDLED.names("method"))
def test_bundled_methods_keep_to_the_contract(name):
    if name in EXTRAS:
        pytest.importorskip(name.replace("-", "_"))
    (each,) = testing.checks(name).values()
    for check in each:
        if check.name != "imports":  # of all of them at once, below
            check()


@testing.contract("digits")
def test_bundled_data_keep_to_the_contract(check):
    check()


def test_no_bundled_plugin_imports_anything_heavy():
    code = (
        "import sys; from harness.plugins import Plugins; plugins = Plugins()\n"
        "for entry in plugins.entries: plugins.get(entry.kind, entry.name)\n"
        f"print(*set({HEAVY!r}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


BROKEN_METHODS = {
    "imports": {"head": "import sklearn.svm"},
    "scores": {"score": "return {'L1': (images.float() - self.mean).flatten(1).norm(dim=1)}"},
    "scores: one value too many": {"score": DISTANCE.replace("norm(dim=1)", "norm(dim=1, keepdim=True)")},
    "scores: whole numbers": {"score": DISTANCE.replace("norm(dim=1)", "norm(dim=1).int()")},
    "scores: by what only score() may read": {
        "body": f"{POWERED}\n    def build(self, task, run):\n        self.power = self.params.power\n",
        "score": DISTANCE.replace("dim=1", "dim=1, p=self.power"),
    },
    "scores: a mistake": {"score": "return {'L2': images.flatten(1) @ self.mean}"},
    "finite: white": {"score": DISTANCE.replace("}", " / (255 - images.flatten(1).amin(1).float())}")},
    "finite": {"score": "return {'L2': images.float().flatten(1).var(dim=1) / images.flatten(1).sum(1)}"},
    "sign: constant": {"score": DISTANCE.replace("}", " * 0}")},
    "sign": {"score": DISTANCE.replace("(dim=1)", "(dim=1).neg()")},
    "seed": {"fit": f"import os; {MEAN} + int.from_bytes(os.urandom(3), 'big') / 2**16"},
    "random_state": {"fit": f"import torch; torch.manual_seed(run.seed); {MEAN}"},
    "random_state: NumPy": {"fit": f"import numpy; numpy.random.seed(0); {MEAN}"},
    "random_state: Python": {"fit": f"import random; random.seed(0); {MEAN}"},
    **{
        f"random_state: {setting}": {"fit": f"import torch; torch.{setting}; {MEAN}"}
        for setting in (
            "set_default_dtype(torch.float64)",
            "set_grad_enabled(False)",
            "set_num_threads(torch.get_num_threads() + 1)",
            "use_deterministic_algorithms(True)",
        )
    },
    "batch": {"score": DISTANCE.replace("self.mean", "(self.mean + images.float().mean((0, 1, 2, 3)))")},
    "order": {"score": DISTANCE.replace("}", " + __import__('torch').linspace(0, 900, len(images))}")},
    "eval_mode": {
        "fit": f"import torch; self.drop = {{'in a': torch.nn.Dropout(0.0)}}; {MEAN}",
        "score": DISTANCE.replace(FLOATS, f"self.drop['in a']({FLOATS})"),
    },
    "clusters": {"uses_labels": True, "fit": f"assert len(set(train.labels.tolist())) < 9; {MEAN}"},
    "labels": {"uses_labels": True, "fit": f"train.labels.sum(); {MEAN}"},
    "colour": {"fit": f"assert train.images.shape[1] == 1, 'grey'; {MEAN}"},
    "sizes": {"fit": f"train.images.view(-1, 144 * train.images.shape[1]); {MEAN}"},
    "saved": {"body": "def state(self):\n        return {}"},
    "saved: what is no tensor": {"body": "def state(self):\n        return {'mean': 1.5}"},
    "extras": {"body": "def embed(self, images):\n        return images.float().flatten(1).mean(1)"},
    "extras: predict": {"body": "def predict(self, images):\n        return images[:, 0, :1, 0].long()"},
    "extras: predict no whole numbers": {"body": "def predict(self, images):\n        return images[:, 0, 0, 0] / 9"},
    "extras: logits": {"body": "def logits(self, images):\n        return images.float().mean((1, 2, 3))"},
    "extras: embed a NaN": {"body": "def embed(self, images):\n        return images.flatten(1) / 0"},
    "extras: embed zeros": {"body": "def embed(self, images):\n        return images.float().flatten(1) * 0"},
}
ALSO = {"finite": {"sign"}, "order": {"batch"}, "clusters": {"labels"}}
"""What else fails, where one mistake can't but break two promises."""
UNSCORED = {"scores", "finite", "sign", "seed", "batch", "order", "eval_mode", "clusters", "labels", "colour", "sizes"}


@pytest.mark.parametrize("case", BROKEN_METHODS)
def test_each_check_fails_on_a_method_that_is_broken_in_just_that_way(here, case):
    before = defaults()
    found = broken(plugin(**BROKEN_METHODS[case]))
    assert defaults() == before  # what a method changes for everyone is set back
    check = case.partition(":")[0]
    if check == "scores":  # whatever else is looked at needs scores
        assert set(found) >= UNSCORED
    else:
        assert set(found) == {check} | ALSO.get(case, set())
    assert all(finding.mend for finding in found.values())


def test_a_method_may_change_neither_what_it_learns_from_nor_what_it_scores(here):
    found = broken(plugin(fit=f"train.images.add_(1); {MEAN}"))
    assert "changes the training images" in found["scores"].reason
    found = broken(plugin(score=f"images.add_(1); {DISTANCE}"))
    assert "changes the images" in found["scores"].reason


def test_a_method_that_says_where_it_does_not_apply_is_in_order(here):
    body = "@classmethod\n    def skip(cls, n_clusters, params):\n        return {}"
    assert not broken(plugin(body=body.format("None if n_clusters == 1 else 'for a single class'")))
    everywhere = broken(plugin(body=body.format("'never'")))
    assert "skip() refuses" in everywhere["scores"].reason
    silent = broken(plugin(body=body.format("True if n_clusters == 9 else None")))
    assert set(silent) == {"clusters"}


def test_a_refusal_of_a_size_is_no_fault_but_a_refusal_of_everything_is_one(here):
    square = "if train.images.shape[2] != train.images.shape[3]: raise harness.HarnessError('only squares')"
    assert not broken(plugin(fit=f"{square}\n        {MEAN}"))
    assert "only squares" in broken(plugin(fit="raise harness.HarnessError('only squares')"))["scores"].reason


BROKEN_DATA = {
    "imports": ("import harness\n", "import harness\nimport sklearn.svm\n"),
    "classes": ('"cross", "stripes")', '"cross", "cross")'),
    "classes: none": ("    classes = ", "    kinds = "),
    "revision": ('return "1"', "return str(id(object()) * __import__('time').time_ns())"),
    "revision: of each object": (
        'return "1"',
        "if 'own' not in vars(self): self.own = str(__import__('uuid').uuid4())\n        return self.own",
    ),
    "images: no channel": (")[:, None], torch", "), torch"),
    "images: floats": ("np.stack(images)", "np.stack(images) / 255"),
    "images: arrays": ("return self.select(", "return _arrays("),
    "images: nothing": ("return self.select(", "self.select("),
    "images: dark": ("clip(0, 1) * 255", "clip(0, 1)"),
    "images: labels": ("return self.select(", "return _all("),
    "subsets": ("return self.select(", "classes = sorted(classes)\n        return self.select("),
    "same": ("[target, split", "[target, torch.initial_seed() % 2**32, split"),
    "images: of two sizes": (", None], torch", ", None, : 16 if split == 'train' else 12], torch"),
    "splits": ('split == "test"])', "0])"),
    "splits: of one class": ('split == "test"])', 'split == "test" and target == 0])'),
    "splits: a part": ("for _ in range(PER_CLASS[split])", "for _ in range(5 if split == 'test' else 9)"),
    "unknown": ("self.check_classes(classes)", "classes = [c for c in classes if c in self.classes]"),
}


@pytest.mark.parametrize("case", BROKEN_DATA)
def test_each_check_fails_on_a_data_set_that_is_broken_in_just_that_way(here, case):
    harness("new", "dataset", "shapes")
    path, (old, new) = Path("shapes.py"), BROKEN_DATA[case]
    text = path.read_text().replace('PER_CLASS = {"train": 60, "test": 30}', 'PER_CLASS = {"train": 9, "test": 9}')
    assert old in text
    if case == "splits: a part":  # of the training images, by the same generator
        text = text.replace('split == "test"])', "0])")
    path.write_text(
        text.replace(old, new) + "\n\ndef _all(images, targets, classes):\n    return images, targets\n"
        "\n\ndef _arrays(images, targets, classes):\n    return images.numpy(), targets.numpy()\n"
    )
    assert case.partition(":")[0] in broken(path)


def test_one_class_that_can_be_trained_on_is_enough(here):
    """As where good ones alone are there for training, and bad ones for testing too."""
    write_pictures(Path("data/parts"), {"train/good": 6, "val/good": 3, "val/bad": 3})
    out = harness("check", "folder", "--set", "folder.path=parts", "--data", "data").out
    assert [line.split()[0] for line in out.splitlines() if ":" in line] == ["ok"] * 8, out


def broken(path: Path) -> dict[str, testing.Broken]:
    """The checks that fail, but for the one of imports, which takes another process, unless it is meant."""
    found = {}
    (each,) = testing.checks(path).values()
    for check in each:
        if check.name == "imports" and "sklearn" not in path.read_text():
            continue
        try:
            check()
        except testing.Broken as finding:
            found[check.name] = finding
    return found


def test_the_command_says_what_is_promised_and_what_to_mend(here):
    found = harness("check", plugin())
    assert "ok      batch: the score of an image does not depend on the batch" in found.out
    assert found.out.endswith("keeps to the contract\n")
    found = harness("check", plugin(**BROKEN_METHODS["sign"]), code=1)
    assert "FAILED  sign: L2 has an AUROC of 0.0" in found.out
    assert "mend: return minus the score" in found.out
    assert found.err == "1 check(s) failed\n"


def test_the_command_tells_one_reason_once(here):
    out = harness("check", plugin(**BROKEN_METHODS["scores"]), code=1).out
    assert out.count("score() returns L1, but `scores` declares L2") == 1
    assert "  unseen  for the same reason as scores: finite, sign, seed, " in out


def test_one_bug_is_one_failure_whatever_it_says_of_the_images(here):
    method = plugin(score="images.reshape(7, 7, 7)")
    found = harness("check", method, code=1)
    assert found.out.count("FAILED") == 1
    assert "FAILED  scores: score() on " in found.out
    assert "(mean-image.py, line 17)" in found.out
    assert "Traceback" not in found.out
    assert found.err == "1 check(s) failed, 12 could not be seen\n"
    out = harness("check", method, "--traceback", code=1).out
    assert out.count("Traceback") == 1
    assert f'File "{method}", line 17, in score' in out


def test_scores_that_are_no_numbers_are_one_failure(here):
    out = harness("check", plugin(score="return {'L2': images.flatten(1).sum(1) * float('nan')}"), code=1).out
    assert out.count("FAILED") == 1
    assert re.search(r"FAILED  finite: L2 is not finite for (\d+) of \1 toy images", out)
    assert "  unseen  for the same reason as finite: sign, seed, " in out


def test_a_method_that_can_not_be_made_is_one_failure_with_its_mend(here):
    out = harness("check", plugin(body="def __init__(self):\n        pass\n"), code=1).out
    assert out.count("FAILED") == 1
    assert "mend: let __init__ take `params`" in out


def test_a_module_that_fit_makes_is_told_to_be_made_in_build(here):
    fit = "import torch\n        self.net = torch.nn.Flatten() if not run else torch.nn.Linear(64, 1)"
    method = plugin(fit=fit, score="return {'L2': images.flatten(1).float().norm(dim=1)}")
    said = "self.net is a module that fit() makes; make it in build()"
    found = harness("check", method, code=1).out
    assert "FAILED  saved: " in found
    assert said in found
    command = "run", "--protocol", "test2", "--case", "1", "--method", method
    harness(*command)
    Path("late.py").write_text(METRIC)
    assert said in harness(*command, "--metric", "./late.py", code=1).err


METRIC = """
import harness


def late(normal, anomaly):
    \"\"\"One.\"\"\"
    return 1.0


@harness.hookimpl
def register_metrics(register):
    register("late", late)
"""


def test_a_class_may_have_test_images_alone(here):
    harness("new", "dataset", "shapes")
    path = Path("shapes.py")
    only = "def classes_in(self, split):\n        return self.classes[: 3 if split == 'train' else 4]\n\n    def load"
    path.write_text(path.read_text().replace("def load", only))
    assert not broken(path)
    lower = path.read_text().replace("[:, None], torch", "[:, None, : 12 if 'stripes' in classes else 16], torch")
    path.write_text(lower)
    assert "have the shape (1, 16, 16), test images (1, 12, 16)" in broken(path)["images"].reason


def test_a_data_set_is_checked_with_the_parameters_that_it_needs(here):
    for split in ("train", "val"):
        for name in ("a", "b"):
            Path("mine", split, name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (len(split), ord(name), 9)).save(Path("mine", split, name, "1.png"))
    assert "with --set folder.path=DIR" in harness("check", "folder", code=2).line
    assert harness("check", "folder", "--set", f"folder.path={here / 'mine'}").out.endswith("keeps to the contract\n")
    assert "did you mean 'path'" in harness("check", "folder", "--set", "folder.pth=x", code=2).line
    assert "no part of this run" in harness("check", "kde", "--set", "kde.limit=5", code=2).line


def test_a_metric_that_returns_nothing_is_named(here):
    Path("mine.py").write_text(
        "import harness\n\n\n@harness.hookimpl\ndef register_metrics(register):\n"
        "    register('gap', lambda normal, anomaly: None)\n"
    )
    assert (
        "FAILED  metric_value: 20 normal and 20 anomalous scores give None" in harness("check", "mine.py", code=1).out
    )


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("nowhere.py", "no such plugin file"),
        ("subclustre", "did you mean 'subcluster'?"),
        ("empty.py", "nothing"),
        ("small", "no plugin is called 'small'"),
        ("test2", "no plugin is called 'test2'"),
    ],
)
def test_what_is_no_plugin_is_refused(here, target, part):
    Path("empty.py").write_text("")
    assert part in harness("check", target, code=2).line


def test_data_that_are_not_there_are_refused(here):
    assert "mnist" in harness("check", "mnist", "--data", here, code=2).line


def test_a_method_is_fitted_for_its_own_tests_as_in_a_run():
    images = torch.randint(256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    method = testing.fitted("subcluster", images, clusters="kmeans:2:isif")
    assert not method.network.training
    assert method.score(images[:3])["MAX"].shape == (3,)


def test_a_method_that_is_fitted_for_tests_scores_by_the_parameters_that_it_was_given(here):
    path = plugin(body=POWERED, score=DISTANCE.replace("dim=1", "dim=1, p=self.params.power"))
    scores = [testing.fitted(path, torch.eye(8).byte()[:, None, None], power=power).score(torch.ones(1, 1, 1, 8))
              for power in (1, 2)]  # fmt: skip
    assert [one["L2"].item() for one in scores] == pytest.approx([7, 7 / 8**0.5])
