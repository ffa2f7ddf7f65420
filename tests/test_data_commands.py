"""`harness data`: what is there, and what is said of what is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny import harness

from harness.dataset import Dataset


def pictures(*folders: str) -> None:
    """One in each; those for training differ from those for testing."""
    for folder in folders:
        Path(folder).mkdir(parents=True)
        Image.new("RGB", (8, 8), "white" if "/val/" in folder else "black").save(Path(folder, "a.png"))


@pytest.mark.parametrize("command", ["verify", "fetch"])
def test_each_split_is_verified_by_the_classes_that_it_has(here, command):
    found = harness("data", command, "digits")
    assert found.out == (
        "digits train: 1198 images of 1 x 8 x 8, 10 classes\ndigits test: 1119 images of 1 x 8 x 8, 11 classes\n"
    )
    nothing = "digits: there is nothing to download; harness show digits says where it comes from\n"
    assert found.err == (nothing if command == "fetch" else "")


@pytest.mark.parametrize("path", ["mine", "./mine", "absolute"])
def test_one_s_own_pictures_are_verified_where_folder_path_says(here, path):
    pictures("data/mine/train/a", "data/mine/train/b", "data/mine/val/a", "data/mine/val/b", "data/mine/val/odd")
    path = here / "data" / "mine" if path == "absolute" else path
    assert harness("data", "verify", "folder", "--set", f"folder.path={path}").out == (
        "folder train: 2 images of 3 x 8 x 8, 2 classes\nfolder test: 3 images of 3 x 8 x 8, 3 classes\n"
    )


def test_test_images_that_are_training_images_are_counted(here):
    pictures("mine/train/a", "mine/train/b", "mine/val/a", "mine/val/b")
    shutil.copy("mine/train/b/a.png", "mine/val/a/again.png")
    command = "data", "verify", "folder", "--set", f"folder.path={here / 'mine'}"
    assert harness(*command).out.splitlines()[2:] == ["folder: 1 of the test images are training images, too"]
    shutil.copy("mine/val/b/a.png", "mine/train/a/more.png")
    assert harness(*command).out.splitlines()[2:] == ["folder: 3 of the test images are training images, too"]


def test_where_no_pictures_are_the_line_says_from_where_the_path_goes(here):
    pictures("mine/val/a")
    line = harness("data", "verify", "folder", "--set", "folder.path=mine", code=2).line
    assert "no class folder in data/mine/train" in line
    assert "from --data data on" in line
    line = harness("data", "verify", "folder", "--set", "folder.path=mine", "--data", ".", code=2).line
    assert "folder: no class has images in the split 'train'" in line
    assert "--set folder.path=DIR" in harness("data", "verify", "folder", code=2).line


def test_a_part_of_imagenet_is_verified(here):
    pictures("data/few/train/n02113186", "data/few/val/n02113186")
    out = harness("data", "verify", "imagenet", "--set", "imagenet.folder=few", "--set", "imagenet.size=4").out
    assert "imagenet test: 1 images of 3 x 4 x 4, 1 classes\n" in out


def test_more_classes_than_fit_into_memory_are_loaded_some_at_a_time(here, monkeypatch):
    names = [f"c{i:02}" for i in range(23)]
    pictures(*(f"many/{split}/{name}" for split in ("train", "val") for name in names))
    loaded = []
    monkeypatch.setattr(Dataset, "check_classes", lambda self, classes: loaded.append(len(classes)))
    out = harness("data", "verify", "folder", "--set", f"folder.path={here / 'many'}").out
    assert out.startswith("folder train: 23 images of 3 x 8 x 8, 23 classes\n")
    assert sum(loaded) == 46
    assert max(loaded) == 10


@pytest.mark.parametrize("function", ["load", "classes_in", "fetch"])
def test_a_data_set_that_raises_is_named(here, function):
    harness("new", "dataset", "shapes")
    path = Path("shapes.py")
    raising = f"def {function}(self, *given):\n        return 1 / 0\n\n    def _none"
    path.write_text(path.read_text().replace("def load", raising, 1))
    said = harness("data", "fetch", "shapes", "--plugins", path, code=2).err.splitlines()
    assert f"shapes.py: shapes.{function}() raised ZeroDivisionError" in said[-1]
    assert len(said) == (1 if function == "fetch" else 2)  # first: that there is nothing to download


def test_a_setting_of_something_else_is_refused(here):
    assert "'mnist' is no part" in harness("data", "verify", "digits", "--set", "mnist.x=1", code=2).line
    assert "--set folder: pth: unknown key; did you mean 'path'?" in harness(
        "data", "fetch", "folder", "--set", "folder.pth=x", code=2
    ).line  # fmt: skip


def test_a_protocol_that_does_not_know_one_s_pictures_says_how_they_can_stand_for_others(here):
    pictures("data/mine/train/a", "data/mine/val/b")
    words = ("plan", "--protocol", "test2", "--method", "lof", "--dataset", "folder", "--set", "folder.path=mine")
    line = harness(*words, code=2).line
    assert "not declared for 'folder'" in line
    assert "digits, mnist, cifar10: --set folder.stands_for=NAME" in line
