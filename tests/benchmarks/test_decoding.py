"""Pictures of ImageNet's size: decoded once, then mapped into memory."""

from __future__ import annotations

import shutil

import numpy as np
import torch
from PIL import Image

from harness.kit import pictures


def test_second_load(beside, tmp_path):
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number in range(60):
            coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375)).save(tmp_path / split / "a" / f"{number:03d}.JPEG", quality=90)
    found = {}

    def load(name: str):
        images, _ = pictures.load_classes(tmp_path, "train", {"a": "a"}, 256)
        found[name] = images.float().mean((1, 2, 3))  # every pixel is looked at

    def first():
        shutil.rmtree(tmp_path / ".harness-cache", ignore_errors=True)
        load("first")

    beside("load pictures of 500 x 375 again", lambda: load("second"), {"decode them first": first}, 60)
    assert torch.equal(found["first"], found["second"])
