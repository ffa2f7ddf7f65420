"""The page of a published folder: checked, kept up to date, and left alone where it is someone else's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from read_page import Read
from tiny import harness, plugin

from harness.report.page.packed import pack


@pytest.fixture(scope="module")
def folder(run_here) -> Path:
    with run_here("published"):
        harness("run", "--protocol", "test2", "--case", "2", "--seed", "0,1", "--method", plugin())
        out = harness("leaderboard", "--format", "html", "--out", "leaderboard").out
        assert "leaderboard/index.html" in out.splitlines()
        return Path("leaderboard").absolute()


@pytest.fixture
def published(folder, here) -> Path:
    return Path(shutil.copytree(folder, "leaderboard")) / "index.html"


def test_a_published_page_is_checked_like_any_table(published):
    assert "everything derives" in harness("leaderboard", "--check").out
    text = published.read_text(encoding="utf-8")
    number = re.search(r"<strong>(0\.\d{3})|<span>(0\.\d{3})", text)
    data = Read(text).json("data")
    auroc = next(json.dumps(entry["numbers"][0][0]) for entry in data["entries"] if entry["runs"])

    def otherwise(old: str, new: str) -> tuple[str, str]:
        plain = json.dumps(data, separators=(",", ":"))
        assert old in plain
        return pack(data), pack(json.loads(plain.replace(old, new, 1)))

    begin, pictures = (f'<script type="application/zlib" id="{name}">' for name in ("data", "pictures"))
    forged = [
        (number[0], number[0][:-1] + "x"),
        otherwise(auroc, "0.999"),
        otherwise('"seed":1', '"seed":7'),
        otherwise('"entries":[', '"entries":[1,'),
        (pack(data), pack([])),
        (pack(data), pack(data)[:-8]),
        (begin, begin + " "),
        (pictures, pictures + '</script ><h2>Table 99</h2><script type="application/zlib">'),
        ("<caption>", f"<caption>{begin}{pack({})}</script>"),
        (begin, begin + pack({}) + "</script>" + begin),
        ("data-entries", "data-other"),
        ("AUROC, with", "Accuracy, with"),
        ("const ", "const  "),
    ]
    for old, new in forged:
        assert old in text
        published.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert "index.html: not the page that its records make" in harness("leaderboard", "--check", code=1).out


def test_publishing_a_part_of_a_folder_anew_leaves_the_rest_on_its_page(published):
    harness("run", "--protocol", "test1", "--case", "2", "--method", plugin("mine"), "--results", "theirs")
    harness("leaderboard", "--results", "theirs", "--out", "leaderboard")
    harness("leaderboard", "--results", "leaderboard", "--protocol", "test1", "--out", "leaderboard")
    assert "everything derives" in harness("leaderboard", "--check").out


def test_a_page_leads_to_what_is_said_of_its_numbers_where_anything_is(published):
    assert "README.md" not in published.read_text()
    Path("leaderboard/README.md").write_text("They hold.")
    assert "not the page that its records make" in harness("leaderboard", "--check", code=1).out
    harness("leaderboard", "--results", "leaderboard", "--out", "leaderboard")
    assert '<a href="README.md">' in published.read_text()
    assert "everything derives" in harness("leaderboard", "--check").out


def test_a_page_keeps_up_with_its_folder_and_keeps_its_pictures(published, monkeypatch):
    before = Read(published.read_text()).json("pictures")
    assert next(iter(before.values()))["strips"]
    mine = plugin("mine")
    harness("run", "--protocol", "test2", "--case", "2", "--method", mine, "--results", "theirs")
    monkeypatch.setattr("harness.digests.dataset_digest", _missing)
    harness("leaderboard", "--results", "theirs", "--out", "leaderboard")
    assert "everything derives" in harness("leaderboard", "--check").out
    assert any("mine" in row for row in Read(published.read_text()).rows)
    assert Read(published.read_text()).json("pictures") == before


def _missing(dataset):
    from harness import DataMissing

    raise DataMissing("not here")


def test_someone_else_s_page_is_left_alone(published):
    published.write_text("<h1>Our own</h1>")
    harness("leaderboard", "--results", "leaderboard", "--out", "leaderboard")
    assert published.read_text() == "<h1>Our own</h1>"
    # But nobody is to take it for a page that was checked.
    assert "index.html: no page of ours" in harness("leaderboard", "--check", code=1).out
