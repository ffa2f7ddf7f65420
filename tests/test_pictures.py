"""Pictures in class folders: the data sets `folder` and `imagenet`, and what they share."""

from __future__ import annotations

import csv
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_data import error_of, make, module_of, write_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import harness
from harness.errors import DataDamaged
from harness.kit import pictures


def test_folder_reads_class_after_class_in_the_order_of_names(tmp_path):
    write_pictures(tmp_path / "pets", {"train/dog": 3, "train/cat": 2, "val/cat": 1, "val/dog": 2, "val/fish": 4})
    dataset = make("folder", tmp_path, path="pets")
    assert dataset.classes == ("cat", "dog", "fish")
    images, labels = dataset.load("train", ("dog", "cat"))
    assert labels.tolist() == [0, 0, 0, 1, 1]
    files = [f"train/dog/{i:03d}.png" for i in range(3)] + [f"train/cat/{i:03d}.png" for i in range(2)]
    expected = np.stack([np.asarray(Image.open(tmp_path / "pets" / file)) for file in files]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images.numpy(), expected)
    assert dataset.load("test", ("fish",))[0].shape == (4, 3, 8, 12)
    assert make("folder", path=str(tmp_path / "pets")).classes == dataset.classes  # an absolute path


def test_folder_knows_pictures_by_their_suffix(tmp_path):
    for suffix in (".PNG", ".jpg", ".webp", ".bmp", ".JPEG", ".TIF", ".tiff", ".ppm", ".pgm"):
        write_pictures(tmp_path / suffix, {"val/a": 1}, suffix=suffix)
        shutil.copytree(tmp_path / suffix, tmp_path / "all", dirs_exist_ok=True)
    (tmp_path / "all/val/a/notes.txt").write_text("no picture")
    (tmp_path / "all/val/a/._000.jpg").write_text("what a Mac leaves behind")
    (tmp_path / "all/val/.cache").mkdir()
    dataset = make("folder", tmp_path, path="all")
    assert dataset.classes == ("a",)
    assert len(dataset.load("test", ("a",))[0]) == 9


@pytest.mark.parametrize(
    ("name", "folders", "place"),
    [
        ("folder", {"a": "a", "b": "b"}, {"path": "."}),
        ("imagenet", {"tank": "n04389033", "Samoyed": "n02111889"}, {"folder": ".", "size": 8}),
    ],
)
def test_the_first_so_many_of_each_class_are_taken(tmp_path, name, folders, place):
    classes, (a, b) = tuple(folders), folders.values()
    write_pictures(tmp_path, {f"train/{a}": 4, f"train/{b}": 2, f"val/{a}": 3, f"val/{b}": 3})
    every = make(name, tmp_path, **place).load("train", classes)[0]
    dataset = make(name, tmp_path, **place, per_class=3, per_class_test=1)
    images, labels = dataset.load("train", classes)
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(images, every[[0, 1, 2, 4, 5]])
    assert dataset.load("test", classes)[1].tolist() == [0, 1]


def test_folder_without_a_size_wants_pictures_of_one_size(tmp_path):
    write_pictures(tmp_path, {"val/a": 1, "train/a": 2})
    write_pictures(tmp_path, {"val/b": 1}, width=9)
    message = error_of(lambda: make("folder", tmp_path, path=".").load("test", ("a", "b")), harness.HarnessError)
    assert "a/000.png is 12x8" in message
    assert "b/000.png is 9x8" in message
    assert "size" in message
    assert make("folder", tmp_path, path=".", size=5).load("test", ("a", "b"))[0].shape == (2, 3, 5, 5)


def test_pictures_of_one_class_that_differ_in_size_are_not_stretched(tmp_path):
    """As those of one row or column would be, by broadcasting."""
    write_pictures(tmp_path, {"train/a": 1, "val/a": 1})
    Image.new("RGB", (12, 1)).save(tmp_path / "train/a/flat.png")
    with pytest.raises(harness.HarnessError, match="pictures differ in size"):
        make("folder", tmp_path, path=".").load("train", ("a",))


