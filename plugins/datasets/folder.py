"""One's own pictures, in a folder for each class."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

import harness

if TYPE_CHECKING:
    from torch import Tensor


class FolderParams(harness.Params):
    path: str = Field("", description="the folder, absolute or from --data on; this one has to be set")
    stands_for: str = Field("", description="run what protocols declare for this data set, on its classes' folders")
    size: int | None = Field(None, ge=1, description="shorter side resized to this, then a central square cut out")
    per_class: int | None = Field(None, ge=1, description="training images of each class, the first by file name")
    per_class_test: int | None = Field(None, ge=1, description="test images of each class, the first by file name")


class Folder(harness.Dataset):
    """Pictures of one's own in `train/<class>/` and `val/<class>/`: `--set folder.path=DIR`.

    The classes are the sub-folders; what lies in one and ends in png, jpg, jpeg, webp, bmp, tif, tiff, ppm or pgm is
    read as RGB, from `val` for testing. As in torchvision, a JPEG or PNG lies as its pixels do, whatever its EXIF
    orientation says: turn photographs upright first. Without a `size` all pictures must have the same. A protocol of
    one's own has a section `[dataset.folder]`; with `--set folder.stands_for=cifar100`, folders named like classes of
    that data set are used where a protocol declares it.

    Whether they have changed is told by their names and sizes, of BMP, TIFF and netpbm files by reading them: that
    another one was replaced by one of the same name and length goes unnoticed.
    """

    name = "folder"
    Params = FolderParams

    @property
    def declared_as(self) -> str:
        return self.params.stands_for or self.name

    @cached_property
    def classes(self) -> tuple[str, ...]:
        from harness.kit import pictures

        folder = self._folder()
        found = pictures.list_classes(folder)
        if not found:
            raise harness.DataMissing(
                f"folder: no class folder in {folder}/train or {folder}/val; make one per class, "
                f"or give folder.path as an absolute path, or as one from --data {self.root} on"
            )
        return found

    def classes_in(self, split: str) -> tuple[str, ...]:
        from harness.kit import pictures

        there = pictures.list_classes(self._folder(), split)
        return tuple(name for name in self.classes if name in there)

    def revision(self) -> str:
        from harness.kit import pictures

        params = self.params.model_dump(exclude={"path"})
        return pictures.fingerprint(self._folder(), params)

    def require(self, train: tuple[str, ...], test: tuple[str, ...]) -> None:
        from harness.kit import pictures

        pictures.require(self._folder(), {name: name for name in train}, {name: name for name in test})

    def load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        from harness.kit import pictures

        self.check_classes(classes)
        most = self.params.per_class if split == "train" else self.params.per_class_test
        return pictures.load_classes(self._folder(), split, {name: name for name in classes}, self.params.size, most)

    def _folder(self) -> Path:
        if not self.params.path:
            raise harness.HarnessError(
                "folder: no path given; name the folder, absolute or from --data on, with --set folder.path=DIR"
            )
        return self.root / os.path.expanduser(self.params.path)  # pathlib's raises where there is no such home


@harness.hookimpl
def register_datasets(register):
    register(Folder)
