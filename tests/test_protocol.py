"""Protocols: what the bundled ones declare, a user's own, and what is refused, always in one line."""

from __future__ import annotations

import copy
import csv
import json
import tomllib
from itertools import pairwise, permutations
from pathlib import Path

import hostile
import numpy as np
import pytest
from fake_data import make
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import case, fits, harness, named, plugin, spy, toml, write_toml

from harness import HarnessError
from harness.paths import protocol_files
from harness.protocol import read_protocol

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def refused(path: Path, *parts: str) -> str:
    """The one line with which a protocol file is refused; it names the file and each of `parts`."""
    with pytest.raises(HarnessError) as caught:
        read_protocol(str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    for part in parts:
        assert part in line
    return line


# --- the bundled ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "classes"), [("digits", list("0123456789")), ("mnist", list("0123456789")), ("cifar10", CIFAR10)]
)
def test_test2_grows_its_normal_classes_one_by_one(dataset, classes):
    protocol = read_protocol("test2")
    assert protocol.labels == "visible"
    cases = protocol.cases(dataset)
    assert [case.name for case in cases] == ["1", "2", "3", "4", "5"]
    for k, one in enumerate(cases, 1):
        assert one.clusters == tuple((name,) for name in classes[:k])
        assert one.anomalies == {"anomaly": tuple(classes[5:])}


def test_test2_has_the_columns_of_table_8():
    columns = read_protocol("test2").table.columns
    assert [(column.head, column.score) for column in columns] == [
        ("SSL", "KL"),
        ("RotNet", "MAX"),
        ("RotNet", "ODIN"),
        ("Proposed", "MAX"),
        ("Proposed", "ODIN"),
    ]


def test_a_single_class_may_be_a_number(here):
    found = harness("plan", "--protocol", "test2", "--case", "2", "--method", "kde", "--set", "test2.anomaly=9")
    assert found.statuses == ["to run"]
    assert "'77'" in harness("plan", "--protocol", "test2", "--method", "kde", "--set", "test2.anomaly=77", code=2).line


@pytest.mark.parametrize("order", ["1,2,3,4,0", "1, 2, 3, 4, 0", '["1", "2", "3", "4", "0"]', "[1, 2, 3, 4, 0]"])
def test_the_other_reading_of_test2_is_one_option(here, order):
    method = spy()
    words = ("--protocol", "test2", "--method", method, "--set", f"test2.order={order}")
    harness("run", *words, "--case", "2")
    made = [json.loads(path.read_text()) for path in Path("results/records").rglob("*.json")]
    assert [(one["clusters"], one["anomaly"]) for one in made] == [([["1"], ["2"]], list("56789"))]
    assert len(fits(method)) == 1


@pytest.mark.parametrize("name", protocol_files())
def test_bundled_protocols_name_classes_that_there_are(name):
    protocol = read_protocol(name)
    assert protocol.name == name
    assert "digits" in protocol.dataset
    for dataset in protocol.dataset:
        cases = protocol.cases(dataset)
        names = [case.name for case in cases]
        assert len(set(names)) == len(names) > 0
        known = make(dataset)
        for one in cases:
            for classes in (one.normal, *one.anomalies.values()):
                known.check_classes(classes)


# --- a user's own ----------------------------------------------------------------------------------------------------


def test_the_forms_by_hand(here):
    head = {"name": "mine", "title": "t", "source": "s", "table": {"title": "T"}}

    def cases(form: str, **section):
        path = write_toml("mine.toml", head | {"form": form, "dataset": {"digits": section}})
        return [(case.name, case.clusters, case.anomalies) for case in read_protocol(str(path)).cases("digits")]

    assert cases("growing", order=["3", "1"], anomaly=["2", "0"]) == [
        ("1", (("3",),), {"anomaly": ("2", "0")}),
        ("2", (("3",), ("1",)), {"anomaly": ("2", "0")}),
    ]
    assert cases("one-normal", classes=["0", "1", "2"])[1] == ("1", (("1",),), {"anomaly": ("0", "2")})
    assert cases("one-anomaly", classes=["0", "1", "2"])[1] == ("1", (("0",), ("2",)), {"anomaly": ("1",)})
    assert cases("named", case={"x": case(["0", ["1", "2"]], near=["3"], far=["4", "5"])}) == [
        ("x", (("0",), ("1", "2")), {"near": ("3",), "far": ("4", "5")})
    ]


def test_class_names_may_be_written_as_numbers(here):
    path = named({"x": case([0, [1, 2]], 3)})
    assert read_protocol(str(path)).cases("digits")[0].normal == ("0", "1", "2")


