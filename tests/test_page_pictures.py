"""The test images on the page: those that were scored, and only where the terms of the data allow them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from read_page import Read
from tiny import case, harness, named, plugin

from harness.plugins import Plugins
from harness.report.page.pictures import EACH, LEVELS

INK = 'return {"L2": images.float().flatten(1).sum(1)}'


def decoded(source: dict) -> list[np.ndarray]:
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(source["atlas"].partition(",")[2]))).convert("L"))
    width, height = source["size"]
    places = (divmod(number, source["columns"]) for number in range(len(source["classes"])))
    return [sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] for y, x in places]


@pytest.mark.parametrize("uses_labels", [False, True])
def test_the_pictures_are_of_the_images_that_were_scored(here, uses_labels):
    """A method scores an image by its ink. Clusters and classes are named out of order on purpose."""
    protocol = named({"a": case([["5", "3"], ["1"]], "8", "0")})
    harness("run", "--protocol", protocol, "--method", plugin(score=INK, uses_labels=uses_labels))
    read = Read(harness("leaderboard", "--protocol", protocol, "--format", "html").out)
    (source,) = read.json("pictures").values()
    (entry,) = (entry for entry in read.json("data")["entries"] if entry["runs"])
    strips, pictures = source["strips"][entry["pictures"]], decoded(source)
    images, labels = Plugins().dataset("digits", Path()).load("test", ("5", "3", "1", "8", "0"))
    ink = images.float().sum((1, 2, 3))
    for part, (first, last) in ({0, 1, 2}, strips[:2]), ({3, 4}, strips[2:]):
        among = torch.tensor([label in part for label in labels.tolist()])
        expected = ink[among].sort().values
        assert [value for _, value in first] == pytest.approx(expected[:EACH].tolist(), rel=1e-3)
        assert [value for _, value in last] == pytest.approx(expected.flip(0)[:EACH].tolist(), rel=1e-3)
        for number, value in (*first, *last):
            same = [i for i in range(len(ink)) if abs(ink[i] - value) < 1 and among[i]]
            step = 255 / (LEVELS - 1)
            near = [i for i in same if abs(images[i, 0].numpy().astype(int) - pictures[number]).max() <= step / 2]
            assert "53180"[labels[near[0]]] == source["classes"][number]
    assert "CC BY 4.0" in source["credit"]


DATASET = '''
import torch
import harness


class Own(harness.Dataset):
    """Noise."""

    name = "own"
    classes = ("0", "1", "6")
    {terms}

    def revision(self):
        return (self.root / "revision").read_text()

    def load(self, split, classes):
        if not self.root.exists():
            raise harness.DataMissing("own: not there")
        images = torch.arange(60 * {channels} * 80 * 60, dtype=torch.int64).reshape(60, {channels}, 80, 60) % 251
        return self.select(images.to(torch.uint8), torch.arange(60) % 3, classes)


@harness.hookimpl
def register_datasets(register):
    register(Own)
'''


def own(terms: str, channels: int = 3) -> tuple:
    Path("own.py").write_text(DATASET.format(terms=terms, channels=channels))
    Path("data").mkdir(exist_ok=True)
    Path("data/revision").write_text("1")
    return ("--protocol", named({"a": case(["0", "1"], "6")}, dataset="own")), ("--plugins", "own.py")


def test_pictures_only_where_the_terms_allow_them(here):
    protocol, plugins = own("")
    recipe = ("--recipe", _recipe())
    harness("run", *protocol, *plugins, *recipe, "--dataset", "own", "--method", plugin())

    def pictures(*words) -> dict:
        text = harness("leaderboard", *protocol, "--format", "html", *(words or plugins)).out
        (found,) = Read(text).json("pictures").values()
        return found

    assert pictures() == {"note": "own: no pictures, since the terms of the data are not known to allow them"}
    own('thumbnails = "Mine, CC0"')
    found = pictures()
    assert found["credit"] == "Mine, CC0"
    assert found["size"] == [36, 48]  # shrunk, and of the same shape
    Path("data/revision").write_text("2")
    assert "another version" in pictures()["note"]
    assert "not at hand" in pictures("--data", "data")["note"]  # without its plugin
    assert "not at hand" in pictures(*plugins, "--data", "nowhere")["note"]


def _recipe() -> Path:
    path = Path("own-recipe.toml").absolute()
    path.write_text(Path(__file__).parents[1].joinpath("harness/templates/recipe.toml").read_text())
    return path
