"""digits, MNIST and CIFAR, on small files in their true formats, and what all bundled data sets have in common."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_data import error_of, make, md5, module_of, write_cifar, write_mnist

import harness

BUNDLED = ("cifar10", "cifar100", "digits", "folder", "imagenet", "mnist")


def assert_loads(dataset: harness.Dataset, split: str, classes: tuple[str, ...], images, targets) -> None:
    """`load` returns exactly the images whose target is among `classes`, labelled by their place in `classes`."""
    ours, labels = dataset.load(split, classes)
    assert (ours.dtype, labels.dtype, ours.ndim) == (torch.uint8, torch.int64, 4)
    names = [dataset.classes[target] for target in targets]
    expected = [(classes.index(name), image) for name, image in zip(names, images, strict=True) if name in classes]
    assert labels.tolist() == [label for label, _ in expected]
    np.testing.assert_array_equal(ours.numpy(), np.stack([image for _, image in expected]))


# What all of them have in common


def test_listing_and_constant_revisions_import_nothing_heavy():
    code = (
        "import sys; from harness.plugins import Plugins; p = Plugins(); from pathlib import Path\n"
        "sets = {n: p.get('dataset', n) for n in p.names('dataset')}; print(*sets)\n"
        "for n in ('digits', 'mnist', 'cifar10', 'cifar100'): sets[n](Path('x')).revision()\n"
        "print(*{'torch', 'torchvision', 'numpy', 'sklearn', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, heavy = done.stdout.split("\n")[:2]
    assert set(listed.split()) >= set(BUNDLED)
    assert heavy == ""


def test_an_unknown_class_is_refused_with_what_there_is():
    digits = make("digits")
    assert "did you mean 'patches'? known: 0, 1," in error_of(
        lambda: digits.load("test", ("patch",)), harness.HarnessError
    )
    assert "named twice" in error_of(lambda: digits.load("test", ("1", "1")), harness.HarnessError)


def test_of_a_thousand_classes_only_those_alike_are_named():
    message = error_of(lambda: make("imagenet").check_classes(("crane",)), harness.HarnessError)
    assert "'crane (bird)' or 'crane (machine)'" in message
    assert "1000 classes" in message
    assert len(message) < 250


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_missing_files_name_the_folder_and_the_command(name, tmp_path):
    dataset = make(name, tmp_path)
    message = error_of(lambda: dataset.load("test", dataset.classes[:1]))
    assert f"harness data fetch {name} --data {tmp_path}" in message
    assert {"mnist": "MNIST", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name] in message


# digits


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_take_every_third_image_for_testing(split):
    from sklearn.datasets import load_digits

    source = load_digits()
    values = source.images.astype(int)
    keep = [i for i in range(1797) if (i % 3 == 2) == (split == "test")]
    images = ((values * 255 + 8) // 16).astype(np.uint8)[keep, None]  # rounded, in whole numbers
    for classes in (("7", "3"), tuple("0123456789")):
        assert_loads(make("digits"), split, classes, images, source.target[keep])


def test_patches_are_tiles_of_the_photographs_for_testing_only():
    from sklearn.datasets import load_sample_images

    images, labels = make("digits").load("test", ("0", "patches"))
    patches = images[labels == 1]
    assert patches.shape == (520, 1, 8, 8)
    photograph = load_sample_images().images[1].astype(float) @ [0.299, 0.587, 0.114]
    row, column = 5, 11  # tiles are in reading order, 13 rows of 20, the second photograph's after the first's
    block = photograph[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
    expected = block.reshape(8, 4, 8, 4).mean((1, 3))
    assert np.abs(patches[260 + row * 20 + column, 0].numpy() - expected).max() <= 1
    assert "test images only" in error_of(lambda: make("digits").load("train", ("0", "patches")))


# MNIST


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    def build(packed: bool):
        truth = write_mnist(tmp_path, packed=packed)
        monkeypatch.setattr(module_of("mnist"), "FILES", truth["md5"])
        return make("mnist", tmp_path), truth, tmp_path / "MNIST" / "raw"

    return build


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_files_packed_or_not_and_writes_none(mnist, packed):
    dataset, truth, folder = mnist(packed)
    before = sorted(folder.iterdir())
    for split in ("train", "test"):
        images, targets = truth[split]
        assert_loads(dataset, split, ("4", "0", "9"), images[:, None], targets)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_a_truncated_mnist_file_is_named(mnist, packed, keep):
    dataset, _, folder = mnist(packed)
    file = folder / ("t10k-images-idx3-ubyte" + (".gz" if packed else ""))
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file} not as published: delete" in error_of(lambda: dataset.load("test", ("1",)))


def test_a_mnist_file_that_may_not_be_read_is_not_called_damaged(mnist, monkeypatch):
    dataset, *_ = mnist(packed=False)
    read = Path.read_bytes

    def refuse(path):
        if path.name.startswith("t10k"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match="t10k-images"):
        dataset.load("test", ("1",))


def test_mnist_with_another_image_is_refused(mnist):
    dataset, _, folder = mnist(packed=False)
    file = folder / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "not as published" in error_of(lambda: dataset.load("train", ("1",)))


def test_mnist_is_fetched_by_unpacking_what_is_there(mnist, monkeypatch):
    from torchvision.datasets import MNIST

    dataset, truth, folder = mnist(packed=True)
    monkeypatch.setattr(MNIST, "resources", [(file.name, md5(file)) for file in folder.iterdir()])
    monkeypatch.setattr(MNIST, "mirrors", [f"{(folder / 'no-mirror').as_uri()}/"])
    dataset.fetch()
    for name, digest in truth["md5"].items():
        assert md5(folder / name) == digest
    for name in truth["md5"]:
        (folder / name).unlink()
        (folder / f"{name}.gz").unlink()
    assert "mnist: the download failed" in error_of(dataset.fetch)


# CIFAR


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    import torchvision.datasets

    def build(kind: int):
        dataset = make(f"cifar{kind}", tmp_path)
        truth = write_cifar(tmp_path, dataset.classes, kind)
        source = getattr(torchvision.datasets, f"CIFAR{kind}")
        for attribute in ("train_list", "test_list", "meta"):
            monkeypatch.setattr(source, attribute, truth[attribute])
        return dataset, truth, tmp_path / source.base_folder

    return build


@pytest.mark.parametrize("kind", [10, 100])
def test_cifar_reads_its_batches(cifar, kind):
    dataset, truth, _ = cifar(kind)
    assert len(dataset.classes) == len(set(dataset.classes)) == kind
    for split in ("train", "test"):
        images, targets = truth[split]
        assert_loads(dataset, split, (dataset.classes[9], dataset.classes[0], dataset.classes[3]), images, targets)


@pytest.mark.parametrize(("kind", "name"), [(10, "data_batch_2"), (10, "batches.meta"), (100, "test"), (100, "meta")])
def test_a_foreign_pickle_is_named_and_never_opened(cifar, tmp_path, kind, name):
    dataset, _, folder = cifar(kind)
    witness = tmp_path / "opened"

    class Payload:
        def __reduce__(self):
            return Path.touch, (witness,)

    (folder / name).write_bytes(pickle.dumps(Payload()))
    pickle.loads((folder / name).read_bytes())
    assert witness.exists()  # the payload works, so the rest of the test means something
    witness.unlink()
    for split in ("train", "test"):
        assert f"in {folder}: {name};" in error_of(lambda s=split: dataset.load(s, dataset.classes[:2]))
    assert not witness.exists()


def test_cifar_revision_is_torchvisions_archive_md5():
    from torchvision.datasets import CIFAR10, CIFAR100

    for name, source in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        assert make(name).revision().endswith(source.tgz_md5)
