"""Small files in the true on-disk formats of the data sets, and the bundled data sets that read them."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
from harness.plugins import Plugins

PLUGINS = Plugins()


def make(name: str, root: Path = Path("nowhere"), **params) -> harness.Dataset:
    cls = PLUGINS.get("dataset", name)
    return cls(root, cls.Params(**params))


def module_of(name: str):
    return sys.modules[PLUGINS.get("dataset", name).__module__]


def error_of(call, kind: type[Exception] = harness.DataMissing) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def random_images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_mnist(root: Path, n_train: int = 40, n_test: int = 20, packed: bool = False) -> dict:
    """`MNIST/raw/` with n images of 28 x 28; returns the images and targets by split, and each unpacked file's MD5."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    truth: dict = {"md5": {}}
    for split, part, n in (("train", "train", n_train), ("test", "t10k", n_test)):
        images = random_images(n, 28, 28, seed=n)
        targets = (np.arange(n) * 7 % 10).astype(np.uint8)
        truth[split] = images, targets
        for kind, array in (("images-idx3", images), ("labels-idx1", targets)):
            name = f"{part}-{kind}-ubyte"
            header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            content = header + array.tobytes()
            truth["md5"][name] = hashlib.md5(content).hexdigest()
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return truth


def write_cifar(root: Path, names: tuple[str, ...], kind: int = 10, n: int = 20) -> dict:
    """The batches of CIFAR-`kind`; returns the truth, and torchvision's lists of files with these files' MD5s."""
    folder = root / ("cifar-10-batches-py" if kind == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    files = {"train": ["data_batch_1", "data_batch_2"], "test": ["test_batch"]}
    if kind == 100:
        files = {"train": ["train"], "test": ["test"]}
    key = "labels" if kind == 10 else "fine_labels"
    truth: dict = {}
    for split, batches in files.items():
        images, targets = [], []
        for i, batch in enumerate(batches):
            pixels = random_images(n, 3, 32, 32, seed=i + len(split))
            labels = [(j * 3 + i) % kind for j in range(n)]
            (folder / batch).write_bytes(pickle.dumps({"data": pixels.reshape(n, -1), key: labels}))
            images.append(pixels)
            targets += labels
        truth[split] = np.concatenate(images), np.array(targets)
        truth[f"{split}_list"] = [[batch, md5(folder / batch)] for batch in batches]
    meta = folder / ("batches.meta" if kind == 10 else "meta")
    key = "label_names" if kind == 10 else "fine_label_names"
    meta.write_bytes(pickle.dumps({key: list(names)}))
    truth["meta"] = {"filename": meta.name, "key": key, "md5": md5(meta)}
    return truth


def write_pictures(root: Path, n_per_class: dict[str, int], width: int = 12, height: int = 8, suffix: str = ".png"):
    """Random pictures; the keys of `n_per_class` are folders under `root`, such as "train/cat"."""
    for i, (folder, n) in enumerate(n_per_class.items()):
        (root / folder).mkdir(parents=True)
        for j, pixels in enumerate(random_images(n, height, width, 3, seed=i)):
            Image.fromarray(pixels).save(root / folder / f"{j:03d}{suffix}")