def test_a_file_of_one_s_own_is_as_good_as_a_bundled_one(here):
    text = protocol_files()["test2"].read_text(encoding="utf-8")
    Path("mine.toml").write_text(text.replace('name = "test2"', 'name = "mine"'), encoding="utf-8")
    method = plugin()
    words = ("--method", method, "--seed", "0,1")
    bundled = harness("run", "--protocol", "test2", *words)
    own = harness("run", "--protocol", "./mine.toml", *words)
    # Nothing is trained again, so that even the footnotes are the same.
    assert own.out == bundled.out
    rows = [
        list(csv.DictReader(harness("results", "--protocol", name, "--format", "csv").out.splitlines()))
        for name in ("test2", "./mine.toml")
    ]
    numbers = [[{**row, "protocol": "", "score_seconds": ""} for row in each] for each in rows]
    assert numbers[0] == numbers[1]
    assert [row["protocol"] for row in rows[1]] == ["mine"] * 10


# --- what is refused -------------------------------------------------------------------------------------------------

SOUND = {
    "name": "mine",
    "title": "A title",
    "source": "a source",
    "form": "named",
    "labels": "visible",
    "table": {"title": "T", "average": True, "columns": [{"method": "ssl", "score": "KL", "head": "SSL"}]},
    "dataset": {
        "digits": {
            "notes": [{"status": "inferred", "text": "x"}],
            "case": {
                "a": {"normal": ["0", ["1", "2"]], "anomaly": {"near": ["3"], "far": ["4", "5"]}},
                "b": {"normal": ["6"], "anomaly": {"near": ["7"]}, "params": {"isif": {"k": 3}}},
            },
        },
    },
}
GROWING = SOUND | {"form": "growing", "dataset": {"digits": {"order": ["0", "1"], "anomaly": ["5"]}}}
ONE = SOUND | {"form": "one-normal", "dataset": {"digits": {"classes": ["0", "1", "2"]}}}
MERGING = SOUND | {
    "form": "merging",
    "table": {"title": "T"},
    "dataset": {
        "digits": {
            "study": {
                "s": {"order": ["0", "1", "2"], "clusters": [2, 3], "random": 2, "anomaly": ["5"]},
                "t": {"partitions": [[["0"], ["1", "2"]]], "anomaly": ["5"]},
            }
        }
    },
}


def changed(value, *path):
    """SOUND with another value at a path; None takes the key out."""
    spec = copy.deepcopy(SOUND)
    inner = spec
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return spec


A = ("dataset", "digits", "case", "a")


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (changed(1, "colour"), ["colour", "unknown key", "known: ", "labels"]),
        (changed(1, "titel"), ["titel", "unknown key", "did you mean 'title'?"]),
        (changed(1, "table", "avrage"), ["table.avrage", "unknown key", "'average'"]),
        (changed(1, *A, "anomalies"), ["dataset.digits.case.a.anomalies", "unknown key", "'anomaly'"]),
        (changed(None, "title"), ["title", "required"]),
        (changed(None, *A, "anomaly"), ["dataset.digits.case.a.anomaly", "required"]),
        (changed("grwing", "form"), ["form", "did you mean 'growing'?"]),
        (changed(None, "form"), ["form", "known: "]),
        (changed(["named"], "form"), ["form", "known: "]),
        (changed({}, "form"), ["form", "known: "]),
        (changed("hidden", "labels"), ["labels", "'visible' or 'withheld'"]),
        (changed("yes please", "table", "average"), ["table.average", "boolean"]),
        (changed(["0", "3"], *A, "normal"), ["'a'", "3 is both normal and in 'near'"]),
        (changed(["0", "1", "0"], *A, "normal"), ["'a'", "twice"]),
        (changed(["3", "3"], *A, "anomaly", "near"), ["'a'", "twice"]),
        (changed([], *A, "normal"), ["'a'", "normal classes"]),
        (changed([], *A, "anomaly", "near"), ["'a'", "anomalous classes"]),
        (changed({}, *A, "anomaly"), ["'a'", "anomalous classes"]),
    ],
)
def test_one_line_names_the_file_the_key_and_the_mend(here, spec, parts):
    refused(write_toml("mine.toml", spec), *parts)


@pytest.mark.parametrize(
    "spec",
    [
        changed({}, "dataset", "digits", "case"),
        GROWING | {"dataset": {"digits": {"order": [], "anomaly": ["5"]}}},
        ONE | {"dataset": {"digits": {"classes": []}}},
    ],
    ids=["named", "growing", "one-normal"],
)
def test_a_section_without_a_case_is_refused(here, spec):
    refused(write_toml("mine.toml", spec), "digits")


def test_numbers_of_clusters_have_no_average(here):
    text = protocol_files()["clusters"].read_text(encoding="utf-8")
    Path("mine.toml").write_text(text.replace("[table]", "[table]\naverage = true", 1), encoding="utf-8")
    line = harness("plan", "--protocol", "mine.toml", "--method", "kde", code=2).line
    assert "mine.toml: table: average: there is none over numbers of clusters; leave it out" in line


