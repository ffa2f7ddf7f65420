"""A published folder: what is added stands beside what was there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from published_folder import TEST2, check, contents, edit
from tiny import case, harness, named, plugin, write_toml

from harness.paths import protocol_files
from harness.records import Store
from harness.report.publish import publish


def test_someone_else_s_row_stands_beside_those_that_were_there(leaderboard):
    """As a pull request brings it: records made elsewhere, added to the published ones."""
    before = (leaderboard / "test2-digits-small.md").read_text()
    mine = plugin("mine", score='return {"L1": (images.float() - self.mean).abs().flatten(1).sum(1)}')
    mine.write_text(mine.read_text().replace('("L2",)', '("L1",)'))
    harness("run", *TEST2, "--method", mine, "--results", "theirs")
    harness("leaderboard", "--results", "theirs", "--out", leaderboard)
    assert "everything derives" in check()
    after = (leaderboard / "test2-digits-small.md").read_text()
    assert "mine L1" in after
    assert "mine" not in before
    row = next(line for line in before.splitlines() if line.startswith("| 1 |"))
    numbers = re.findall(r"[\d.]+ ± [\d.]+", row)
    assert numbers
    assert all(number in after for number in numbers)


def test_a_row_that_can_t_stand_there_is_refused_and_nothing_is_changed(leaderboard):
    before = contents(leaderboard)
    mine = plugin(head="# another version of the same method")
    harness("run", "--protocol", "test2", "--case", "1", "--seed", "7", "--method", mine, "--results", "theirs")
    line = harness("leaderboard", "--results", "theirs", "--out", leaderboard, code=2).line
    assert "differ in their method and can't share a column" in line
    assert before == contents(leaderboard)


def test_a_record_that_is_published_again_takes_the_place_of_the_old_one(here):
    protocol = named({"a": case(["0", "1"], "6")})
    words = ("--protocol", protocol, "--method", plugin())
    harness("run", *words)
    harness("leaderboard", "--protocol", protocol, "--out", "leaderboard")
    named({"a": case(["0", "1"], "6", "7")})
    harness("run", *words)
    harness("leaderboard", "--protocol", protocol, "--out", "leaderboard")
    assert len(list(Path("leaderboard").rglob("*.npz"))) == 1, "the old one's scores are gone with it"
    assert "everything derives" in check()


def test_records_of_the_same_scores_with_another_accuracy_or_metric_are_replaced(leaderboard):
    others = [{"accuracy": 0.5}, {"knn_accuracy": {"3": 0.5}}, {"metrics": {"L2": {"brier": 0.5}}}]
    paths = sorted(Path(shutil.copytree(leaderboard, "theirs")).rglob("mean-image/*.json"))
    for path, other in zip(paths, [*others, {"fit_seconds": 9}], strict=True):
        path.write_text(json.dumps(json.loads(path.read_text()) | other))
    said = harness("leaderboard", "--results", "theirs", "--out", leaderboard).err
    assert "3 record(s) replaced, 5 record(s) there already" in said


def run_twice(*words: str) -> Store:
    """A published folder, and `again`, where the same evaluations have other scores."""
    other = "norm(dim=1, p=1 if os.path.exists('other') else 2)"
    method = plugin(score=f"import os\n        return {{'L2': (images.float() - self.mean).flatten(1).{other}}}")
    words = ("run", "--protocol", "test2", "--method", method, *words)
    harness(*words)
    harness("leaderboard", "--out", "leaderboard")
    Path("other").touch()
    harness(*words, "--results", "again")
    return Store(Path("leaderboard"))


PUBLISH_AGAIN = ("leaderboard", "--results", "again", "--out", "leaderboard")


def test_scores_stay_while_a_record_names_them(here):
    there = run_twice("--case", "2", "--seed", "0,1,2")
    assert len({record.scores_sha256 for record in there.records()}) == 1
    assert "2 record(s) replaced" in harness(*PUBLISH_AGAIN, "--seed", "0,1").err
    first, second, last = there.records()
    assert first.scores_sha256 == second.scores_sha256 != last.scores_sha256
    assert "everything derives" in check()


def test_where_publishing_is_broken_off_it_can_be_done_again(here, monkeypatch):
    there, write = run_twice("--case", "1,2"), Store.write

    def until_the_second(store, record, *args, **more):
        if record.case == "2":
            raise KeyboardInterrupt
        return write(store, record, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", until_the_second)
        harness(*PUBLISH_AGAIN, code=130)
    assert there.unused_scores() == []
    assert "1 record(s) replaced, 1 record(s) there already" in harness(*PUBLISH_AGAIN).err
    assert "everything derives" in check()


def test_scores_that_are_gone_are_published_again(here):
    harness("run", "--protocol", "test2", "--case", "2", "--method", plugin())
    harness("leaderboard", "--out", "leaderboard")
    (path,) = Path("leaderboard/scores").rglob("*.npz")
    path.unlink()
    assert f"{path}: no scores" in check(1)
    harness("leaderboard", "--out", "leaderboard")
    assert "everything derives" in check()


def test_a_folder_that_is_published_to_itself_is_left_as_it_is_but_for_its_tables(leaderboard):
    before = contents(leaderboard, ".json", ".npz")
    (leaderboard / "test2-digits-small.md").unlink()
    stale = [record.model_copy(update={"accuracy": 0.5}) for record in Store(leaderboard).records()]
    assert publish(stale, Store(leaderboard), leaderboard, "md")["replaced"] == 0
    assert before == contents(leaderboard, ".json", ".npz")
    assert "everything derives" in check()


def test_a_folder_carries_the_protocols_that_are_not_bundled(here):
    protocol = named({"a": case(["0", "1"], "6")})
    harness("run", "--protocol", protocol, "--method", plugin())
    harness("run", "--protocol", "test2", "--case", "1", "--method", plugin())
    harness("leaderboard", "--protocol", f"{protocol},test2", "--out", "leaderboard")
    assert [path.name for path in Path("leaderboard/protocols").iterdir()] == ["mine.toml"]
    protocol.unlink()
    assert "everything derives" in check()
    # So does the folder of results: its tables need no file of the user's.
    assert Path("results/protocols/mine.toml").exists()
    assert "A title" in harness("leaderboard", "--format", "md").out
    assert "A title" in harness("leaderboard", "--results", "leaderboard", "--format", "md").out
    assert (
        "prints no number for the methods on record of mine"
        in harness("compare", "--protocol", "mine", "--results", "leaderboard", code=2).err
    )
    harness("leaderboard", "--results", "leaderboard", "--out", "another")
    assert Path("another/protocols/mine.toml").read_text() == Path("leaderboard/protocols/mine.toml").read_text()
    edit(Path("leaderboard/protocols/mine.toml"), ('"6"', '"7"'))
    assert "made under another version of mine" in check(1)
    line = harness("leaderboard", "--protocol", "mine", "--results", "leaderboard", code=2).line
    assert "give its file with --protocol" in line
    edit(Path("leaderboard/protocols/mine.toml"), ('"mine"', '"yours"'))
    assert "mine.toml: name: 'yours' is not the protocol that belongs there" in check(1)


def test_a_folder_can_t_declare_a_bundled_protocol_otherwise(leaderboard):
    """Else a pull request could bring an easier test 2 with it."""
    bundled = protocol_files()["test2"].read_text(encoding="utf-8")
    Path("easier.toml").write_text(bundled.replace('["5", "6", "7", "8", "9"]', '["5"]'), encoding="utf-8")
    assert '["5"]' in Path("easier.toml").read_text()
    harness("run", "--protocol", "easier.toml", "--case", "1", "--method", plugin(), "--results", "theirs")
    line = harness("leaderboard", "--results", "theirs", "--protocol", "easier.toml", "--out", leaderboard, code=2).line
    assert "made under another version of test2" in line
    harness("leaderboard", "--results", "theirs", "--protocol", "easier.toml", "--out", "apart")
    assert not Path("apart/protocols").exists()
    (leaderboard / "protocols").mkdir()
    shutil.copy("easier.toml", leaderboard / "protocols" / "test2.toml")
    assert "test2.toml: the protocol of no record, or of a bundled one's name" in check(1)


def test_the_page_and_the_tables_that_are_there_stay_alike(leaderboard):
    mine = plugin("mine", summary="Another one.")
    harness("run", *TEST2, "--method", mine, "--results", "theirs")
    words = ("leaderboard", "--results", "theirs", "--out", leaderboard, "--format", "html")
    assert "4 record(s) added" in harness(*words).err
    assert "mine L2" in (leaderboard / "test2-digits-small.md").read_text()
    assert "everything derives" in check()


def test_scores_are_published_as_ranks_that_every_number_derives_from(here, monkeypatch):
    monkeypatch.setattr("harness.ranks.MANY", 300)  # digits has too few images for it to pay
    harness("run", *TEST2, "--method", plugin())
    assert "4 record(s) added" in harness("leaderboard", "--out", "leaderboard").err
    ours, theirs = Store(Path("results")), Store(Path("leaderboard"))
    for record, published in zip(ours.records(), theirs.records(), strict=True):
        assert published.scores == record.scores
        ranks = np.load(theirs.files(published)[1])
        assert ranks["rank0.L2"].dtype == np.uint8
        for part in ("normal.L2", "anomaly.L2"):
            exact, near = ours.scores(record)[part], theirs.scores(published)[part]
            assert (np.argsort(near, kind="stable") == np.argsort(exact, kind="stable")).all()
    assert "everything derives" in check()
    assert "4 record(s) there already" in harness("leaderboard", "--out", "leaderboard").err
    again = harness("leaderboard", "--results", "leaderboard", "--out", "leaderboard")
    assert "4 record(s) there already" in again.err
    exact = contents(Path("results"), ".npz")
    assert "4 record(s) there already" in harness("leaderboard", "--out", "results").err
    assert exact == contents(Path("results"), ".npz"), "results are not published over"
    tampered = next(Path("leaderboard").rglob("*.npz"))
    tampered.write_bytes(next(Path("results").rglob("*.npz")).read_bytes())
    assert "damaged scores" in harness("leaderboard", "--check", "--out", "leaderboard", code=1).out


def test_what_is_there_already_is_left_as_it_is(leaderboard):
    before = contents(leaderboard, ".json", ".npz", ".md")
    harness("run", *TEST2, "--method", plugin(), "--results", "again")
    assert "4 record(s) there already" in harness("leaderboard", "--results", "again", "--out", leaderboard).err
    assert before == contents(leaderboard, ".json", ".npz", ".md")


def test_a_failure_takes_the_place_of_no_number(leaderboard):
    before = contents(leaderboard, ".json", ".npz", ".md")
    harness("run", *TEST2, "--method", plugin(), "--results", "again")
    for path in Path("again").rglob("records/**/*.s1.*.json"):
        failed = {"status": "failed", "reason": "the disk is full", "scores": {}, "scores_sha256": ""}
        record = json.loads(path.read_text()) | failed
        record["digests"]["score Energy"] = "0" * 16  # which was asked for as well
        path.write_text(json.dumps(record))
    said = harness("leaderboard", "--results", "again", "--out", leaderboard).err
    assert "2 record(s) there already, 2 record(s) left out, which failed where the folder has a number" in said
    assert before == contents(leaderboard, ".json", ".npz", ".md")


def test_another_reason_of_a_failure_is_published(here):
    protocol = named({"a": case(["0"], "6")})
    for reason in ("no memory", "no disk"):
        harness("run", "--protocol", protocol, "--method", plugin(fit=f"raise OSError('{reason}')"), code=1)
        harness("leaderboard", "--protocol", protocol, "--out", "leaderboard")
    (path,) = Path("leaderboard").rglob("records/**/*.json")
    assert "no disk" in json.loads(path.read_text())["reason"]


def test_what_is_published_can_be_derived_again_from_what_is_published(here):
    harness("run", "--protocol", "test2", "--method", f"{plugin()},subcluster", "--case", "1,2", "--seed", "0,1",
            "--set", "subcluster.epochs=1")  # fmt: skip
    (path,) = (line for line in harness("leaderboard", "--out", "published").out.splitlines() if line.endswith(".md"))
    published = Path(path).read_text(encoding="utf-8")
    assert published == harness("leaderboard").out
    assert harness("leaderboard", "--results", "published").out == published
    assert (
        harness("results", "--results", "published", "--format", "json").out
        == harness("results", "--format", "json").out
    )
    for record in Store(Path("published")).records():
        if record.status == "ok":
            assert set(Store(Path("published")).scores(record)) >= {f"normal.{name}" for name in record.scores}
    assert not list(Path("published").rglob("*.safetensors"))


def test_tables_whose_names_come_to_the_same_are_two(here):
    recipe = write_toml("digits-small.toml", {"network": "two-conv", "lr": 0.1, "epochs": 1, "batch": 64})
    for name, more in (("p-digits", ()), ("p", ("--recipe", recipe))):
        harness("run", "--protocol", named({"a": case(["0"], "6")}, name=name), "--method", plugin(), *more)
    protocols = ("--protocol", "p.toml,p-digits.toml")
    told = harness("leaderboard", *protocols, "--out", "leaderboard").out.splitlines()
    tables = [line for line in told if line.endswith(".md")]
    assert len(set(tables)) == 2
    assert all(re.fullmatch(r"leaderboard/p-digits-digits-small-[0-9a-f]{6}\.md", line) for line in tables)
    assert "everything derives" in check()


def test_names_that_would_leave_the_folder_of_tables_are_refused(here):
    protocol = named({"a": case(["0"], "6")}, name="x")
    protocol.write_text(protocol.read_text().replace('"x"', '"../../up"', 1))
    assert "name" in harness("run", "--protocol", protocol, "--method", plugin(), code=2).line


def test_publishing_writes_into_its_folder_only(here):
    protocol = named({"../up": case(["0"], "6")}, name="x")
    harness("run", "--protocol", protocol, "--method", plugin())
    before = {path for path in Path().rglob("*") if path.is_file()}
    harness("leaderboard", "--protocol", protocol, "--out", "deep/er/out")
    made = {path for path in Path().rglob("*") if path.is_file()} - before
    assert made
    assert all(path.is_relative_to("deep/er/out") for path in made)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_place_that_can_t_be_written_to_is_refused(here, out):
    harness("run", "--protocol", "test2", "--method", plugin(), "--case", "1")
    Path("file").touch()
    line = harness("leaderboard", "--out", out, code=2).line
    assert "--out" in line
    assert out in line
