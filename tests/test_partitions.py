"""A row of several cases, such as random partitions: its mean, its deviation, and what is missing from it."""

from __future__ import annotations

import csv
import io
import statistics

import made_up
import numpy as np
import pytest
from made_up import text, tidy_rows
from tiny import table

from harness import HarnessError
from harness.records import Record
from harness.report.leaderboard import leaderboards
from harness.report.paired import paired
from harness.report.publish import text_of

PARTITIONS = {0: (0.9, 0.8), 1: (0.7, 0.8), 2: (0.8, 0.83)}
"""Of three random partitions, the AUROC of two seeds."""


def partitions(method: str = "subcluster", less: float = 0.0) -> list[Record]:
    return [
        made_up.record(
            "clusters",
            "digits",
            f"digits 2 random {part}",
            method,
            {"MAX": made_up.metrics(auroc - less)},
            seed=seed,
            fit=f"{method} {part} {seed}",
        )
        for part, aurocs in PARTITIONS.items()
        for seed, auroc in enumerate(aurocs)
    ]


def of_partitions(records: list[Record], method: str = "subcluster") -> tuple[str, str, str]:
    (row,) = [row for row in tidy_rows(records) if row["method"] == method and "random" in row["row"] and row["mean"]]
    return row["mean"], row["std"], row["runs"]


def test_cases_of_one_row_count_alike_and_the_deviation_is_over_seeds():
    mean, std, runs = of_partitions(partitions())
    assert float(mean) == pytest.approx((0.85 + 0.75 + 0.815) / 3)
    assert float(std) == pytest.approx(statistics.stdev([(0.9 + 0.7 + 0.8) / 3, (0.8 + 0.8 + 0.83) / 3]))
    assert runs == "6"
    without = [one for one in partitions() if (one.case, one.seed) != ("digits 2 random 0", 1)]
    mean, std, runs = of_partitions(without)
    assert float(mean) == pytest.approx((0.9 + 0.75 + 0.815) / 3)
    assert (std, runs) == ("", "5")
    assert "0.822 (5/6)" in text(without)


def test_a_row_that_lacks_one_of_its_cases_is_incomplete():
    records = [one for one in partitions() if one.case != "digits 2 random 0"]
    assert any("incomplete" in row for row in table(text(records)))


def test_a_number_of_too_few_seeds_in_common_is_not_compared():
    other = partitions("mine", less=0.2)
    scores = {"normal.MAX": np.arange(100.0), "anomaly.MAX": np.arange(100.0) + 30}
    (board,) = leaderboards([*partitions(), *other], scores=lambda record: scores)
    assert any(cell.bold for row in board.table.cells for cell in row)
    cut = [one for one in partitions() if (one.case, one.seed) != ("digits 2 random 0", 1)]
    (board,) = leaderboards([*cut, *other], scores=lambda record: scores)
    assert not any(cell.bold for row in board.table.cells for cell in row)
    with pytest.raises(HarnessError, match="no other method beside it"):
        paired([board], "mine", lambda record: scores)


def test_an_average_that_is_left_out_leaves_its_place_to_no_other():
    shop = [
        made_up.record("test4", "imagenet", "shop", "ssl", {"KL": made_up.metrics(0.6 + seed / 10)}, seed=seed)
        for seed in (0, 1)
    ]
    (board,) = leaderboards(shop, whole=False)
    assert board.places == ("shop",)
    assert not board.averaged
    (row,) = csv.DictReader(io.StringIO(text_of([board], "csv")))
    assert float(row["std"]) == pytest.approx(statistics.stdev([0.6, 0.7]))
    (whole,) = leaderboards(shop)
    assert whole.averaged
