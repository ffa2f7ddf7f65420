"""What every data set promises, one small function per promise. Few of its classes are loaded, to be quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.dataset import Dataset, misloaded
from harness.errors import DataMissing, HarnessError, told
from harness.plugins import Entry, Plugins
from harness.spec import check
from harness.testing.findings import Broken, calling, require
from harness.testing.imports import imports_nothing_heavy

if TYPE_CHECKING:
    from torch import Tensor


FEW = 0.1
"""The share of a class's test images that may be among the training images: a real data set has some twice."""


class DataTrial:
    """A data set to be checked, by two of its classes in each split."""

    def __init__(self, plugins: Plugins, entry: Entry, root: Path, params: Mapping[str, Any]):
        self.entry, self.file = entry, entry.source.path
        declared = plugins.get("dataset", entry.name).Params
        checked = check(declared, params, f"--set {entry.name}")
        self.make: Callable[[], Dataset] = lambda: plugins.dataset(entry.name, root, checked)
        self.dataset = self.make()
        self.load = cache(self._load)

    @property
    def two(self) -> tuple[str, ...]:
        return self.two_in("train")

    def two_in(self, split: str) -> tuple[str, ...]:
        """The first and the last class that have images in a split, or the only one; of those that have test images
        alone the last, if there are any."""
        with calling(f"classes_in({split!r})", self.file):
            names, trained = list(self.dataset.classes_in(split)), self.dataset.classes_in("train")
        last = ([name for name in names if name not in trained] or names)[-1:]
        return tuple([name for name in names if name not in last][:1] + last)

    def _load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """What `load` returns.

        Raises:
            DataMissing: the data are not there.
            Broken: `load` raises anything else.
        """
        try:
            with calling(f"load({split!r}, {classes!r})", self.file):
                return self.dataset.load(split, classes)
        except Broken as broken:
            if isinstance(broken.__cause__, DataMissing):
                raise broken.__cause__ from None
            raise


def classes(trial: DataTrial) -> None:
    """`classes` names each class once"""
    names = getattr(trial.dataset, "classes", None)
    require(
        isinstance(names, tuple) and len(names) > 1 and all(isinstance(name, str) for name in names),
        f"`classes` is {type(names).__name__} {names!r:.60}",
        "set it to a tuple of at least two names",
    )
    twice = {name for name in names if names.count(name) > 1}
    require(not twice, f"`classes` names {', '.join(sorted(twice))} twice", "name each class once")


def revision(trial: DataTrial) -> None:
    """revision() is a text that is the same every time"""
    with calling("revision()", trial.file):
        first, again = trial.dataset.revision(), trial.make().revision()
    require(isinstance(first, str) and first, f"revision() returns {first!r}", "return a text that is not empty")
    require(
        first == again,
        f"revision() returns {first!r}, and then {again!r}",
        "make it depend on the images alone: every record would be stale at once",
    )


def images(trial: DataTrial) -> None:
    """load() returns (N, C, H, W) uint8 images with 1 or 3 channels, some of each class"""
    shapes = {}
    for split in ("train", "test"):
        classes = trial.two_in(split)
        found, labels = trial.load(split, classes)
        if wrong := misloaded(found, labels, classes):
            reason, mend = wrong
            raise Broken(f"{split} {reason}", mend)
        require(
            int(found.max()) > 1,
            f"no pixel of the {split} images is above 1",
            "scale them to 0 to 255 before they become uint8",
        )
        shapes[split] = tuple(found.shape[1:])
    require(
        shapes["train"] == shapes["test"],
        f"training images have the shape {shapes['train']}, test images {shapes['test']}",
        "load both alike, scaled to one size",
    )


def subsets(trial: DataTrial) -> None:
    """a class has the same images, and its own label, whichever classes are asked for"""
    for split in ("train", "test"):
        if len(trial.two_in(split)) < 2:
            continue
        first, second = trial.two_in(split)
        found, labels = trial.load(split, (first, second))
        turned, turned_labels = trial.load(split, (second, first))
        alone, _ = trial.load(split, (second,))
        for what, other in (
            (f"classes {second}, {first}", turned[turned_labels == 0]),
            (f"the class {second} alone", alone),
        ):
            require(
                found[labels == 1].equal(other),
                f"the {split} images of {second} are others when {what} are loaded",
                "the label is the place of the image's class in the argument `classes`: self.select() does that",
            )


def same(trial: DataTrial) -> None:
    """the same images in the same order, every time, and whatever the random state"""
    import torch

    first = trial.load("train", trial.two)
    with torch.random.fork_rng([]):
        torch.manual_seed(12345)
        again = trial._load("train", trial.two)
    require(
        first[0].equal(again[0]) and first[1].equal(again[1]),
        "the training images differ between two calls",
        "sort file names, and draw random numbers from a generator with a seed of its own",
    )


def splits(trial: DataTrial) -> None:
    """no class has the same images for training and for testing"""
    known = {image.numpy().tobytes() for image in trial.load("train", trial.two)[0]}
    test, labels = trial.load("test", trial.two)
    for label, name in enumerate(trial.two):
        of_class = test[labels == label]
        again = sum(image.numpy().tobytes() in known for image in of_class)
        require(
            again <= FEW * len(of_class),
            f"{again} of {len(of_class)} test images of {name} are among the training images",
            "look at the argument `split`",
        )


def unknown(trial: DataTrial) -> None:
    """a class that is not there is refused with a HarnessError"""
    try:
        trial.dataset.load("train", ("no such class at all",))
    except HarnessError:
        return
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = f"raised {told(error)}"
    else:
        said = "returned something"
    raise Broken(f"load() of a class that is not there {said}", "begin load() with self.check_classes(classes)")


def imports(trial: DataTrial) -> None:
    """nothing heavy is imported at the top of the file"""
    imports_nothing_heavy(trial.entry)


CHECKS = (imports, classes, revision, images, subsets, same, splits, unknown)
