"""Our numbers beside printed ones: by hand, and against scipy's intervals."""

from __future__ import annotations

import csv
import io
import math
import statistics

import pytest
from made_up import metrics, record
from scipy import stats

from harness import HarnessError
from harness.metrics import reach
from harness.report.compare import (
    COLUMNS,
    MORE,
    WITHIN,
    Compared,
    Estimate,
    compare_rows,
    comparisons,
    estimate,
    wilson,
)
from harness.report.leaderboard import leaderboards
from harness.report.names import Variant
from harness.report.published import Published, read_published
from harness.report.table import render


def printed(value, case="2", method="subcluster", score="MAX", **more):
    values = {"protocol": "test2", "dataset": "mnist", "anomaly_set": "anomaly", "table": "Table 8 (a)"}
    values |= {"half_unit": 0.005, "printed_as": "-" if value is None else str(value)} | more
    return Published(case=case, method=method, score=score, value=value, **values)


def by_cell(rows):
    return {(row.printed.case, row.printed.anomaly_set, str(row.variant), row.score): row for row in rows}


def column(table, name):
    """A column of a rendered table."""
    return [row[name] for row in csv.DictReader(io.StringIO(render(table, "csv")))]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.90, 0.97, WITHIN),
        (0.90, 0.944, MORE),
        (0.90, 0.946, WITHIN),  # 0.946 rounds to the printed 0.95
        (0.956, 0.99, MORE),
        (0.954, 0.99, WITHIN),
    ],
)
def test_the_verdict_grants_the_printed_number_its_rounding(low, high, verdict):
    ours = Estimate((low + high) / 2, low, high, seeds=1)
    row = Compared(printed(0.95), Variant("subcluster"), "MAX", ours, "")
    assert row.verdict == verdict
    assert row.difference == pytest.approx((low + high) / 2 - 0.95)


def test_ours_is_the_mean_over_seeds_with_the_interval_of_images_and_seeds():
    aurocs, half = [0.90, 0.93, 0.96], 0.02
    records = [
        record("test2", "mnist", "2", "subcluster", {"MAX": metrics(a, half)}, seed=seed)
        for seed, a in enumerate(aurocs)
    ]
    (row,) = compare_rows(records, [printed(0.97)])
    images, seeds = (half / stats.norm.ppf(0.975)) ** 2, statistics.variance(aurocs) / 3
    degrees = (images + seeds) ** 2 / (seeds**2 / 2)  # Satterthwaite: the images' variance is known
    reach = stats.t.ppf(0.975, degrees) * math.sqrt(images + seeds)
    assert row.ours.value == pytest.approx(0.93)
    assert row.ours.low == pytest.approx(0.93 - reach)
    assert row.ours.high == pytest.approx(min(0.93 + reach, 1))
    assert row.ours.seeds == 3
    assert row.difference == pytest.approx(-0.04)


def test_why_there_is_no_number_is_said_and_nothing_is_judged():
    records = [
        record("test2", "mnist", "1", "subcluster"),
        record("test2", "mnist", "3", "subcluster", {"MAX": metrics(0.9)}, seed=0),
        record("test2", "mnist", "3", "subcluster", status="failed", seed=1),
    ]
    numbers = [printed(None, "1"), printed(0.9, "3"), printed(0.8, "4")]
    rows = compare_rows(records, numbers)
    assert [row.text for row in rows] == ["–", "1 of 2 failed", "not run"]
    assert {(row.ours, row.difference, row.verdict) for row in rows} == {(None, None, "")}


def test_only_methods_on_record_are_compared_and_only_on_their_data():
    records = [record("test2", "mnist", "2", "subcluster", {"MAX": metrics(0.9)})]
    numbers = [
        printed(0.9),
        printed(0.9, method="ssl"),
        printed(0.9, dataset="cifar10"),
        printed(0.9, protocol="test3"),
    ]
    assert [row.printed for row in compare_rows(records, numbers)] == numbers[:1]


def test_a_number_without_a_score_is_compared_with_every_score():
    numbers = [printed(0.9, "0", method="kde", score="-", protocol="test1")]
    scores = {"LogDensity": metrics(0.8), "Other": metrics(0.7)}
    records = [record("test1", "mnist", "0", "kde", scores)]
    assert {row.score: row.ours.value for row in compare_rows(records, numbers)} == {"LogDensity": 0.8, "Other": 0.7}


def test_each_variant_of_a_method_has_its_own_row():
    scores = {"MAX": metrics(0.9)}
    changed = record("test2", "mnist", "2", "subcluster", scores, settings={"subcluster": {"epsilon": 0}})
    rows = compare_rows([record("test2", "mnist", "2", "subcluster", scores), changed], [printed(0.9)])
    assert [str(row.variant) for row in rows] == ["subcluster", "subcluster (epsilon=0)"]


