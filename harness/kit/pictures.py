"""Picture files in folders `<root>/{train,val}/<class>/`, as uint8 tensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataDamaged, DataMissing, HarnessError
from harness.files import sha256
from harness.kit.picture_cache import FOLDER, cached

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder knows as pictures, too."""
UNCOMPRESSED = (".bmp", ".pgm", ".ppm", ".tif", ".tiff")
"""All pictures of one size have one length, as a rule."""
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF 6.0; of the values of the last two, 1 stands for black as zero, and for unsigned."""
BLACK_IS_ZERO = UNSIGNED = 1
SIGNED = 2
PARTS = {"train": "train", "test": "val"}
"""The folder of each split."""


def list_images(folder: Path) -> list[Path]:
    """The picture files in a folder, in the order of their names; none if there is no such folder."""
    return [folder / entry.name for entry in _entries(folder) if _is_image(entry)]


def list_classes(root: Path, split: str | None = None) -> tuple[str, ...]:
    """The names of the class folders of a split, or of both, in order."""
    parts = [PARTS[split]] if split else PARTS.values()
    return tuple(sorted({name for part in parts for name in _folders(root / part)}))


def fingerprint(root: Path, settings: Mapping[str, Any], most: int | None = None) -> str:
    """What tells a tree of pictures from another: a digest of its class folders and its files' names and sizes, and of
    what is in those that are not compressed, all of one size.

    Args:
        settings: whatever else makes for other images, such as their size.
        most: look into only so many class folders of each split, evenly spaced: a large tree has too many files.

    Returns:
        16 hex digits, or "absent" where there is no class folder.
    """
    if not list_classes(root):
        return "absent"
    found: list[Any] = [dict(settings)]
    for part in PARTS.values():
        folders = _folders(root / part)
        found.append(folders)
        for folder in folders[:: -(-len(folders) // most) if most and folders else 1]:
            images = [entry for entry in _entries(root / part / folder) if _is_image(entry)]
            found.append([(part, folder, entry.name, entry.stat().st_size) for entry in images])
            whole = [entry for entry in images if entry.name.lower().endswith(UNCOMPRESSED)]
            found += [sha256(Path(entry.path).read_bytes()) for entry in whole]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def require(root: Path, train: Mapping[str, str], test: Mapping[str, str]) -> None:
    """See that there are pictures of every class, and for testing others than for training.

    Args:
        train, test: for each class of the split, the name of its folder.

    Raises:
        DataMissing: the line lists every class without a picture, or what is wrong with the folders: one is linked as
            both splits, or pictures lie further down, where they are not read.
    """
    wanted = [("train", name, folder) for name, folder in train.items()]
    wanted += [("val", name, folder) for name, folder in test.items()]
    missing, below = [], []
    for part, name, folder in wanted:
        place = f"{part}/{folder}"
        entries = _entries(root / place)
        if not [entry for entry in entries if _is_image(entry)]:
            missing.append(place + (f" ({name})" if name != folder else ""))
        below += [f"{place}/{one.name}" for one in entries if one.is_dir() and list_images(Path(one.path))]
    if missing:
        mend = "put them there"
        if (root / "test").is_dir() and not (root / "val").exists():
            mend = f"those for testing are read from {root / 'val'}: rename {root / 'test'}"
        raise DataMissing(f"{root}: no picture ({' '.join(SUFFIXES)}) in {', '.join(missing)}; {mend}")
    if below:
        raise DataMissing(f"{root}: {', '.join(below)}: pictures further down than their class; move them up, or away")
    for folder in test.values():
        if _same(root / "train" / folder, root / "val" / folder):
            raise DataMissing(f"{root}: val/{folder} is train/{folder} by a link; put pictures there for testing alone")


def load_classes(
    root: Path, split: str, folders: Mapping[str, str], size: int | None = None, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """The pictures of some classes in one split: class after class, each in the order of the file names.

    Each is decoded once: see `picture_cache`.

    Args:
        split: "train" or "test". With the training images of a class, its test images must be there too, so that
            nothing is missed only after hours of training.
        folders: for each class, the name of its folder.
        size: bring every picture to this height and width; None: they all have the same.
        most: take only so many pictures of each class.

    Returns:
        images (N, 3, H, W) uint8 and labels (N,) int64, the index of the class in `folders`.

    Raises:
        DataMissing: classes without a picture, all of them in one line.
        DataDamaged: a file that cannot be decoded.
        HarnessError: pictures differ in size, and `size` is None.
    """
    import torch

    require(root, folders if split == "train" else {}, folders)
    files = [list_images(root / PARTS[split] / folder)[:most] for folder in folders.values()]
    labels = torch.repeat_interleave(torch.arange(len(files)), torch.tensor([len(of_class) for of_class in files]))
    images = torch.empty(0)
    for label, (folder, of_class) in enumerate(zip(folders.values(), files, strict=True)):
        place = root / FOLDER / PARTS[split] / folder / f"{size or 'own'}-{most or 'all'}"
        part = cached(place, of_class, lambda of_class=of_class: decode_all(of_class, size))
        if len(files) == 1:
            return part, labels  # mapped into memory, not copied
        if label == 0:
            images = part.new_empty(len(labels), *part.shape[1:])
        _check_size(files[0][0], images[0], of_class[0], part[0])
        images[labels == label] = part
    return images, labels


def decode_all(files: Sequence[Path], size: int | None = None) -> Tensor:
    """Pictures of one size as (N, 3, H, W) uint8, decoded by as many threads as there are processors."""
    import torch

    first = decode(files[0], size)
    images = torch.empty((len(files), *first.shape), dtype=torch.uint8)

    def fill(index: int) -> None:
        image = decode(files[index], size)
        _check_size(files[0], first, files[index], image)
        images[index] = image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(files))))
    return images


def decode(path: Path, size: int | None = None) -> Tensor:
    """One picture as (3, H, W) uint8 RGB; with `size`, its shorter side resized to that (bilinear, antialiased), then
    cropped to the central square.

    Raises:
        DataDamaged: the file can't be read, holds several pictures, or none of 8 or 16 bits.
    """
    from PIL import Image, UnidentifiedImageError
    from torchvision.transforms import functional

    try:
        # As a stream, since Pillow scrambles a turned TIFF that it maps into memory.
        with path.open("rb") as stream, Image.open(stream) as file:
            image = _eight_bits(file).convert("RGB")
    except _Ambiguous as error:
        raise DataDamaged(f"{path}: {error}") from None
    except Image.DecompressionBombError:
        raise DataDamaged(f"{path}: has more pixels than Pillow takes for a picture; save it smaller") from None
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        said = "no picture at all" if isinstance(error, UnidentifiedImageError) else error
        raise DataDamaged(f"{path}: not readable as a picture: {said}; put a whole copy there") from None
    if size is not None:
        image = functional.center_crop(functional.resize(image, size), size)
    return functional.pil_to_tensor(image)


class _Ambiguous(Exception):
    """A whole picture, of which nobody knows what is white, or which of several is meant: why, and the mend."""


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits as grey of 8; all else as it is. Pillow's own `convert` cuts off at 255.

    Raises:
        _Ambiguous: it is not one picture of 8 or 16 bits.
    """
    import numpy as np
    from PIL import Image

    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # of a camera, which keeps a preview beside the photograph
        raise _Ambiguous(f"holds {pictures} pictures; save the one that is meant alone")
    if image.mode == "F":
        raise _Ambiguous("has floating-point pixels, of a range that nobody knows; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        if image.format == "TIFF" and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
            raise _Ambiguous("has pixels below zero; save it with 8 or 16 bits, unsigned")
        return image
    if image.format == "TIFF":
        tags = image.tag_v2
        found = tags.get(BITS_PER_SAMPLE), tags.get(PHOTOMETRIC_INTERPRETATION), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
        if found != ((16,), BLACK_IS_ZERO, (UNSIGNED,)):
            raise _Ambiguous("has grey other than of 16 bits, unsigned, with black as zero; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _check_size(file: Path, image: Tensor, other_file: Path, other: Tensor) -> None:
    if image.shape != other.shape:
        raise HarnessError(
            f"pictures differ in size: {file} is {image.shape[2]}x{image.shape[1]}, {other_file} is "
            f"{other.shape[2]}x{other.shape[1]}; bring all to one with the data set's parameter `size`"
        )


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder, in the order of names, without what the system hides there (.DS_Store, ._a.jpg)."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    return one.exists() and one.samefile(other)


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _is_image(entry: os.DirEntry) -> bool:
    if not entry.name.lower().endswith(SUFFIXES):
        return False
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise DataMissing(f"{entry.path}: a link to a picture that is not there; fetch it, or remove the link")
    return entry.is_file()
