"""ImageNet (ILSVRC-2012), or any part of it, in its folder layout."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

import harness

if TYPE_CHECKING:
    from torch import Tensor

# Of the names that a synset lists, the first. Two are shared by two classes each and therefore carry an addition:
# crane (bird), crane (machine), maillot (tights), maillot (tank suit). Capitals matter: Cardigan is a dog, cardigan a
# garment.
with Path(__file__).with_name("imagenet_classes.csv").open(newline="", encoding="utf-8") as _file:
    WNIDS = {row["name"]: row["wnid"] for row in csv.DictReader(_file)}


class ImagenetParams(harness.Params):
    folder: str = Field("imagenet", description="the folder under --data that holds train/ and val/")
    size: int = Field(256, ge=1, description="shorter side resized to this, then a central square cut out")
    per_class: int | None = Field(None, ge=1, description="training images of each class, the first by file name")
    per_class_test: int | None = Field(None, ge=1, description="test images of each class, the first by file name")


class Imagenet(harness.Dataset):
    """1000 classes of photographs (Russakovsky et al., 2015), or those of them that are there.

    Read from `imagenet/{train,val}/<wnid>/*.JPEG` under `--data`, as RGB of 256 x 256 pixels; the test images are
    ILSVRC's validation images. Only the folders of the classes asked for are touched. A class is asked for by its name
    or by its WordNet id, "n02113186".
    """

    name = "imagenet"
    classes = tuple(WNIDS)
    Params = ImagenetParams

    def revision(self) -> str:
        """A digest of the parameters, the class folders, and the files' names and sizes in a hundred of them per split.

        Looking at all of ImageNet's 1.3 million files would take longer than planning may.
        """
        from harness.kit import pictures

        params = self.params.model_dump(exclude={"folder"})
        return pictures.fingerprint(self._folder(), params, most=100)

    def check_classes(self, classes: Iterable[str]) -> None:
        names = {wnid: name for name, wnid in WNIDS.items()}
        super().check_classes(names.get(asked, asked) for asked in classes)

    def require(self, train: tuple[str, ...], test: tuple[str, ...]) -> None:
        from harness.kit import pictures

        pictures.require(self._existing(), _folders_of(train), _folders_of(test))

    def classes_in(self, split: str) -> tuple[str, ...]:
        from harness.kit import pictures

        there = set(pictures.list_classes(self._existing(), split))
        return tuple(name for name, wnid in WNIDS.items() if wnid in there)

    def load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        from harness.kit import pictures

        self.check_classes(classes)
        most = self.params.per_class if split == "train" else self.params.per_class_test
        return pictures.load_classes(self._existing(), split, _folders_of(classes), self.params.size, most)

    def _existing(self) -> Path:
        folder = self._folder()
        if not folder.is_dir():
            raise harness.DataMissing(
                f"imagenet: no folder {folder}; put ILSVRC-2012 there as train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, "
                "or name another folder under --data with --set imagenet.folder=NAME"
            )
        return folder

    def _folder(self) -> Path:
        return self.root / self.params.folder


def _folders_of(classes: tuple[str, ...]) -> dict[str, str]:
    return {name: WNIDS.get(name, name) for name in classes}


@harness.hookimpl
def register_datasets(register):
    register(Imagenet)