def test_an_average_adds_half_widths_of_cases_that_share_images_and_squares_of_others():
    # Fish shares no class with the two others, which share wolf and the great cats.
    cases = {"fish": (0.70, 0.03), "carnivores": (0.60, 0.02), "cat_family": (0.80, 0.04)}
    records = [record("test5", "cifar100", case, "isif", {"Cosine": metrics(*one)}) for case, one in cases.items()]
    same = {"method": "isif", "score": "Cosine", "protocol": "test5", "dataset": "cifar100", "table": "Table 14"}
    numbers = [printed(0.5, case, **same) for case in (*cases, "average")]
    average = compare_rows(records, numbers)[-1]
    reach = math.hypot(0.03, 0.02 + 0.04) / 3
    assert average.ours.value == pytest.approx(0.70)
    assert (average.ours.low, average.ours.high) == pytest.approx((0.70 - reach, 0.70 + reach))
    assert average.text == "0.700"

    assert compare_rows(records, numbers, ["average"]) == [average]

    del records[0]
    average = compare_rows(records, numbers)[-1]
    assert (average.ours, average.text, average.verdict) == (None, "incomplete", "")


@pytest.mark.parametrize("shifts", [(0.0, 0.0), (0.02, -0.02), (0.02, 0.02)])
def test_an_average_takes_what_the_seeds_do_from_the_average_of_each(shifts):
    """Else seeds that err in opposite ways in two cases would count as if they erred alike."""
    half, cases = 0.02, [str(digit) for digit in range(10)]
    records = [
        record("test1", "mnist", case, "ssl", {"KL": metrics(0.8 + shifts[place % 2] * turn, half)}, seed=seed)
        for place, case in enumerate(cases)
        for seed, turn in enumerate((-1, 0, 1))
    ]
    same = {"method": "ssl", "score": "KL", "protocol": "test1", "table": "Table 3"}
    average = compare_rows(records, [printed(0.5, case, **same) for case in (*cases, "average")])[-1]
    images, seeds = (half / stats.norm.ppf(0.975)) ** 2, statistics.variance([-sum(shifts) / 2, 0, sum(shifts) / 2]) / 3
    degrees = (images + seeds) ** 2 / (seeds**2 / 2) if seeds else math.inf
    reach = stats.t.ppf(0.975, degrees) * math.sqrt(images + seeds)
    assert (average.ours.low, average.ours.high) == pytest.approx((0.8 - reach, 0.8 + reach))


def test_seeds_that_no_two_cases_share_are_noise_of_each():
    cases = ["0", "1"]
    records = [
        record("test1", "mnist", case, "ssl", {"KL": metrics(value, 0.01)}, seed=2 * place + seed)
        for place, case in enumerate(cases)
        for seed, value in enumerate((0.7, 0.8))
    ]
    same = {"method": "ssl", "score": "KL", "protocol": "test1", "table": "Table 3"}
    average = compare_rows(records, [printed(0.5, case, **same) for case in (*cases, "average")])[-1]
    assert average.ours.high - average.ours.value == pytest.approx(reach(0.01, [0.35, 0.4], [0.35, 0.4]))


def test_an_average_is_over_the_printed_cases_of_its_table():
    """Shop stands in a table of its own, and is no part of the average of the five others."""
    names = ["spitz", "snake", "car", "boat", "truck", "shop"]
    records = [
        record("test4", "imagenet", name, "ssl", {"KL": metrics(0.9 if name == "shop" else 0.6)}, anomaly_set="near")
        for name in names
    ]
    rows = by_cell(compare_rows(records, read_published()))
    assert rows["average", "near", "ssl", "KL"].ours.value == pytest.approx(0.6)
    assert rows["average", "far", "ssl", "KL"].text == "incomplete"


def test_an_average_can_run_over_two_data_sets():
    places = {"imagenet": ["spitz", "boat", "organism"], "cifar100": ["fish", "carnivores", "cat_family"]}
    records = [
        record("test5", dataset, case, "ssl", {"KL": metrics(0.5 + 0.01 * turn)})
        for dataset, cases in places.items()
        for turn, case in enumerate(cases)
    ]
    (table,) = comparisons(leaderboards(records), read_published())
    assert column(table, "case")[-1] == "average"
    assert float(column(table, "ours")[-1]) == pytest.approx(0.51)
    assert set(column(table, "data set")) == {"imagenet", "cifar100", "imagenet+cifar100"}

    (table,) = comparisons(leaderboards(records[:3]), read_published())
    assert column(table, "ours")[-1] == "incomplete"


