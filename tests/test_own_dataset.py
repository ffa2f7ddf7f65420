"""A data set of one's own, from a plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import MEAN, case, harness, named, plugin, write_toml

DATASET = '''\
import torch
import harness


class Stripes(harness.Dataset):
    """Noisy stripes, across or down."""

    name = "stripes"
    classes = ("across", "down")

    def revision(self):
        return "{revision}"

    def load(self, split, classes):
        self.check_classes(classes)
        generator = torch.Generator().manual_seed(len(split))
        images = torch.randint(0, 100, (40, 1, 8, 8), generator=generator)
        images[:20, :, ::2] += 150
        images[20:, :, :, ::2] += 150
        return self.select(images.to(torch.uint8), torch.arange(40) // 20, classes)


@harness.hookimpl
def register_datasets(register):
    register(Stripes)
'''


def on_stripes(normal: str, anomaly: str) -> list:
    """The words of a plan or run on the data set in stripes.py."""
    recipe = write_toml("recipe.toml", {"network": "two-conv", "lr": 0.01, "epochs": 1, "batch": 32})
    protocol = named({"a": case([normal], anomaly)}, dataset="stripes")
    words = ["--plugins", "stripes.py", "--dataset", "stripes", "--protocol", protocol, "--recipe", recipe]
    return [*words, "--method", plugin(fit=MEAN)]


def test_a_data_set_of_one_s_own(here):
    Path("stripes.py").write_text(DATASET.format(revision="1"))
    words = on_stripes("across", "down")
    assert "| a | 1.000 |" in harness("run", *words).out
    assert harness("plan", *words).statuses == ["done"]
    Path("stripes.py").write_text(DATASET.format(revision="2"))
    assert harness("plan", *words).statuses == ["stale: dataset changed"]
    assert "stripes" in harness("list", "datasets", "--plugins", "stripes.py").out
    line = harness("plan", "--dataset", "strips", *words[:2], *words[4:], code=2).line
    assert "did you mean 'stripes'?" in line


def test_what_a_data_set_prints_is_not_part_of_what_is_shown(here):
    loud = "    def check_classes(self, classes):\n        print('of the plan')\n\n"
    text = DATASET.format(revision="1").replace("    def load(", f"{loud}    def load(")
    Path("stripes.py").write_text(text.replace("self.check_classes(classes)", "print('of loading')"))
    verified = harness("data", "verify", "stripes", "--plugins", "stripes.py")
    planned = harness("plan", *on_stripes("across", "down"))
    for found, said in ((verified, "of loading"), (planned, "of the plan")):
        assert said in found.err
        assert said not in found.out


@pytest.mark.parametrize("broken", ["revision", "__init__"])
def test_a_data_set_that_fails_is_one_line(here, broken):
    text = DATASET.format(revision="1").replace("def revision(self):", "def revision(self):\n        1 / 0")
    if broken == "__init__":
        text = text.replace("def revision(self):", "def __init__(self):")
    Path("stripes.py").write_text(text)
    assert "stripes" in harness("plan", *on_stripes("across", "down"), code=2).line


RETURNED = "self.select(images.to(torch.uint8), torch.arange(40) // 20, classes)"
LABELS = "torch.arange(40) // 20"


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (f"(images.to(torch.uint8), {LABELS})", "train labels of down are [0, 1]"),  # so anomalies are among them
        ("(images.to(torch.uint8)[:20], torch.zeros(20).long())", "test labels of down, across are [0]"),
        (f"(images.float(), {LABELS})", "test images are float32 of the shape (40, 1, 8, 8)"),
        (f"(images.to(torch.uint8)[:, 0], {LABELS})", "test images are uint8 of the shape (40, 8, 8)"),
        ("(images.to(torch.uint8), torch.zeros(40))", "test labels are float32 of the shape (40,)"),
        ("(images.numpy(), torch.zeros(40))", "test images and labels are ndarray and Tensor"),
    ],
)
def test_what_is_loaded_is_what_was_asked_for_or_makes_no_number(here, returned, said):
    text = DATASET.format(revision="1")
    assert RETURNED in text
    Path("stripes.py").write_text(text.replace(RETURNED, returned))
    err = harness("run", *on_stripes("down", "across"), code=1).err
    assert f"FAILED: HarnessError: dataset stripes: {said}" in err
    assert "see harness check stripes" in err
