"""Decoded pictures are kept: what is read again is the same, follows the files, and survives other writers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fake_data import make, random_images, write_pictures
from PIL import Image
from tiny import case, harness, named, plugin

from harness.kit import picture_cache, pictures

CLASSES = {"a": "a", "b": "b"}


@pytest.fixture
def root(tmp_path) -> Path:
    write_pictures(tmp_path, {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 2}, suffix=".JPEG")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The pictures that were decoded, in no order."""
    log: list[Path] = []
    decode = pictures.decode

    def spy(path: Path, size: int | None = None):
        log.append(path)
        return decode(path, size)

    monkeypatch.setattr(pictures, "decode", spy)
    return log


def load(root: Path, size: int | None = 6, most: int | None = None) -> torch.Tensor:
    return pictures.load_classes(root, "train", CLASSES, size, most)[0]


def kept(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root / picture_cache.FOLDER)) for path in root.rglob("*.npy"))


def by_hand(root: Path, size: int | None = 6) -> torch.Tensor:
    return torch.stack(
        [pictures.decode(file, size) for name in CLASSES for file in sorted((root / "train" / name).iterdir())]
    )


@pytest.mark.parametrize("size", [6, None])
def test_what_is_read_again_is_the_same_and_not_decoded(root, decoded, size):
    expected = by_hand(root, size)
    assert torch.equal(load(root, size), expected)
    decoded.clear()
    assert torch.equal(load(root, size), expected)
    one, labels = pictures.load_classes(root, "train", {"b": "b"}, size)
    assert torch.equal(one, expected[3:])
    assert labels.tolist() == [0, 0]
    assert decoded == []


def test_no_jpeg_is_decoded_by_a_second_run(here, monkeypatch):
    write_pictures(here / "pets", {f"{s}/{c}": 6 for s in ("train", "val") for c in ("cat", "dog")}, suffix=".JPEG")
    plugin()
    one = named({"1": case(["cat"], "dog")}, dataset="folder")
    command = ["run", "--protocol", one, "--method", "mean-image.py", "--dataset", "folder", "--recipe", "fast"]
    command += ["--set", f"folder.path={here / 'pets'}", "--set", "folder.size=8"]
    first = harness(*command, "--results", "first")

    def refuse(*args, **kwargs):
        raise AssertionError("a picture is opened")

    monkeypatch.setattr(Image, "open", refuse)
    second = harness(*command, "--results", "second")
    shown = [[line for line in one.out.splitlines() if line.startswith("|")] for one in (first, second)]
    assert shown[0] == shown[1]
    assert "L2" in second.out


def test_a_changed_picture_is_decoded_anew_with_its_class_alone(root, decoded):
    load(root)
    before = kept(root)
    file = root / "train/b/001.JPEG"
    state = file.stat()
    Image.fromarray(random_images(1, 8, 12, 3, seed=9)[0]).save(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    decoded.clear()
    found = load(root)
    assert {path.parent.name for path in decoded} == {"b"}
    assert torch.equal(found, by_hand(root))
    after = kept(root)
    assert after[0] == before[0]  # class a
    assert len(after) == 2  # that of the old class b is gone
    assert after[1] != before[1]


def test_a_picture_that_was_replaced_by_one_of_its_size_and_time_is_decoded_anew(tmp_path):
    """As copies and archives leave it."""
    write_pictures(tmp_path, {"train/a": 1, "val/a": 1}, suffix=".bmp")
    (place,) = (tmp_path / "train" / "a").iterdir()
    for value in (10, 200):
        Image.new("L", (6, 6), value).save(place)
        os.utime(place, (1, 1))
        assert pictures.load_classes(tmp_path, "train", {"a": "a"}, None, None)[0].unique().tolist() == [value]


@pytest.mark.parametrize("version", ["PIL.__version__", "harness.kit.picture_cache.VERSION"])
def test_what_another_decoder_has_made_is_decoded_anew(root, decoded, monkeypatch, version):
    load(root)
    decoded.clear()
    monkeypatch.setattr(version, "0")
    load(root)
    assert len(set(decoded)) == 5
    assert len(kept(root)) == 2


def test_another_size_or_number_is_kept_apart(root, decoded):
    load(root)
    assert load(root, size=4).shape == (5, 3, 4, 4)
    assert torch.equal(load(root, most=2), load(root)[[0, 1, 3, 4]])
    decoded.clear()
    for size, most in ((6, None), (4, None), (6, 2)):
        load(root, size, most)
    assert decoded == []
    assert len(kept(root)) == 6


@pytest.mark.parametrize("keep", [0, 60, -1])
def test_a_kept_file_that_is_not_whole_is_made_again(root, decoded, keep):
    expected = load(root)
    damaged = root / picture_cache.FOLDER / kept(root)[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:keep])
    decoded.clear()
    assert torch.equal(load(root), expected)
    assert {path.parent.name for path in decoded} == {"a"}
    assert damaged.read_bytes() == whole


@pytest.mark.parametrize(("this", "by"), [(b"3, 6, 6)", b"3, 6, 60"), (b"3, 6, 6)", b"3, 6, 5)")])
def test_a_kept_file_whose_head_is_damaged_is_made_again(root, decoded, this, by):
    """No Python any more, which NumPy reads a head as; or of other images than there are."""
    expected = load(root)
    damaged = root / picture_cache.FOLDER / kept(root)[0]
    whole = damaged.read_bytes()
    assert whole.count(this) == 1
    damaged.write_bytes(whole.replace(this, by))
    decoded.clear()
    assert torch.equal(load(root), expected)
    assert {path.parent.name for path in decoded} == {"a"}
    assert damaged.read_bytes() == whole


def test_what_a_killed_writer_left_is_removed_though_another_has_written_the_class(root):
    load(root)
    place = (root / picture_cache.FOLDER / kept(root)[0]).parent
    old, young = place / ".abcdefgh.part", place / ".hgfedcba.part"
    for part in (old, young):
        part.touch()
    os.utime(old, (1, 1))
    load(root)
    assert not old.exists()
    assert young.exists()


def test_writers_at_the_same_time_leave_one_whole_file(root):
    expected = by_hand(root)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load(root), range(16)))
    assert all(torch.equal(one, expected) for one in found)
    files = [path for path in (root / picture_cache.FOLDER).rglob("*") if path.is_file()]
    assert len(files) == 2


def test_where_nothing_can_be_kept_a_line_says_so_once(root, decoded, caplog):
    (root / picture_cache.FOLDER).write_text("a file where the folder would be")
    expected = by_hand(root)
    for _ in range(2):
        decoded.clear()
        assert torch.equal(load(root), expected)
        assert len(decoded) > 4
    assert [record.getMessage().count(str(root)) for record in caplog.records] == [1]


def test_images_can_be_changed_without_changing_what_is_kept(root):
    first, _ = pictures.load_classes(root, "train", {"a": "a"}, 6)
    expected = first.clone()
    first.zero_()
    assert torch.equal(pictures.load_classes(root, "train", {"a": "a"}, 6)[0], expected)


def test_what_is_kept_does_not_count_as_data(root):
    dataset = make("folder", root, path=".", size=6)
    before = dataset.revision()
    dataset.load("train", dataset.classes)
    assert kept(root)
    again = make("folder", root, path=".", size=6)
    assert (again.revision(), again.classes) == (before, ("a", "b"))
