"""`harness leaderboard --check`: everything in a published folder is derived again, and what does not hold is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from published_folder import TEST2, a_record, check, edit
from tiny import harness, plugin

from harness.metrics import Metrics
from harness.records import Store
from harness.spec import digest


def test_what_was_published_is_found_in_order(leaderboard):
    assert "everything derives from its records" in check()
    assert harness("leaderboard", "--check", "--out", leaderboard).out == check()
    (leaderboard / "test2-digits-small.csv").write_text(
        harness("leaderboard", "--results", leaderboard, "--format", "csv").out
    )
    assert "everything derives" in check()


@pytest.mark.parametrize("field", Metrics.model_fields)
def test_a_number_that_was_changed_is_found(leaderboard, field):
    path = a_record(leaderboard)
    record = json.loads(path.read_text())
    true = record["scores"]["L2"][field]
    record["scores"]["L2"][field] = wrong = round(true - 0.01 if true > 0.5 else true + 0.01, 6)
    path.write_text(json.dumps(record))
    out = check(1)
    assert f"{path}: L2: the record says {field} {wrong:.6f}, its scores say {true:.6f}" in out
    assert (".md: not the table that its records make" in out) == (field == "auroc")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "skipped", "reason": "too few"}, "skipped, and has numbers all the same"),
        ({"digests": {"protocol": None}}, "digests: lacks dataset, recipe, method, engine"),
        ({"recipe_values": {"network": "two-conv", "lr": 1.0, "epochs": 9}}, "recipe_values: not those"),
        ({"clusters": [["0"], ["9"]]}, "clusters, anomaly_set or anomaly: not what test2 declares"),
        ({"accuracy": 7.0}, "not a readable record"),
        ({"case": "nowhere", "digests": {}}, "holds the record of another evaluation"),
    ],
    ids=str,
)
def test_a_record_that_contradicts_itself_is_found(leaderboard, changes, problem):
    path = a_record(leaderboard)
    record = json.loads(path.read_text())
    if changes.get("digests"):
        changes = {"digests": {part: record["digests"][part] for part in changes["digests"]}}
    path.write_text(json.dumps(record | changes))
    assert f"{path}: {problem}" in check(1)


def test_what_is_not_of_the_recipe_or_the_code_of_its_name_is_found(leaderboard):
    path = sorted(leaderboard.glob("records/test2/digits/subcluster/2*.json"))[0]
    record = json.loads(path.read_text())
    values = record["recipe_values"] | {"lr": 0.5}  # epochs were changed with --set, which the record tells
    path.write_text(
        json.dumps(record | {"recipe_values": values, "digests": record["digests"] | {"recipe": digest(values)}})
    )
    assert f"{path}: recipe_values: recipe small: lr is 0.5 in the record and 0.001 here" in check(1)
    path.write_text(json.dumps(record | {"digests": record["digests"] | {"method": "0" * 16}}))
    assert f"{path}: made with other code of subcluster than " in check(1)


def test_one_training_is_not_taken_for_two_seeds(leaderboard):
    first, second = sorted(leaderboard.glob("records/test2/digits/subcluster/2*.json"))
    edit(second, *[(json.loads(path.read_text())["fit"] for path in (second, first))])
    assert re.search(r"fit [0-9a-f]+ is that of seed [01], too", check(1))


def test_line_charts_are_of_the_numbers_of_their_table(leaderboard):
    chart = leaderboard / "test2-digits-small-lines.png"
    shutil.copy(chart, leaderboard / "test3-digits-small-lines.png")
    assert "test3-digits-small-lines.png: there are no records of this figure" in check(1)
    (leaderboard / "test3-digits-small-lines.png").unlink()
    with Image.open(chart) as image:
        image.save(chart)
    assert f"{chart}: not drawn from the numbers of its records" in check(1)
    harness("leaderboard", "--results", leaderboard, "--out", leaderboard)
    assert "everything derives" in check()


def test_a_table_that_was_changed_is_found(leaderboard):
    table = leaderboard / "test2-digits-small.md"
    number = re.search(r"0\.\d{3}", table.read_text())[0]
    edit(table, (number, "0.999"))
    assert f"{table}: not the table that its records make" in check(1)


def test_scores_that_are_gone_damaged_or_of_no_record_are_found(leaderboard):
    gone, damaged, *_ = sorted((leaderboard / "scores").rglob("*.npz"))
    stray, elsewhere = gone.with_name(f"{'0' * 64}.npz"), a_record(leaderboard).with_suffix(".npz")
    for place in (stray, elsewhere):
        shutil.copy(gone, place)
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9])
    out = check(1)
    problems = ((gone, "no scores"), (damaged, "damaged scores"), (stray, "the scores of no record"))
    for file, problem in (*problems, (elsewhere, "no record")):
        assert re.search(f"{re.escape(str(file))}: {problem}", out)


def test_records_that_are_damaged_or_in_another_s_place_are_found(leaderboard):
    first, second, *_ = sorted(a_record(leaderboard).parent.glob("*.json"))
    first.write_text("{")
    first.with_name("broken.json").symlink_to("nowhere")
    shutil.copy(second, second.with_name("elsewhere.json"))
    out = check(1)
    assert f"{first}: not a readable record" in out
    assert "broken.json: not a readable record" in out
    assert "elsewhere.json: holds the record of another evaluation" in out


def test_tables_without_records_and_records_without_a_table_are_found(leaderboard):
    (leaderboard / "test3-digits-small.md").write_text("### Table 10\n")
    (leaderboard / "README.md").write_text("What this is.\n")
    (leaderboard / "test2-digits-small.md").unlink()
    out = check(1)
    assert "test3-digits-small.md: there are no records of this table" in out
    assert "test2-digits-small.md: missing" in out
    assert "README" not in out


def test_an_empty_folder_is_no_success(here):
    Path("leaderboard").mkdir()
    assert "no records; publish some with" in check(1)
    assert "no records" in harness("leaderboard", "--check", "--out", "nowhere", code=1).out


@pytest.mark.parametrize(
    "words",
    [("--protocol", "test2"), ("--method", "lof"), ("--seed", "0"), ("--set", "none"), ("--results", "."),
     ("--format", "html")],
    ids=" ".join,
)  # fmt: skip
def test_a_check_is_of_the_whole_folder(words):
    line = harness("leaderboard", "--check", *words, code=2).line
    assert line == f"harness: --check: derives all of --out again; leave out {words[0]}"


def test_scores_that_can_t_be_read_are_told_once_and_hide_nothing_silently(leaderboard):
    mine = plugin("mine", score='return {"L1": (images.float() - self.mean).abs().flatten(1).sum(1)}')
    mine.write_text(mine.read_text().replace('("L2",)', '("L1",)'))
    harness("run", *TEST2, "--method", mine, "--results", "theirs")
    harness("leaderboard", "--results", "theirs", "--out", leaderboard)
    store = Store(leaderboard)
    damaged = store.files(
        next(record for record in store.records() if record.method == "subcluster" and record.scores)
    )[1]
    damaged.write_bytes(b"")
    told = [line for line in check(1).splitlines() if damaged.name in line]
    assert len(told) == 1
    assert "its tables can't be compared until then" in check(1)