def test_two_cases_of_one_name_are_refused(here):
    study = {"order": ["0", "1", "2"], "clusters": [2], "partitions": [[["0"], ["1", "2"]]], "anomaly": ["5"]}
    refused(write_toml("mine.toml", MERGING | {"dataset": {"digits": {"study": {"s": study}}}}), "s 2")


@pytest.mark.parametrize(("classes", "count"), [(4, 2), (5, 2), (5, 3), (6, 3)])
def test_random_partitions_are_all_different_and_no_more_than_there_are(here, classes, count):
    order = list("0123456789"[:classes])
    ends = np.cumsum([0, *map(len, np.array_split(order, count))]).tolist()

    def clusters(arranged):
        return frozenset(frozenset(arranged[a:b]) for a, b in pairwise(ends))

    there_are = {clusters(arranged) for arranged in permutations(order)}

    def spec(random):
        study = {"order": order, "clusters": [count], "random": random, "anomaly": ["9"]}
        return write_toml("mine.toml", MERGING | {"dataset": {"digits": {"study": {"s": study}}}})

    made = read_protocol(str(spec(len(there_are) - 1))).cases("digits")
    assert [case.row for case in made] == [f"s {count}"] + [f"s {count}, random partitions"] * (len(made) - 1)
    assert made[0].clusters == tuple(tuple(order[a:b]) for a, b in pairwise(ends))
    assert [len(made), {frozenset(map(frozenset, case.clusters)) for case in made}] == [len(there_are), there_are]
    refused(spec(len(there_are)), "'s'", "random", f"only {len(there_are) - 1} other")


def test_a_misspelt_key_is_named_rather_than_the_one_that_is_missing_for_it(here):
    cases = {"a": {"normall": ["0"], "anomaly": {"far": ["1"]}}}
    refused(write_toml("mine.toml", changed(cases, "dataset", "digits", "case")), "normall", "did you mean 'normal'?")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"name = ",
        b"\xff\xfe\x00",
        b"name = 'a'\nname = 'b'\n",
        b"[dataset\n",
        b"n = " + b"1" * 5000,
        b"deep = " + b"[" * 20_000,
    ],
    ids=["empty", "half", "utf-16", "twice", "bracket", "number", "deep"],
)
def test_what_is_no_toml_is_refused(here, content):
    path = here / "mine.toml"
    path.write_bytes(content)
    refused(path)


def test_a_file_that_is_not_there_and_a_folder_are_refused(here):
    refused(here / "nowhere.toml", "no such file")
    (here / "folder.toml").mkdir()
    refused(here / "folder.toml")


def test_unknown_names_are_answered_with_the_known_ones(here):
    path = plugin()
    assert "did you mean 'test2'?" in harness("plan", "--protocol", "tset2", "--method", path, code=2).line
    line = harness("plan", "--protocol", "test2", "--method", path, "--dataset", "imagenet", code=2).line
    assert "imagenet" in line
    assert "known: cifar10" in line
    line = harness("plan", "--protocol", named({"a": case(["0"], "eleven")}), "--method", path, code=2).line
    assert "mine" in line
    assert "'eleven'" in line


def test_a_key_that_is_misspelt_is_named_even_if_it_is_the_form(here):
    Path("mine.toml").write_text('name = "mine"\nfrm = "named"\n')
    line = harness("plan", "--protocol", "./mine.toml", "--method", "kde", code=2).line
    assert "frm: unknown key; did you mean 'form'?" in line


# --- anything at all -------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.sampled_from([SOUND, GROWING, ONE, MERGING]).flatmap(hostile.changed))
def test_a_spec_with_anything_changed_loads_or_is_refused_in_one_line(tmp_path_factory, spec):
    path = write_toml(tmp_path_factory.getbasetemp() / "mutated.toml", spec)
    assert_loads_or_is_refused(path)


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), st.text("[]{}=.,'\"#\n aé1-:T", max_size=40).map(str.encode)))
def test_any_bytes_load_or_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    assert_loads_or_is_refused(path)


def assert_loads_or_is_refused(path: Path) -> None:
    try:
        protocol = read_protocol(str(path))
    except HarnessError as error:
        refused = str(error)
        assert "\n" not in refused
        assert path.name in refused
        return
    cases = [case for dataset in protocol.dataset for case in protocol.cases(dataset)]
    assert len({case.name for case in cases}) == len(cases)
    for one in cases:
        assert one.normal
        assert not set(one.normal) & {name for classes in one.anomalies.values() for name in classes}
        assert protocol.digest(one)


def test_the_toml_that_these_tests_write_reads_back():
    assert tomllib.loads(f"value = {toml(SOUND)}")["value"] == SOUND