@pytest.mark.parametrize("link", ["val", "val/a"])
def test_one_folder_for_training_and_testing_is_refused(tmp_path, link):
    write_pictures(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    shutil.rmtree(tmp_path / link)
    (tmp_path / link).symlink_to(tmp_path / link.replace("val", "train"))
    dataset = make("folder", tmp_path, path=".")
    for refused in (lambda: dataset.require(("a", "b"), ("a", "b")), lambda: dataset.load("test", ("a",))):
        with pytest.raises(harness.DataMissing, match="val/a is train/a by a link; put pictures there for testing"):
            refused()


def test_pictures_further_down_than_their_class_are_not_left_out_silently(tmp_path):
    write_pictures(tmp_path, {"train/a": 2, "val/a": 1, "val/a/more": 1})
    dataset = make("folder", tmp_path, path=".")
    assert "val/a/more: pictures further down than their class; move them up" in error_of(
        lambda: dataset.load("train", ("a",))
    )
    (tmp_path / "val/a/more/000.png").rename(tmp_path / "val/a/more/notes.txt")
    assert len(dataset.load("train", ("a",))[0]) == 2


def test_a_folder_called_test_is_told_to_be_renamed(tmp_path):
    write_pictures(tmp_path, {"train/a": 2, "test/a": 1})
    said = error_of(lambda: make("folder", tmp_path, path=".").load("train", ("a",)))
    assert f"val/a; those for testing are read from {tmp_path / 'val'}: rename {tmp_path / 'test'}" in said


def test_folder_says_what_it_lacks(tmp_path):
    assert "--set folder.path=" in error_of(lambda: make("folder", tmp_path).classes, harness.HarnessError)
    assert f"{tmp_path}/none/train" in error_of(lambda: make("folder", tmp_path, path="none").classes)
    write_pictures(tmp_path, {"train/a": 1, "train/b": 1, "val/c": 1})
    (tmp_path / "val/a").mkdir()
    message = error_of(lambda: make("folder", tmp_path, path=".").load("train", ("a", "b", "c")))
    assert "train/c, val/a, val/b;" in message


def test_the_revision_follows_files_and_parameters(tmp_path):
    write_pictures(tmp_path / "here", {"train/a": 2, "val/a": 1})
    shutil.copytree(tmp_path / "here", tmp_path / "copy")

    def revision(path: str, **params) -> str:
        return make("folder", tmp_path, path=path, **params).revision()

    first = revision("here")
    assert revision("copy") == first
    assert revision("here", size=4) != first
    (tmp_path / "copy/train/a/000.png").rename(tmp_path / "copy/train/a/zzz.png")
    renamed = revision("copy")
    (tmp_path / "copy/val/a/000.png").write_bytes(b"longer or shorter")
    assert len({first, renamed, revision("copy")}) == 3


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_the_revision_follows_what_is_in_pictures_of_one_size(tmp_path, suffix):
    write_pictures(tmp_path, {"train/a": 2, "val/a": 1}, suffix=suffix)
    dataset = make("folder", tmp_path, path=".")
    first, (a, b) = dataset.revision(), sorted((tmp_path / "train/a").iterdir())
    assert a.stat().st_size == b.stat().st_size
    a.rename(tmp_path / "c"), b.rename(a), (tmp_path / "c").rename(b)
    assert dataset.revision() != first


def test_a_link_to_a_picture_that_is_not_there_is_told(tmp_path):
    write_pictures(tmp_path, {"train/a": 2, "val/a": 1})
    (tmp_path / "train/a/zzz.png").symlink_to(tmp_path / "nowhere")
    dataset = make("folder", tmp_path, path=".")
    for ask in (dataset.revision, lambda: dataset.load("train", ("a",)), lambda: dataset.require(("a",), ("a",))):
        assert "train/a/zzz.png: a link to a picture that is not there" in error_of(ask)


@pytest.fixture
def imagenet(tmp_path):
    """Samoyed, Cardigan (the dog), tank, each with two training and one test picture."""
    for wnid in ("n02111889", "n02113186", "n04389033"):
        write_pictures(tmp_path / "imagenet", {f"train/{wnid}": 2, f"val/{wnid}": 1}, suffix=".JPEG")
    return tmp_path


def test_imagenet_names_are_unique_and_in_the_order_of_the_ids():
    file = Path(module_of("imagenet").__file__).with_name("imagenet_classes.csv")
    rows = list(csv.DictReader(file.open()))
    wnids = [row["wnid"] for row in rows]
    assert [int(row["index"]) for row in rows] == list(range(1000))
    assert wnids == sorted(set(wnids))
    dataset = make("imagenet")
    assert dataset.classes == tuple(row["name"] for row in rows)
    assert len(set(dataset.classes)) == 1000
    index = {"tench": 0, "Samoyed": 258, "Cardigan": 264, "cardigan": 474, "tank": 847, "toilet tissue": 999}
    assert {name: dataset.classes.index(name) for name in index} == index


def test_imagenet_names_are_those_of_torchvision():
    from torchvision.models import ResNet18_Weights

    theirs = ResNet18_Weights.DEFAULT.meta["categories"]
    ours = make("imagenet", Path("x")).classes
    other = {i: name for i, name in enumerate(ours) if name != theirs[i]}
    assert other == {134: "crane (bird)", 517: "crane (machine)", 638: "maillot (tights)", 639: "maillot (tank suit)"}


def test_imagenet_takes_names_and_ids(imagenet):
    dataset = make("imagenet", imagenet, size=8)
    images, labels = dataset.load("train", ("tank", "Cardigan"))
    assert images.shape == (4, 3, 8, 8)
    assert labels.tolist() == [0, 0, 1, 1]
    by_id, _ = dataset.load("train", ("n04389033", "n02113186"))
    assert torch.equal(images, by_id)
    twice = error_of(lambda: dataset.load("test", ("tank", "n04389033")), harness.HarnessError)
    assert "'tank' is named twice" in twice


def test_imagenet_lists_every_missing_class_before_it_decodes_anything(imagenet):
    broken = imagenet / "imagenet/train/n02111889/000.JPEG"
    broken.write_bytes(b"not a picture")
    shutil.rmtree(imagenet / "imagenet/val/n02113186")
    message = error_of(lambda: make("imagenet", imagenet).load("train", ("Samoyed", "Cardigan", "church")))
    assert "train/n03028079 (church), val/n02113186 (Cardigan), val/n03028079 (church);" in message
    assert str(broken) in error_of(lambda: make("imagenet", imagenet).load("train", ("tank", "Samoyed")), DataDamaged)
    assert "imagenet.folder" in error_of(lambda: make("imagenet", imagenet, folder="no").load("test", ("tank",)))


def test_imagenet_revision_is_there_before_the_data(imagenet, tmp_path):
    assert make("imagenet", tmp_path / "empty").revision() == "absent"
    first = make("imagenet", imagenet).revision()
    assert make("imagenet", imagenet, per_class=1).revision() != first
    shutil.rmtree(imagenet / "imagenet/val/n04389033")
    assert make("imagenet", imagenet).revision() != first


def test_an_image_more_in_any_folder_of_a_part_of_imagenet_is_another_revision(tmp_path):
    folders = [f"{part}/n{i:08d}" for part in ("train", "val") for i in range(14)]
    write_pictures(tmp_path / "imagenet", dict.fromkeys(folders, 1))
    seen = {make("imagenet", tmp_path).revision()}
    for folder in folders:
        (tmp_path / "imagenet" / folder / "more.png").write_bytes(b"")
        seen.add(make("imagenet", tmp_path).revision())
    assert len(seen) == 1 + len(folders)


def test_only_so_many_folders_are_looked_into(tmp_path):
    write_pictures(tmp_path, {f"val/{i:02d}": 1 for i in range(12)})
    before = pictures.fingerprint(tmp_path, {}, most=6)
    (tmp_path / "val/01/000.png").write_bytes(b"")
    assert pictures.fingerprint(tmp_path, {}, most=6) == before
    (tmp_path / "val/02/000.png").write_bytes(b"")
    assert pictures.fingerprint(tmp_path, {}, most=6) != before


@pytest.mark.parametrize(("mode", "colour", "rgb"), [("L", 90, (90, 90, 90)), ("CMYK", (0, 255, 255, 0), (255, 0, 0))])
def test_grey_and_cmyk_become_rgb(tmp_path, mode, colour, rgb):
    Image.new(mode, (8, 8), colour).save(tmp_path / "a.JPEG", quality=100)
    pixel = pictures.decode(tmp_path / "a.JPEG")[:, 4, 4]
    assert (pixel.int() - torch.tensor(rgb)).abs().max() <= 3


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = pictures.decode(tmp_path / "a.png")
    assert image.shape == (3, 256, 256)
    assert np.abs(image[1].numpy() - ramp / 65535 * 255).max() <= 0.5


def test_pixels_of_an_unknown_range_are_refused(tmp_path):
    for values, said in (
        (np.ones((8, 8), np.float32), "floating-point"),
        (np.full((8, 8), 70000, np.int32), "grey other than of 16 bits"),
        (np.full((8, 8), 7, np.int32), "grey other than of 16 bits"),
    ):
        Image.fromarray(values).save(tmp_path / "a.png", format="TIFF")
        message = error_of(lambda: pictures.decode(tmp_path / "a.png"), DataDamaged)
        assert said in message
        assert "save it with 8 or 16 bits" in message
        assert "whole copy" not in message


def write_tiff(path, pixels, order="<", **tags):
    """Uncompressed grey of 16 bits, or as the tags say."""
    height, width = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    numbers = {"photometric": 262, "orientation": 274, "sample_format": 339}
    found = {256: width, 257: height, 258: 16, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    found |= {numbers[name]: value for name, value in tags.items()}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, found[tag]) for tag in sorted(found))
    directory = struct.pack(f"{order}H", len(found)) + entries + b"\0" * 4
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(mark + struct.pack(f"{order}I", 8 + len(data)) + data + directory)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_a_tiff_become_eight(tmp_path, order):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write_tiff(tmp_path / "a.tif", ramp, order)
    found = pictures.decode(tmp_path / "a.tif")[0].numpy()
    assert np.abs(found - ramp / 65535 * 255).max() <= 0.5


