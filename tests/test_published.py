"""The printed numbers: every one against a copy of the tables in the paper's own layout."""

from __future__ import annotations

import statistics
from decimal import Decimal

import pytest

from harness import HarnessError
from harness.protocol import read_protocol
from harness.report.published import AVERAGE, read_published

DIGITS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
THINGS = [
    *("airliner", "American alligator", "dragonfly", "grand piano", "hotdog"),
    *("nail", "snowmobile", "stingray", "soccer ball", "tank"),
]
KL, MAX, ODIN = ("ssl", "KL"), ("subcluster", "MAX"), ("subcluster", "ODIN")
ROT = [("rotnet", "MAX"), ("rotnet", "ODIN")]
KNN = [("isif", "Cosine"), ("isif", "Euclidean"), ("isif", "kNN accuracy")]


def by_cases(protocol, dataset, table, cases, columns, text, sets=("anomaly",)):
    """A table with a row a case and a column a score (and, in it, an anomaly set)."""
    rows = [line.split() for line in text.strip().splitlines()]
    for case, row in zip(cases, rows, strict=True):
        heads = [(*column, name) for column in columns for name in sets]
        for (method, score, name), cell in zip(heads, row, strict=True):
            yield (table, protocol, dataset, case, name, method, score), cell


def by_methods(dataset, table, cases, text):
    """A table with a row a method and a column a case."""
    for line in text.strip().splitlines():
        method, score, *cells = line.split()
        for case, cell in zip([*cases, AVERAGE], cells, strict=True):
            yield (table, "test1", dataset, case, "anomaly", method, score), cell


