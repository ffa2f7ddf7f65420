"""The results store: what a record holds, that it is never half written, and what happens to damaged ones."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from pathlib import Path

import made_up
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny import case, fits, harness, named, plugin, spy

from harness import HarnessError
from harness.errors import Unwritable
from harness.metrics import measure
from harness.records import Record, Store
from harness.report.results import results_text

COLUMNS = (
    "protocol,dataset,case,anomaly_set,method,score,seed,status,auroc,auroc_low,auroc_high,aupr,fpr95,n_normal,"
    "n_anomaly,fit_seconds,score_seconds,recipe,reason,settings,fit"
)
RUN = ("run", "--protocol", "test2", "--case", "2")


def rows(*words) -> list[dict[str, str]]:
    return list(csv.DictReader(harness("results", "--format", "csv", *words).out.splitlines()))


def files(folder: str | Path = "results") -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def record_files() -> list[Path]:
    return [path for path in files("results/records") if path.suffix == ".json"]


def scores_file(store: Store, record: Record) -> Path:
    (path,) = (path for path in store.files(record) if path.suffix == ".npz")
    return path


# --- what is in a record ---------------------------------------------------------------------------------------------


def test_the_columns_of_the_results_are_fixed(here):
    bad = plugin("bad", fit="raise RuntimeError('a, b\\n\"c\"')")
    harness(
        "run",
        "--protocol",
        "test2",
        "--case",
        "1,2",
        "--method",
        f"{plugin()},{bad},subcluster",
        "--set",
        "subcluster.epochs=1",
        code=1,
    )
    text = harness("results", "--format", "csv").out
    assert text.splitlines()[0] == COLUMNS
    found = {(row["method"], row["case"], row["score"]): row for row in rows()}
    assert set(found) == {
        *(("mean-image", k, "L2") for k in "12"),
        *(("bad", k, "") for k in "12"),
        ("subcluster", "1", ""),
        *(("subcluster", "2", score) for score in ("MAX", "ODIN")),
    }
    ok, failed, skipped = found["mean-image", "1", "L2"], found["bad", "1", ""], found["subcluster", "1", ""]
    assert (ok["status"], ok["reason"], ok["recipe"], ok["seed"]) == ("ok", "", "small", "0")
    assert (ok["protocol"], ok["dataset"], ok["anomaly_set"]) == ("test2", "digits", "anomaly")
    assert int(ok["n_normal"]) + int(ok["n_anomaly"]) > 300
    assert 0 <= float(ok["auroc_low"]) <= float(ok["auroc"]) <= float(ok["auroc_high"]) <= 1
    assert (failed["status"], failed["reason"]) == ("failed", 'RuntimeError: a, b "c" (bad.py, line 14)')
    assert (skipped["status"], skipped["reason"]) == ("skipped", "needs at least two sub-clusters")
    for row in (failed, skipped):
        assert row["auroc"] == row["auroc_low"] == row["aupr"] == row["fpr95"] == ""
    # The other forms have the same content.
    for one, other in zip(json.loads(harness("results", "--format", "json").out), rows(), strict=True):
        assert {key: "" if value is None else str(value) for key, value in one.items()} == other
    assert len(harness("results").out.splitlines()) == 2 + len(rows())


def test_a_metric_with_the_name_of_a_column_takes_a_column_of_its_own():
    record = made_up.record("test2", "mnist", "2", "ssl", {"KL": made_up.metrics(0.7)}, seed=3)
    record = record.model_copy(update={"metrics": {"KL": {"seed": 0.5, "fpr80": 0.25}}})
    (row,) = csv.DictReader(io.StringIO(results_text([record], "csv")))
    assert (row["seed"], row["metric seed"], row["fpr80"]) == ("3", "0.5", "0.25")


def test_results_are_filtered(here):
    harness("run", "--protocol", "test2", "--case", "1,2", "--seed", "0,1", "--method", plugin())
    assert len(rows()) == 4
    assert {row["case"] for row in rows("--case", "2", "--seed", "1")} == {"2"}
    assert [row["seed"] for row in rows("--case", "2", "--seed", "1")] == ["1"]
    for option in ("--protocol", "--dataset", "--method", "--recipe", "--case"):
        assert rows(option, "something-else") == []
        assert f"{option} something-else: no record has it" in harness("results", option, "something-else").err
    assert "did you mean 'test2'?" in harness("leaderboard", "--protocol", "tset2", code=2).line


def test_the_metrics_follow_from_the_kept_scores(here):
    harness(
        "run",
        "--protocol",
        "test2",
        "--case",
        "2",
        "--method",
        f"{plugin()},subcluster",
        "--recipe",
        "fast",
        "--set",
        "recipe.epochs=2",
    )
    store = Store(Path("results"))
    made = list(store.records())
    assert sum(len(record.scores) for record in made) == 3
    for record in made:
        path = scores_file(store, record)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record.scores_sha256
        with np.load(path, allow_pickle=False) as file:
            kept = dict(file)
        assert set(kept) == {f"{part}.{name}" for part in ("normal", "anomaly") for name in record.scores}
        for name, metrics in record.scores.items():
            normal, anomaly = kept[f"normal.{name}"], kept[f"anomaly.{name}"]
            assert (len(normal), len(anomaly)) == (record.n_normal, record.n_anomaly)
            truth = np.repeat([0, 1], [len(normal), len(anomaly)])
            assert metrics.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomaly])), abs=1e-12)
            aupr = average_precision_score(truth, np.concatenate([normal, anomaly]))
            assert metrics.aupr == pytest.approx(aupr, abs=1e-12)
            assert measure(normal, anomaly) == metrics


def test_a_record_explains_itself(here):
    harness(*RUN, "--method", plugin(uses_labels=True), "--seed", "3")
    (path,) = record_files()
    record = json.loads(path.read_text())
    assert (record["clusters"], record["labels"], record["anomaly"]) == ([["0"], ["1"]], True, list("56789"))
    assert record["seed"] == 3
    assert set(record["digests"]) >= {"protocol", "dataset", "recipe", "method"}
    assert {"commit", "dirty", "python", "processor", "packages", "finished", "harness"} <= set(record["provenance"])
    assert {"torch", "numpy", "scikit-learn"} <= set(record["provenance"]["packages"])
    assert record["numerics"]["device"] == "cpu"
    assert record["fit_seconds"] >= 0


def test_a_record_says_what_its_fit_was_trained_with_where_that_is_another_commit_or_machine(here):
    mine = plugin()
    harness(*RUN, "--method", mine)
    (path,) = record_files()
    assert "fit_provenance" not in json.loads(path.read_text())
    (fit,) = Path("results/fits").glob("*.json")
    kept = json.loads(fit.read_text())
    (made,) = kept["provenance"]
    own = made | {"commit": "a" * 40, "dirty": False, "processor": "another"}
    other = ("run", "--protocol", named({"a": case(["0", "1"], "9")}), "--method", mine)
    for told, commits, processors in [
        (None, [made["commit"]], [made["processor"]]),  # as fits were kept before they told
        ([made], [made["commit"]], [made["processor"]]),
        ([own], ["a" * 40, made["commit"]], ["another", made["processor"]]),
        ([own, made], ["a" * 40, made["commit"]], ["another", made["processor"]]),
    ]:
        fit.write_text(
            json.dumps({key: value for key, value in (kept | {"provenance": told}).items() if value is not None})
        )
        out = harness(*other).out
        (record,) = (one for one in Store(Path("results")).records() if one.protocol == "mine")
        assert list(record.fit_provenance) == (told if told and own in told else [])
        (note,) = (line for line in out.splitlines() if " of training and " in line)
        assert re.findall(r"\b[0-9a-f]{40}\b", note) == [commit for commit in commits if commit]
        assert f" on {', '.join(processors)}; " in note
        harness("forget", "--protocol", "mine", "--yes")


# --- never half a record ---------------------------------------------------------------------------------------------


def sample(store: Store, auroc: float) -> tuple[Record, dict[str, np.ndarray]]:
    """A record of the store that is not kept yet, with scores of its own."""
    record = next(store.records())
    rng = np.random.default_rng(int(auroc * 100))
    scores = {"normal.L2": rng.normal(size=record.n_normal), "anomaly.L2": rng.normal(size=record.n_anomaly)}
    metrics = {"L2": record.scores["L2"].model_copy(update={"auroc": auroc})}
    return record.model_copy(update={"scores": metrics}), scores


def whole(store: Store, key) -> float | None:
    """The AUROC on record, seen to be with the scores that it was recorded with; None if there is no record."""
    record = store.find(key)
    if record is None:
        return None
    path = scores_file(store, record)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.scores_sha256, "scores of another record"
    return record.scores["L2"].auroc


@pytest.mark.parametrize("fails", ["replace", "fsync"])
@pytest.mark.parametrize("at", range(5))
def test_a_crash_leaves_the_record_of_before_or_the_new_one(here, monkeypatch, fails, at):
    harness(*RUN, "--method", plugin())
    store = Store(Path("results"))
    first, scores = sample(store, 0.25)
    key = store.write(first, scores).key
    assert whole(store, key) == 0.25

    real, calls = getattr(os, fails), []

    def crash(*args, **kwargs):
        calls.append(args)
        if len(calls) > at:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    second, scores = sample(store, 0.75)
    with monkeypatch.context() as patched:
        patched.setattr(os, fails, crash)
        try:
            store.write(second, scores)
            finished = True
        except Unwritable:
            finished = False
    assert whole(Store(Path("results")), key) == (0.75 if finished else 0.25)
    assert not [path for path in files() if path.suffix == ".part"]
    # And it can be tried again, with nothing lost.
    store.write(second, scores)
    assert whole(store, key) == 0.75
    kept = [
        json.loads(path.read_text())["scores"]["L2"]["auroc"]
        for path in files("results/superseded")
        if path.suffix == ".json"
    ]
    assert 0.25 in kept


def test_a_record_that_is_replaced_is_kept_with_its_scores(here):
    words = (*RUN, "--method", plugin())
    harness(*words)
    (before,) = (path.read_bytes() for path in record_files())
    plugin(score='return {"L2": -images.float().flatten(1).mean(1)}')
    harness(*words)
    (after,) = (path.read_bytes() for path in record_files())
    assert [path.read_bytes() for path in files("results/superseded")] == [before]
    assert len(rows()) == 1
    # A failure does not make the number of before disappear either.
    plugin(fit="raise RuntimeError")
    harness(*words, code=1)
    superseded = [path.read_bytes() for path in files("results/superseded")]
    assert sorted(superseded) == sorted([before, after])
    assert [row["status"] for row in rows()] == ["failed"]
    assert len(record_files()) == 1
    kept = [Store(Path("results")).scores(Record.model_validate_json(content)) for content in superseded]
    assert (kept[0]["normal.L2"] != kept[1]["normal.L2"]).any()
    assert len(files("results/scores")) == 2


def test_what_scores_alike_shares_a_file_which_stays_while_it_is_named(here):
    method = plugin()  # draws nothing, so that every seed scores alike
    harness(*RUN, "--method", method, "--seed", "0,1,2")
    store = Store(Path("results"))
    assert len(record_files()) == 3
    (scores,) = files("results/scores")
    assert scores.stem == hashlib.sha256(scores.read_bytes()).hexdigest()
    harness("forget", "--seed", "1", "--yes")
    assert [store.scores(record).keys() for record in store.records()] == [{"normal.L2", "anomaly.L2"}] * 2
    assert store.unused_scores() == []
    harness("forget", "--method", "mean-image", "--yes")
    assert store.unused_scores() == [], "those that were put away name it"
    for path in files("results/superseded"):
        path.unlink()
    assert store.unused_scores() == [scores]


def test_equal_scores_are_equal_bytes(here):
    harness(*RUN, "--method", plugin())
    store = Store(Path("results"))
    record, scores = sample(store, 0.5)
    written = {store.write(record, scores).scores_sha256 for _ in range(2)}
    assert len(written) == 1


def test_a_command_that_is_interrupted_keeps_what_is_finished(here):
    interrupted = spy("slow", body="def build(self, task, run):\n        if run.seed == 1: raise KeyboardInterrupt\n")
    harness(*RUN, "--method", interrupted, "--seed", "0,1,2", code=130)
    assert [row["seed"] for row in rows()] == ["0"]
    assert harness("plan", *RUN[1:], "--method", interrupted, "--seed", "0,1,2").statuses == [
        "done",
        "to run",
        "to run",
    ]


def test_records_behind_a_link_are_on_record_for_plans_and_tables_alike(here):
    harness(*RUN, "--method", plugin())
    disk = Path("results/records/test2").rename("another-disk")
    Path("results/records/test2").symlink_to(disk.absolute())
    (disk / "round").symlink_to(disk.absolute())  # a link may lead to where it is
    assert harness("plan", *RUN[1:], "--method", "./mean-image.py").statuses == ["done"]
    assert [row["status"] for row in rows()] == ["ok"]
    assert Store(Path("results")).unused_scores() == []


def test_hidden_files_are_no_records(here):
    """As macOS writes one beside each file on a disk that is not its own."""
    harness(*RUN, "--method", plugin())
    for path in files():
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    (found,) = Store(Path("results")).latest("digits", "mean-image", 1)
    assert [row["status"] for row in rows()] == [found.status] == ["ok"]
    harness("leaderboard", "--out", "results")
    for path in Path("results").glob("*.md"):
        path.with_name(f"._{path.name}").touch()
    assert "everything derives from its records" in harness("leaderboard", "--check", "--out", "results").out


# --- damaged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[1, 2]", b"\xff\x00\x01", b'{"schema_version": 99}', None],
    ids=["empty", "no keys", "null", "list", "bytes", "future", "half"],
)
@pytest.mark.parametrize("command", ["results", "leaderboard"])
def test_a_damaged_record_is_named_in_one_line(here, content, command):
    harness("run", "--protocol", "test2", "--case", "1,2", "--method", plugin())
    damaged = record_files()[0]
    damaged.write_bytes(damaged.read_bytes()[:200] if content is None else content)
    line = harness(command, code=2).line
    assert str(damaged) in line
    assert "move it away and run again" in line
    damaged.unlink()
    harness("run", "--protocol", "test2", "--case", "1,2", "--method", plugin())
    assert len(rows()) == 2


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_damaged_scores_are_named_in_one_line(here, keep):
    harness(*RUN, "--method", plugin())
    store = Store(Path("results"))
    record = next(store.records())
    path = scores_file(store, record)
    content = path.read_bytes()
    path.write_bytes(content[:keep] if keep >= 0 else content[:100] + bytes(8) + content[108:])
    with pytest.raises(HarnessError, match=r"\.npz"):
        store.scores(record)
    path.unlink()
    with pytest.raises(HarnessError, match=r"\.npz"):
        store.scores(record)


@pytest.mark.parametrize("keep", [None, 0, 40])
def test_a_fit_whose_weights_are_gone_is_trained_again(here, keep):
    method = spy()
    harness(*RUN, "--method", method)
    (weights,) = Path("results/fits").glob("*.safetensors")
    if keep is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:keep])
    harness("run", "--protocol", named({"a": case(["0", "1"], "9")}), "--method", method)
    assert len(fits(method)) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_fit_whose_description_is_damaged_is_trained_again(here, content):
    method = spy()
    harness(*RUN, "--method", method)
    (description,) = Path("results/fits").glob("*.json")
    description.write_bytes(content)
    harness("run", "--protocol", named({"a": case(["0", "1"], "9")}), "--method", method)
    assert len(fits(method)) == 2


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.sampled_from(["..", ".", "a/../..", "a b"])


@settings(max_examples=60)
@given(st.lists(st.tuples(NAMES, NAMES, NAMES, st.integers(0, 9)), min_size=1, max_size=4, unique=True))
def test_no_name_leaves_the_folder_or_takes_another_s_place(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("store")
    store = Store(root / "results")
    made = [
        Record(
            protocol=protocol,
            dataset="d",
            case=case,
            anomaly_set=anomaly,
            method="m",
            seed=seed,
            recipe="r",
            status="skipped",
            reason=f"number {i}",
        )
        for i, (protocol, case, anomaly, seed) in enumerate(names)
    ]
    for record in made:
        store.write(record)
    assert [store.find(record.key) for record in made] == made
    assert sorted(record.reason for record in store.records()) == sorted(record.reason for record in made)
    assert [path.name for path in root.iterdir()] == ["results"]
