"""Small copies of the test images that a score finds most normal and most anomalous, where the terms allow it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.plugins import aside
from harness.records import Record
from harness.report.page.evidence import picture_key
from harness.report.roc import bounded
from harness.scoring import TestImages

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from harness.dataset import Dataset
    from harness.plugins import Plugins
    from harness.report.ties import Scores

EACH = 8
"""Images in a strip."""
SIDE = 48
"""Pixels; larger images are shrunk to it."""
LEVELS = 16
"""Of grey: enough to recognise an image, in half of the bytes."""


class Withheld(Exception):
    """There are no pictures of a data set, and this is why."""


def pictures(
    records: Iterable[Record], scores: Scores, plugins: Plugins, data: Path, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """For every data set the pictures, and which of them each score puts first and last; or why there are none.

    Args:
        records: each of the lowest seed of its number, since that is the one that the page draws.
        scores: of a record, by image: `Store.scores`.
        data: the folder of the data sets.
        before: what an earlier page had, which is kept where the data are not at hand.

    Returns:
        by the digest of the data set: `credit`, `atlas` (a PNG as data: address, `columns` pictures of `size` a row),
        `classes` (of each picture), and `strips`: for a `picture_key`, four lists of (picture, score): of the normal
        images and of the anomalies, those with the lowest scores, then those with the highest. Or just `note`.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "ok":
            groups.setdefault(record.digests.get("dataset", record.dataset), []).append(record)
    found = {}
    for key, group in groups.items():
        try:
            with aside():
                found[key] = _of_one(group, scores, _permitted(group[0], plugins, data))
        except Withheld as reason:
            found[key] = {"note": f"{group[0].dataset}: {reason}"}
        except HarnessError:  # not there, damaged, or of a plugin that is out of reach
            note = f"{group[0].dataset}: no pictures, since the data set was not at hand when this page was written"
            found[key] = (before or {}).get(key, {"note": note})
    return found


def _permitted(record: Record, plugins: Plugins, data: Path) -> Dataset:
    from harness.digests import dataset_digest

    cls = plugins.get("dataset", record.dataset)
    if not isinstance(cls.thumbnails, str) or not cls.thumbnails:
        raise Withheld("no pictures, since the terms of the data are not known to allow them")
    dataset = plugins.dataset(record.dataset, data, cls.Params(**record.dataset_params))
    with plugins.blame("dataset", record.dataset, "revision"):
        same = dataset_digest(dataset) == record.digests.get("dataset")
    if not same:
        raise Withheld("no pictures, since the data at hand are another version than those of the records")
    return dataset


def _of_one(records: list[Record], scores: Scores, dataset: Dataset) -> dict[str, Any]:
    classes = dict.fromkeys(name for record in records for part in record.order for name in part)
    test = TestImages.load(dataset, tuple(classes))
    strips: dict[str, list[list[tuple[int, float]]]] = {}
    for record in records:
        kept = scores(record)
        for name in record.scores:
            key = picture_key(record, name)
            strips[key] = []
            for part, of in zip(("normal", "anomaly"), record.order, strict=True):
                strips[key] += _ends(kept[f"{part}.{name}"], test.places(of))
    used = sorted({place for four in strips.values() for strip in four for place, _ in strip})
    number = {place: turn for turn, place in enumerate(used)}
    shown = {key: [[[number[p], v] for p, v in strip] for strip in four] for key, four in strips.items()}
    names = [test.classes[label] for label in test.labels[used].tolist()]
    return {"credit": dataset.thumbnails, "classes": names, "strips": shown, **_atlas(test.images[used])}


def _ends(values: np.ndarray, places: np.ndarray) -> list[list[tuple[int, float]]]:
    """The images with the lowest scores, and those with the highest."""
    if len(values) != len(places):
        raise Withheld("no pictures, since the data at hand have other test images than those that were scored")
    order = values.argsort(kind="stable")
    ends = order[:EACH], order[::-1][:EACH]
    values = bounded(values)
    return [[(int(places[i]), float(f"{values[i]:.4g}")) for i in end] for end in ends]


def _atlas(images: Tensor) -> dict[str, Any]:
    """All pictures in one, (N, C, H, W) uint8, as a PNG."""
    import numpy as np
    from PIL import Image

    grey = images.shape[1] == 1
    pixels = (images[:, 0] if grey else images.permute(0, 2, 3, 1)).contiguous().numpy()
    small = [Image.fromarray(one) for one in pixels]
    for one in small:
        one.thumbnail((SIDE, SIDE))
    width, height = small[0].size
    columns = math.ceil(len(small) ** 0.5)
    sheet = Image.new(small[0].mode, (columns * width, math.ceil(len(small) / columns) * height))
    for turn, one in enumerate(small):
        sheet.paste(one, (turn % columns * width, turn // columns * height))
    if grey:
        step = 255 / (LEVELS - 1)
        sheet = Image.frombytes("P", sheet.size, np.rint(np.asarray(sheet) / step).astype(np.uint8).tobytes())
        sheet.putpalette([round(step * level) for level in range(LEVELS) for _ in range(3)])
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"atlas": address, "columns": columns, "size": [width, height]}