@pytest.mark.parametrize(("share", "n"), [(0.0, 7), (0.57, 200), (0.995, 150), (1.0, 50)])
def test_wilson_is_scipys(share, n):
    theirs = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    assert wilson(round(share * n) / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_an_accuracy_among_neighbours_is_that_of_the_methods_own_k():
    accuracies = {"3": 0.6, "200": 0.9}
    more = {"knn_accuracy": accuracies, "params": {"k": 3}, "n_normal": 200}
    one = record("test5", "imagenet", "spitz", "isif", {"Cosine": metrics(0.6)}, **more)
    theirs = stats.binomtest(120, 200).proportion_ci(method="wilson")
    found = estimate([one], "kNN accuracy")
    assert (found.value, found.low, found.high) == pytest.approx((0.6, theirs.low, theirs.high))
    row = by_cell(compare_rows([one], read_published()))["spitz", "anomaly", "isif", "kNN accuracy"]
    assert row.printed.value == 0.57
    assert row.text == "0.600"


def test_the_table_footnotes_what_is_doubtful_and_never_corrects_it():
    records = [
        record("test3", "cifar10", case.case, "subcluster", {"MAX": metrics(0.776)})
        for case in read_published()
        if (case.table, case.method, case.score) == ("Table 10 (b)", "subcluster", "MAX") and case.case != "average"
    ]
    (table,) = comparisons(leaderboards(records), read_published())
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    average = next(row for row in rows if row["case"] == "average" and row["score"] == "MAX")
    assert (average["paper"], average["note"]) == ("0.77", "[1]")
    assert [note for note in table.notes if note.startswith("[1] ")] == [
        "[1] The mean of the printed numbers is 0.776: cut off instead of rounded."
    ]
    assert {row["note"] for row in rows if row["case"] != "average"} == {""}
    assert any("What the choice of images does adds up" in note for note in table.notes)


def test_the_table_says_how_to_read_it_and_how_our_numbers_were_made():
    records = [record("test2", "mnist", "2", "subcluster", {"MAX": metrics(0.9), "New": metrics(0.9)})]
    board = leaderboards(records)[0]
    (table,) = comparisons([board], read_published())
    assert set(board.table.notes) <= set(table.notes)
    assert any("1 of 1 numbers differ by more than noise" in note for note in table.notes)
    assert any("With one seed" in note for note in table.notes)
    assert any("not in the paper's table: subcluster New." in note for note in table.notes)
    for form in ("md", "html", "tex"):
        assert "more than noise" in render(table, form)


def test_the_counts_and_the_bold_verdicts_agree():
    records = [
        record("test2", "mnist", case, "subcluster", {"MAX": metrics(a), "ODIN": metrics(a)})
        for case, a in (("2", 0.97), ("3", 0.5), ("4", 0.93), ("5", 0.5))
    ]
    (table,) = comparisons(leaderboards(records), read_published())
    bold = sum(cell.bold for row in table.cells for cell in row)
    assert bold == column(table, "verdict").count(MORE) == 4
    assert table.notes[0].startswith("4 of 8 numbers")


def test_recipes_and_settings_are_compared_apart():
    scores = {"MAX": metrics(0.9)}
    records = [
        record("test2", "mnist", "2", "subcluster", scores),
        record("test2", "mnist", "2", "subcluster", scores, recipe="fast"),
        record("test2", "mnist", "2", "subcluster", scores, settings={"recipe": {"epochs": 3}}),
    ]
    assert len(comparisons(leaderboards(records), read_published())) == 3


def test_data_that_stand_in_for_the_papers_are_named():
    scores = {"KL": metrics(0.6)}
    mine = record("test5", "folder", "fish", "ssl", scores, declared_as="cifar100")
    theirs = record("test5", "cifar100", "fish", "ssl", scores)
    tables = comparisons(leaderboards([mine, theirs]), read_published())
    said = [any("a folder, which stands for cifar100" in note for note in table.notes) for table in tables]
    assert said == [False, True]  # tables come in the order of their names


def test_other_data_of_the_same_recipe_say_nothing_of_a_comparison():
    ours = [record("test2", "mnist", "2", "subcluster", {"MAX": metrics(0.9)})]
    others = [
        record("test2", dataset, "2", method, {"KL": metrics(0.6)}, seed=seed, recipe_values={"epochs": 99})
        for dataset in ("digits", "cifar10")
        for seed in (0, 1, 2)
        for method in ("ssl", "mine")
    ]
    (alone,) = comparisons(leaderboards(ours), read_published())
    digits = [one for one in others if one.dataset == "digits"]
    (beside,) = comparisons(leaderboards([*ours, *digits]), read_published())
    assert render(beside, "md") == render(alone, "md")
    assert "0.9" in column(beside, "ours")

    (both,) = comparisons(leaderboards([*ours, *others]), read_published())
    assert "0.9" in column(both, "ours")  # not one seed of three: these are of the other data set
    assert {note.partition(":")[0] for note in both.notes if "seeds 0, 1, 2" in note} == {"cifar10"}


def test_data_that_the_paper_has_no_number_of_are_refused_in_one_line():
    boards = leaderboards([record("test2", "digits", "2", "subcluster", {"MAX": metrics(0.9)})])
    with pytest.raises(HarnessError, match="test2 on digits; it has numbers of test2 on mnist, test2 on cifar10"):
        comparisons(boards, read_published())


def test_a_column_that_says_nothing_is_left_out():
    (table,) = comparisons(
        leaderboards([record("test2", "mnist", "2", "subcluster", {"MAX": metrics(0.9)})]), read_published()
    )
    assert set(table.head[-1]) == {name for _, name in COLUMNS} - {"data set", "anomalies", "note"}
