"""The Dataset contract: labelled images by split and class, as uint8 tensors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.errors import HarnessError, suggest
from harness.spec import Params

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "test"]


class Dataset:
    """Images of named classes in a training and a test split. Subclass it, name it, and write `load`."""

    name: ClassVar[str]
    """Lower case, as typed after `--dataset`."""
    classes: tuple[str, ...]
    """Every class there is, in the data set's own order."""
    Params: ClassVar[type[Params]] = Params
    """The declared parameters: a subclass of `harness.Params`, each field with a default."""
    thumbnails: ClassVar[str] = ""
    """The credit, with the licence, under which small copies of test images may be published; empty if they may not."""

    def __init__(self, root: Path, params: Params | None = None):
        """`root` is the folder that `--data` names; it need not exist until `load` is called."""
        self.root = Path(root)
        self.params = params if params is not None else self.Params()

    @property
    def declared_as(self) -> str:
        """The name under which protocols and recipes declare these data: the data set's own, unless it has a parameter
        `stands_for`."""
        return self.name

    def classes_in(self, split: Split) -> tuple[str, ...]:
        """The classes that have images in a split: all of them, as a rule."""
        return tuple(self.classes)

    def revision(self) -> str:
        """What tells these data from any other of the same name: two revisions never share a table. Quick to ask."""
        raise NotImplementedError(f"{type(self).__name__} has no revision")

    def load(self, split: Split, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """The images of some classes in one split.

        Returns:
            images (N, C, H, W) uint8 and labels (N,) int64, the index of each image's class in the argument
            `classes`; always in the same order.

        Raises:
            DataMissing: the files are not there, or not what they should be. The message says what to put where.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load")

    def require(self, train: tuple[str, ...], test: tuple[str, ...]) -> None:
        """A quick look, before anything trains, whether there are files of all these classes; by default none.

        Raises:
            DataMissing: the message lists every class that is missing.
        """

    def fetch(self) -> None:
        """Download what can be downloaded; nothing by default."""

    def check_classes(self, classes: Iterable[str]) -> None:
        """Refuse classes that this data set does not have; `load` begins with it.

        Raises:
            HarnessError: a class is unknown or named twice.
        """
        seen = set()
        for name in classes:
            if name not in self.classes:
                raise HarnessError(f"dataset {self.name} has no class {name!r}; {_hint(name, self.classes)}")
            if name in seen:
                raise HarnessError(f"dataset {self.name}: class {name!r} is named twice; leave one out")
            seen.add(name)

    def select(self, images: Tensor, targets: Tensor, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """The end of a `load` that reads a whole split: keep the images of `classes`, in their order.

        Args:
            images: (N, C, H, W).
            targets: (N,) int64, the index of each image's class in `self.classes`.

        Returns:
            What `load` returns.
        """
        import torch

        label_of = torch.full((len(self.classes),), -1)
        for label, name in enumerate(classes):
            label_of[self.classes.index(name)] = label
        labels = label_of[targets]
        keep = labels >= 0
        return images[keep].contiguous(), labels[keep]


def loaded(dataset: Dataset, split: Split, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """What `load` of a data set returns, seen to be what its contract promises: labels that mean other classes would
    give numbers that look right, and hand anomalies to a method.

    Raises:
        HarnessError: it is not.
    """
    images, labels = dataset.load(split, classes)
    if wrong := misloaded(images, labels, classes):
        raise HarnessError(f"dataset {dataset.name}: {split} {'; '.join(wrong)}; see harness check {dataset.name}")
    return images, labels


def misloaded(images: Any, labels: Any, classes: tuple[str, ...]) -> tuple[str, str] | None:
    """What is wrong with images and labels of some classes, and the mend; None if nothing is that one look tells."""
    import torch

    if not (isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor)):
        kinds = f"{type(images).__name__} and {type(labels).__name__}"
        return f"images and labels are {kinds}", "return tensors: torch.from_numpy() makes one of an array"
    kind, shape = (str(images.dtype).removeprefix("torch."), tuple(images.shape))
    if len(shape) != 4 or shape[1] not in (1, 3) or images.dtype != torch.uint8:
        wanted = "return (N, C, H, W) uint8 with C of 1 or 3, values from 0 to 255"
        return f"images are {kind} of the shape {shape}", wanted
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        kind = str(labels.dtype).removeprefix("torch.")
        return f"labels are {kind} of the shape {tuple(labels.shape)} for {len(images)} images", "return (N,) int64"
    present = labels.unique().tolist()
    if present != list(range(len(classes))):
        mend = "the label is the place of the image's class in the argument `classes`: self.select() does that"
        return f"labels of {', '.join(classes)} are {present}", mend
    return None


def _hint(name: str, known: tuple[str, ...]) -> str:
    """`suggest`, but for a thousand classes only those that are alike."""
    if len(known) <= 30:
        return suggest(name, known)
    alike = [other for other in known if name.lower() in other.lower()][:5] or difflib.get_close_matches(name, known)
    guess = f"did you mean {' or '.join(map(repr, alike))}? " if alike else ""
    return f"{guess}it has {len(known)} classes, from {known[0]!r} to {known[-1]!r}"
