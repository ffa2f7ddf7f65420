"""Which records are chosen, by what was set, and put away."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import case, harness, named, plugin, table

from harness.commands.options import Comma
from harness.errors import quoted
from harness.records import Record, Store


@pytest.fixture
def variants(here) -> None:
    """Records of a method, of two settings of it, and of another seed."""
    mine = plugin(body="class Params(harness.Params):\n        k: int = 1\n        fair: bool = False")
    for words in ([], ["--set", "mean-image.k=5"], ["--set", "mean-image.fair=true"], ["--seed", "1"]):
        harness("run", "--protocol", "test2", "--case", "1,2", "--method", mine, *words)


def counted(*filters: str) -> int:
    return len(json.loads(harness("results", "--format", "json", *filters).out))


def test_records_are_chosen_by_what_was_set(variants):
    assert counted() == 8
    assert counted("--set", "mean-image.k=5") == 2
    assert counted("--set", "mean-image.fair=true") == 2
    assert counted("--set", "none") == 4
    assert counted("--set", "none", "--seed", "1", "--case", "2") == 1
    columns = table(harness("leaderboard", "--set", "none", "--format", "md").out)[0]
    assert [name for name in columns if name.startswith("mean-image")] == ["mean-image L2"]
    assert counted("--set", "mean-image.k=none") == 0
    assert "--set mean-image.k=6: no record has it" in harness("leaderboard", "--set", "mean-image.k=6", code=2).line
    both = ("--set", "mean-image.k=5", "--set", "mean-image.k=1", "--set", "mean-image.k=7")
    assert counted(*both) == 2
    err = harness("results", *both).err
    assert "--set mean-image.k=7: no record has it" in err
    assert "k=5" not in err
    assert counted(*both, "--set", "mean-image.fair=true") == 0
    assert "stands alone" in harness("results", "--set", "none", "--set", "mean-image.k=5", code=2).line


def test_the_numbers_of_tables_say_what_was_set(variants):
    harness(
        "run", "--protocol", "test2", "--case", "2", "--method", "./mean-image.py", "--set", "test2.order=1,2,3,4,0"
    )
    told = harness("leaderboard", "--format", "csv", "--method", "mean-image").out
    by_settings = {row["settings"] for row in csv.DictReader(io.StringIO(told))}
    assert by_settings == {"", "mean-image.k=5", "mean-image.fair=true", "test2.order=1,2,3,4,0"}
    assert by_settings == {row["settings"] for row in json.loads(harness("results", "--format", "json").out)}


def test_what_is_forgotten_is_in_no_table_and_comes_back_without_training(variants):
    gone = [one for one in Store(Path("results")).records() if one.settings.get("mean-image", {}).get("k") == 5]
    before = {one.key: Store(Path("results")).scores(one) for one in gone}
    assert "2 record(s) put away" in harness("forget", "--set", "mean-image.k=5", "--yes").out
    assert counted() == 6
    assert counted("--set", "mean-image.k=5") == 0
    kept = [path for path in Path("results/superseded").rglob("*") if path.is_file()]
    assert [path.suffix for path in kept] == [".json", ".json"]
    put_away = [Record.model_validate_json(path.read_bytes()) for path in kept]
    assert all(Store(Path("results")).scores(one).keys() == before[one.key].keys() for one in put_away)
    assert len([path for path in Path("results/records").rglob("*") if path.is_file()]) == 6
    fits = set(Path("results/fits").iterdir())
    words = ["--protocol", "test2", "--case", "1,2", "--method", "./mean-image.py", "--set", "mean-image.k=5"]
    harness("run", *words)
    assert set(Path("results/fits").iterdir()) == fits
    for cell, scores in before.items():
        record = Store(Path("results")).find(cell)
        again = Store(Path("results")).scores(record)
        assert all((again[name] == scores[name]).all() for name in scores)


def test_forget_takes_nothing_where_a_name_is_not_known(variants):
    line = harness("forget", "--seed", "1,7", "--yes", code=2).line
    assert "--seed 7: no record has it" in line
    assert counted() == 8


@pytest.mark.parametrize("nothing", ["", " ", ",", '""'])
def test_a_filter_that_names_nothing_is_not_one_that_lets_all_through(variants, nothing):
    for filters in (["--method", "mean-image", "--seed", nothing], ["--case", nothing]):
        assert "names nothing" in harness("forget", *filters, "--yes", code=2).line
    assert counted() == 8


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" ")).map(str.strip).filter(bool), min_size=1
    )
)
def test_names_in_quotes_are_read_back(names):
    assert Comma().convert(",".join(map(quoted, names)), None, None) == tuple(names)


def test_a_name_with_a_comma_stands_in_quotes(here):
    protocol = named({"0, 1": case(["0", "1"], "6"), "0": case(["0"], "6")})
    words = ("--protocol", protocol, "--method", plugin())
    assert 'known: 0, "0, 1"' in harness("plan", *words, "--case", "0, 1", code=2).line
    assert "2 evaluations" in harness("run", *words, "--case", '"0, 1",0').err
    assert counted("--case", '"0, 1"') == 1
    assert "known: " in harness("forget", "--case", "0, 1", "--yes", code=2).line
    assert "a name with a comma in double quotes" in harness("results", "--case", '"0, 1', code=2).err
    assert counted() == 2


@pytest.mark.parametrize(("answer", "left"), [("", 8), ("n\n", 8), ("y\n", 6)])
def test_forget_asks_first_and_never_takes_everything(variants, monkeypatch, answer, left):
    assert "name what to put away" in harness("forget", "--yes", code=2).line
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    asked = harness("forget", "--seed", "1", code=0 if left == 6 else 2)
    assert "Put 2 record(s) away?" in asked.err
    assert ("nothing was put away" in asked.err) == (left == 8)
    assert counted() == left
