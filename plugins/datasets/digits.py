"""Handwritten digits that come with scikit-learn: every protocol can be tried without a download."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from torch import Tensor

PATCHES = "patches"


class Digits(harness.Dataset):
    """1797 handwritten digits of 8 x 8 pixels, inside scikit-learn (UCI optdigits).

    The source names no split: of its images, in their order, every third (index % 3 == 2) is a test image, 599 in
    all. The same 13 writers are in both splits.

    The class "patches" is no digit but what is far from all of them: 520 test images, the 8 x 8 tiles of
    scikit-learn's two sample photographs, turned grey and shrunk fourfold. It has no training images.
    """

    name = "digits"
    classes = (*"0123456789", PATCHES)
    thumbnails = (
        "Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak (UCI), CC BY 4.0; patches of "
        "photographs by danielbuechele and vultilion, CC BY 2.0"
    )

    def revision(self) -> str:
        return "sklearn-optdigits/every-third"

    def classes_in(self, split: str) -> tuple[str, ...]:
        return self.classes if split == "test" else self.classes[:-1]

    def load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        self.check_classes(classes)
        if split == "train" and PATCHES in classes:
            raise harness.DataMissing(
                f"digits: the class {PATCHES!r} has test images only; use it as an anomaly, not as normal data"
            )
        images, targets = _digits(test=split == "test")
        if PATCHES in classes:
            import torch

            patches = _patches()
            images = torch.cat([images, patches])
            targets = torch.cat([targets, torch.full((len(patches),), self.classes.index(PATCHES))])
        return self.select(images, targets, classes)


@cache  # small, and slow to parse; `select` hands out copies
def _digits(test: bool) -> tuple[Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_digits

    source = load_digits()
    images = torch.from_numpy(source.images * 255 / 16).round().to(torch.uint8)[:, None]
    targets = torch.from_numpy(source.target).long()
    keep = (torch.arange(len(targets)) % 3 == 2) == test
    return images[keep], targets[keep]


def _patches() -> Tensor:
    import numpy as np
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images

    # Shrunk, because in the photographs' own resolution half of such small tiles are one flat grey.
    photographs = [Image.fromarray(photograph).convert("L").reduce(4) for photograph in load_sample_images().images]
    grey = torch.from_numpy(np.stack([np.asarray(photograph) for photograph in photographs]))
    return grey.unfold(1, 8, 8).unfold(2, 8, 8).reshape(-1, 1, 8, 8)


@harness.hookimpl
def register_datasets(register):
    register(Digits)