def test_a_tiff_is_turned_as_its_tag_says(tmp_path):
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3) * 40 * 257
    write_tiff(tmp_path / "a.tif", pixels, orientation=6)  # the first row is the right side, the first column the top
    np.testing.assert_array_equal(pictures.decode(tmp_path / "a.tif")[0].numpy(), np.rot90(pixels // 257, -1))


@pytest.mark.parametrize("tags", [{"photometric": 0}, {"sample_format": 2}])
def test_grey_that_can_be_read_in_two_ways_is_refused(tmp_path, tags):
    write_tiff(tmp_path / "a.tif", np.full((4, 4), 4095), **tags)
    assert "black as zero" in error_of(lambda: pictures.decode(tmp_path / "a.tif"), DataDamaged)


def test_pixels_below_zero_are_refused(tmp_path):
    numbers = {256: 4, 257: 4, 258: 8, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16, 339: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items())
    directory = struct.pack("<H", len(numbers)) + entries + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 24) + bytes([200] * 16) + directory)
    assert "below zero" in error_of(lambda: pictures.decode(tmp_path / "a.tif"), DataDamaged)


def test_a_picture_of_more_pixels_than_pillow_takes_says_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 8)).save(tmp_path / "large.png")
    with pytest.raises(DataDamaged, match=r"large\.png: has more pixels .*; save it smaller"):
        pictures.decode(tmp_path / "large.png")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_a_file_of_several_pictures_is_refused(tmp_path, suffix):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])
    assert "holds 2 pictures" in error_of(lambda: pictures.decode(tmp_path / f"a{suffix}"), DataDamaged)


