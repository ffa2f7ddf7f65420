"""What a newcomer does first: test 2 on digits with three methods, from the command line to the table."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny import harness

from harness.records import Store

METHODS = ("subcluster", "rotnet", "ssl")
WORDS = ("--protocol", "test2", "--method", ",".join(METHODS), "--recipe", "fast")


@pytest.fixture(scope="module")
def first(run_here):
    """The first run in an empty folder, and the folder."""
    with run_here("end") as folder:
        return harness("run", *WORDS), folder


@pytest.fixture
def place(first, monkeypatch):
    monkeypatch.chdir(first[1])


@pytest.fixture
def aurocs(place) -> dict[tuple[str, str, str], float]:
    """AUROC by method, score and case."""
    rows = csv.DictReader(harness("results", "--format", "csv").out.splitlines())
    return {(row["method"], row["score"], row["case"]): float(row["auroc"]) for row in rows if row["status"] == "ok"}


def mean(aurocs: dict, method: str, score: str, cases: str = "12345") -> float:
    return statistics.fmean(aurocs[method, score, case] for case in cases)


def test_every_evaluation_is_on_record(aurocs):
    expected = {("subcluster", score, k) for score in ("MAX", "ODIN") for k in "2345"}
    expected |= {("rotnet", score, k) for score in ("MAX", "ODIN") for k in "12345"}
    expected |= {("ssl", score, k) for score in ("KL", "TrueProb") for k in "12345"}
    assert set(aurocs) == expected


def test_the_table_has_the_paper_s_layout(first):
    lines = first[0].out.splitlines()
    assert (
        lines[0] == "### Table 8, digits, recipe fast: Test 2: normal of multiple classes, anomaly of multiple classes"
    )
    head, rule, *rows = (line.strip("| ").split(" | ") for line in lines if line.startswith("|"))
    assert head[:6] == ["number", "SSL KL", "RotNet MAX", "RotNet ODIN", "Proposed MAX", "Proposed ODIN"]
    assert rule[1] == "---:"
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0][4:6] == ["–", "–"]
    assert all(0 <= float(cell.strip("*")) <= 1 for row in rows for cell in row[1:] if cell != "–")
    assert sum(cell == "–" for row in rows for cell in row) == 2
    assert "needs at least two sub-clusters" in first[0].out


def test_the_methods_find_anomalies(aurocs):
    """Far below what any seed gives (see the numbers), and far above what a broken method does: chance is 0.5."""
    assert mean(aurocs, "subcluster", "MAX", "2345") > 0.8  # 0.91 to 0.94
    assert mean(aurocs, "subcluster", "ODIN", "2345") > 0.8  # 0.91 to 0.95
    assert aurocs["ssl", "TrueProb", "1"] > 0.85  # 0.99
    assert mean(aurocs, "ssl", "TrueProb") > 0.65  # 0.80 to 0.82
    assert aurocs["rotnet", "ODIN", "1"] > 0.8  # 0.98
    assert mean(aurocs, "rotnet", "ODIN") > 0.7  # 0.84 to 0.86


def test_more_normal_classes_are_harder_without_labels_than_with(aurocs):
    """The paper's claim, in the one form of it that holds on any machine."""
    assert aurocs["subcluster", "MAX", "5"] > aurocs["ssl", "KL", "5"]
    assert aurocs["subcluster", "MAX", "5"] > aurocs["rotnet", "MAX", "5"]
    assert aurocs["ssl", "TrueProb", "1"] > aurocs["ssl", "TrueProb", "5"]


def test_subcluster_tells_its_clusters_apart(place):
    records = [record for record in Store(Path("results")).records() if record.method == "subcluster"]
    assert [record.accuracy is None for record in records] == [True, False, False, False, False]
    assert all(record.accuracy > 0.9 for record in records[1:])
    assert all(record.diagnostics["train_accuracy"] > 0.9 for record in records[1:])


def test_the_numbers_follow_from_the_kept_scores(place):
    store = Store(Path("results"))
    for record in store.records():
        if record.status != "ok":
            continue
        scores = store.scores(record)
        for name, metrics in record.scores.items():
            normal, anomaly = scores[f"normal.{name}"], scores[f"anomaly.{name}"]
            truth = np.repeat([0, 1], [len(normal), len(anomaly)])
            assert metrics.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomaly])), abs=1e-12)


def test_no_score_ties_much(place):
    store = Store(Path("results"))
    for record in store.records():
        for name in record.scores:
            scores = store.scores(record)
            both = np.concatenate([scores[f"normal.{name}"], scores[f"anomaly.{name}"]])
            assert len(np.unique(both)) > 0.98 * len(both)


def test_a_second_run_trains_nothing_and_says_so(first, place):
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}
    again = harness("run", *WORDS)
    assert "15 evaluations (14 done, 1 skipped); nothing to train" in again.err
    assert again.out == first[0].out
    assert {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")} == before


def test_plan_leaderboard_and_run_agree(first, place):
    plan = harness("plan", *WORDS)
    assert plan.statuses.count("done") == 14
    assert [status for status in plan.statuses if status != "done"] == ["skipped: needs at least two sub-clusters"]
    assert harness("leaderboard").out == first[0].out
    # Every row of the plan has a fit of its own, but for the one that is skipped.
    assert len({row["fit"] for row in plan.plan}) == 15


def test_progress_is_told_fit_by_fit(first):
    err = first[0].err
    assert err.startswith("15 evaluations (14 to run, 1 skipped); 14 fit(s) to train or load\n")
    assert "[1/14] training subcluster on digits 0,1, seed 0" in err
    assert "[14/14] training ssl on digits 0,1,2,3,4, seed 0" in err
    assert "Traceback" not in err