PRINTED = dict(
    [
        *by_cases(
            *("clusters", "imagenet", "Table 1 (a)", ["car 2", "car 4", "car 6", "car 8", "car 10"], [MAX, ODIN]),
            "0.58 0.57\n 0.67 0.68\n 0.65 0.71\n 0.69 0.72\n 0.71 0.77",
        ),
        *by_cases(
            *("clusters", "imagenet", "Table 1 (b)", ["catdog 2", "catdog 4", "catdog 16"], [MAX, ODIN]),
            "0.78 0.76\n 0.84 0.79\n 0.85 0.77",
        ),
        *by_cases(
            *("clusters", "imagenet", "Table 1 (c)", [f"placental {n}" for n in (4, 8, 17, 44)], [MAX, ODIN]),
            "0.71 0.69\n 0.77 0.71\n 0.79 0.73\n 0.81 0.75",
        ),
        *by_cases(
            *("levels", "imagenet", "Table 1 (d)", [f"level {n}" for n in (1, 2, 3, 4)], [MAX, ODIN]),
            "0.71 0.62\n 0.79 0.73\n 0.76 0.62\n 0.75 0.62",
        ),
        *by_methods(
            *("mnist", "Table 3", DIGITS),
            """
            ocsvm    -   0.988 0.999 0.902 0.95  0.955 0.968 0.978 0.965 0.853 0.955 0.951
            kde      -   0.885 0.996 0.71  0.693 0.844 0.776 0.861 0.884 0.669 0.825 0.814
            dae      -   0.894 0.999 0.792 0.851 0.888 0.819 0.944 0.922 0.74  0.917 0.877
            vae      -   0.997 0.999 0.936 0.959 0.973 0.964 0.993 0.976 0.923 0.976 0.97
            pixelcnn -   0.531 0.995 0.476 0.517 0.739 0.542 0.592 0.789 0.34  0.662 0.618
            gan      -   0.926 0.995 0.805 0.818 0.823 0.803 0.89  0.898 0.817 0.887 0.866
            and      -   0.984 0.995 0.947 0.952 0.96  0.971 0.991 0.97  0.922 0.979 0.967
            anogan   -   0.966 0.992 0.85  0.887 0.894 0.883 0.947 0.935 0.849 0.924 0.913
            dsvdd    -   0.98  0.997 0.917 0.919 0.949 0.885 0.983 0.946 0.939 0.965 0.948
            ocgan    -   0.998 0.999 0.942 0.963 0.975 0.98  0.991 0.981 0.939 0.981 0.975
            jigsaw   MAX 0.983 0.838 0.847 0.788 0.855 0.89  0.973 0.909 0.884 0.92  0.889
            """,
        ),
        *by_methods(
            *("cifar10", "Table 4", CIFAR),
            """
            ocsvm     -   0.63  0.44  0.649 0.487 0.735 0.5   0.725 0.533 0.649 0.508 0.586
            kde       -   0.658 0.52  0.657 0.497 0.727 0.496 0.758 0.564 0.68  0.54  0.61
            dae       -   0.411 0.478 0.616 0.562 0.728 0.513 0.688 0.497 0.487 0.378 0.536
            vae       -   0.7   0.386 0.679 0.535 0.748 0.523 0.687 0.493 0.696 0.386 0.583
            pixelcnn  -   0.788 0.428 0.617 0.574 0.511 0.571 0.422 0.454 0.715 0.426 0.551
            gan       -   0.708 0.458 0.664 0.51  0.722 0.505 0.707 0.471 0.713 0.458 0.592
            and       -   0.717 0.494 0.662 0.527 0.736 0.504 0.726 0.56  0.68  0.566 0.617
            anogan    -   0.671 0.547 0.529 0.545 0.651 0.603 0.585 0.625 0.758 0.665 0.618
            dsvdd     -   0.617 0.659 0.508 0.591 0.609 0.657 0.677 0.673 0.759 0.731 0.648
            ocgan     -   0.757 0.531 0.64  0.62  0.723 0.62  0.723 0.575 0.82  0.554 0.657
            geometric -   0.762 0.848 0.771 0.732 0.828 0.848 0.82  0.887 0.895 0.834 0.823
            ssl       KL  0.877 0.939 0.786 0.799 0.817 0.856 0.933 0.879 0.926 0.921 0.873
            jigsaw    MAX 0.747 0.828 0.638 0.562 0.637 0.685 0.682 0.774 0.764 0.774 0.709
            """,
        ),
        *by_cases(
            *("test2", "mnist", "Table 8 (a)", "12345", [KL, *ROT, MAX, ODIN]),
            """
            0.91 0.91 0.92 - -
            0.91 0.89 0.89 0.97 0.97
            0.86 0.87 0.89 0.95 0.94
            0.82 0.87 0.87 0.93 0.94
            0.79 0.84 0.84 0.94 0.93
            """,
        ),
        *by_cases(
            *("test2", "cifar10", "Table 8 (b)", "12345", [KL, *ROT, MAX, ODIN]),
            """
            0.73 0.62 0.66 - -
            0.76 0.72 0.72 0.82 0.81
            0.66 0.64 0.61 0.75 0.72
            0.56 0.60 0.55 0.83 0.76
            0.54 0.57 0.55 0.83 0.79
            """,
        ),
        *by_cases(
            *("test3", "mnist", "Table 10 (a)", [*DIGITS, AVERAGE], [KL, MAX, ODIN]),
            """
            0.97 0.97 0.97\n 0.84 0.98 1.00\n 0.94 0.97 0.96\n 0.78 0.96 0.95\n 0.86 0.94 0.94
            0.73 0.97 0.93\n 0.95 0.98 0.97\n 0.89 0.96 0.96\n 0.81 0.99 0.99\n 0.70 0.97 0.96
            0.85 0.97 0.96
            """,
        ),
        *by_cases(
            *("test3", "cifar10", "Table 10 (b)", [*CIFAR, AVERAGE], [KL, MAX, ODIN]),
            """
            0.55 0.83 0.91\n 0.39 0.70 0.78\n 0.74 0.79 0.85\n 0.77 0.79 0.80\n 0.57 0.80 0.82
            0.71 0.76 0.78\n 0.71 0.80 0.82\n 0.43 0.80 0.81\n 0.47 0.75 0.83\n 0.49 0.74 0.85
            0.58 0.77 0.83
            """,
        ),
        *by_cases(
            *("test3", "imagenet", "Table 10 (c)", [*THINGS, AVERAGE], [KL, MAX, ODIN]),
            """
            0.34 0.82 0.76\n 0.47 0.79 0.81\n 0.60 0.72 0.73\n 0.60 0.86 0.88\n 0.43 0.80 0.84
            0.69 0.79 0.81\n 0.49 0.80 0.84\n 0.54 0.76 0.76\n 0.59 0.85 0.85\n 0.42 0.80 0.80
            0.52 0.80 0.81
            """,
        ),
        *by_cases(
            *("test4", "imagenet", "Table 13 (left)", ["spitz", "snake", "car", "boat", "truck", AVERAGE]),
            *([KL, MAX, ODIN],),
            """
            0.64 0.92 0.79 0.80 0.83 0.88
            0.59 0.67 0.71 0.70 0.69 0.77
            0.61 0.89 0.71 0.80 0.77 0.86
            0.55 0.92 0.73 0.73 0.72 0.76
            0.73 0.93 0.66 0.75 0.70 0.87
            0.62 0.87 0.72 0.76 0.73 0.83
            """,
            sets=("near", "far"),
        ),
        *by_cases("test4", "imagenet", "Table 13 (right)", ["shop"], [KL, MAX, ODIN], "0.64 0.72 0.80", sets=("near",)),
        *by_cases(
            *("test5", "imagenet", "Table 14", ["spitz", "boat", "organism"], [KL, *KNN]),
            "0.64 0.58 0.59 0.57\n 0.55 0.60 0.61 0.70\n 0.63 0.74 0.74 0.81",
        ),
        *by_cases(
            *("test5", "cifar100", "Table 14", ["fish", "carnivores", "cat_family"], [KL, *KNN]),
            "0.60 0.68 0.68 0.74\n 0.56 0.63 0.63 0.70\n 0.76 0.65 0.66 0.72",
        ),
        *by_cases("test5", "imagenet+cifar100", "Table 14", [AVERAGE], [KL, *KNN], "0.62 0.65 0.66 0.70"),
    ]
)
SLIPS = {
    ("Table 4", "average", "anomaly", "ocgan", "-"),
    ("Table 10 (b)", "average", "anomaly", "subcluster", "MAX"),
    ("Table 13 (left)", "average", "near", "subcluster", "ODIN"),
    ("Table 14", "average", "anomaly", "isif", "Euclidean"),
    ("Table 14", "average", "anomaly", "isif", "kNN accuracy"),
}
"""Printed averages that do not follow from what is printed above them."""