def test_of_a_photograph_with_a_preview_the_photograph_is_read(tmp_path):
    """As many phones write them: a JPEG of the format MPO."""
    photograph, preview = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    red, _, blue = pictures.decode(tmp_path / "a.jpg")[:, 4, 4].tolist()
    assert red > 250
    assert blue < 5


def test_the_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    # A ramp along the longer side: 40 x 20 becomes 20 x 10, of which columns 5 to 14 stay. A symmetric filter keeps
    # the value of a ramp at the centre of each new pixel, which is at (i + 1/2) * 2 - 1/2 in the old ones.
    ramp = np.tile(np.arange(40, dtype=np.uint8) * 6, (20, 1))
    expected = 6 * ((np.arange(5, 15) + 0.5) * 2 - 0.5)
    for name, picture in (("wide", ramp), ("tall", ramp.T)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        image = pictures.decode(tmp_path / f"{name}.png", size=10)
        assert image.shape == (3, 10, 10)
        row = image[0, 3] if name == "wide" else image[0, :, 3]
        assert np.abs(row.numpy() - expected).max() <= 1


def test_resizing_does_not_alias(tmp_path):
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    inner = pictures.decode(tmp_path / "a.png", size=16)[:, 2:-2, 2:-2].float()
    assert (inner - 127.5).abs().max() < 10


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("jpeg")
    write_pictures(folder, {"a": 1}, suffix=".JPEG")
    return folder / "a/000.JPEG"


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_picture_is_named_or_still_a_picture(jpeg, data):
    content = bytearray(jpeg.read_bytes())
    damaged = jpeg.with_name("damaged.JPEG")
    if data.draw(st.booleans(), label="truncated"):
        damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 20))])
        assert str(damaged) in error_of(lambda: pictures.decode(damaged, 4), DataDamaged)
        return
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged.write_bytes(content)
    try:
        fine = pictures.decode(damaged, 4).shape == (3, 4, 4)
    except DataDamaged as error:
        fine = str(damaged) in str(error)
    assert fine