@pytest.fixture(scope="module")
def published():
    return read_published()


def test_every_number_is_there_exactly_as_printed_and_no_other(published):
    found = {
        (p.table, p.protocol, p.dataset, p.case, p.anomaly_set, p.method, p.score): p.printed_as for p in published
    }
    assert len(found) == len(published), "a number is there twice"
    assert found == PRINTED


def test_the_value_is_what_is_printed(published):
    for p in published:
        assert p.value == (None if p.printed_as == "-" else float(p.printed_as)), p


def test_half_a_unit_of_the_last_decimal_of_the_table(published):
    half = {p.table: p.half_unit for p in published}
    assert {p.half_unit == half[p.table] for p in published} == {True}
    assert {table for table, one in half.items() if one == pytest.approx(0.0005)} == {"Table 3", "Table 4"}
    assert set(half.values()) == {0.0005, 0.005}


def test_averages_that_do_not_follow_from_their_numbers_have_a_note_and_no_others(published):
    slips = set()
    for average in (p for p in published if p.case == AVERAGE):
        key = (average.table, average.anomaly_set, average.method, average.score)
        parts = [
            Decimal(p.printed_as)
            for p in published
            if p.case != AVERAGE and (p.table, p.anomaly_set, p.method, p.score) == key
        ]
        mean = statistics.mean(parts)
        if abs(mean - Decimal(average.printed_as)) > Decimal(repr(average.half_unit)):
            slips.add((average.table, "average", *key[1:]))
            assert f"{mean:.4f}".rstrip("0") in average.note, average
        else:
            assert "mean of the printed" not in average.note, average
    assert slips == SLIPS


@pytest.mark.parametrize(
    ("table", "case", "word"),
    [
        ("Table 1 (a)", "car 2", "proposal"),
        ("Table 1 (b)", "catdog 16", "proposal"),
        ("Table 1 (c)", "placental 44", "proposal"),
        ("Table 1 (d)", "level 2", "proposal"),
        ("Table 13 (right)", "shop", "proposal"),
        ("Table 14", "organism", "proposal"),
        ("Table 1 (d)", "level 4", "garbled"),
    ],
)
def test_what_rests_on_a_proposal_or_a_doubtful_reading_says_so(published, table, case, word):
    rows = [p for p in published if (p.table, p.case) == (table, case)]
    assert rows
    assert all(word in p.note for p in rows)


def test_single_doubtful_numbers_have_a_note(published):
    notes = {(p.table, p.case, p.method, p.score): p.note for p in published}
    assert "0.75" in notes["Table 1 (c)", "placental 17", "subcluster", "ODIN"]
    assert all("0.901" in notes["Table 4", case, "ssl", "KL"] for case in [*CIFAR, AVERAGE])
    assert not notes["Table 8 (a)", "5", "subcluster", "MAX"]


def test_cases_and_anomaly_sets_are_those_of_the_protocols(published):
    for p in published:
        if p.case == AVERAGE:
            continue
        cases = {case.name: case for case in read_protocol(p.protocol).cases(p.dataset)}
        assert p.anomaly_set in cases[p.case].anomalies, p


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("test2,mnist,1,anomaly,ssl,KL,much,0.9,Table 8,", "value"),
        ("test2,mnist,1,anomaly", "a.csv:2"),
        ("test2,mnist,1,anomaly,ssl,KL,0.9,0.9,Table 8,,too,many", "unknown key"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_line(tmp_path, line, said):
    head = "protocol,dataset,case,anomaly_set,method,score,value,printed_as,table,note"
    (tmp_path / "a.csv").write_text(f"{head}\n{line}\n")
    with pytest.raises(HarnessError, match=r"a\.csv") as error:
        read_published(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
