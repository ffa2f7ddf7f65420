"""The bundled protocols against a copy of the facts: every class list that the paper prints, or that was inferred."""

import csv
import json
from pathlib import Path

import pytest

from harness.paths import PLUGINS, protocol_files
from harness.protocol import read_protocol

FACTS = json.loads(Path(__file__).with_name("paper_protocols.json").read_text(encoding="utf-8"))
DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cases(protocol, dataset):
    return {case.name: case for case in read_protocol(protocol).cases(dataset)}


def as_sets(clusters):
    return {frozenset(cluster) for cluster in clusters}


SSL = ("ssl", "KL", "SSL")
PROPOSED = [("subcluster", "MAX", "Proposed"), ("subcluster", "ODIN", "Proposed")]
NEIGHBOURS = [("isif", score, "Proposed") for score in ("Cosine", "Euclidean", "kNN accuracy")]
TABLES = {
    "clusters": ("visible", "cases", False, PROPOSED),
    "levels": ("visible", "cases", False, PROPOSED),
    "test1": ("visible", "methods", True, [("jigsaw", "MAX", "Jigsaw"), SSL]),
    "test2": ("visible", "cases", False, [SSL, ("rotnet", "MAX", "RotNet"), ("rotnet", "ODIN", "RotNet"), *PROPOSED]),
    "test3": ("visible", "cases", True, [SSL, *PROPOSED]),
    "test4": ("visible", "cases", True, [SSL, *PROPOSED]),
    "test5": ("withheld", "cases", True, [SSL, *NEIGHBOURS]),
}
"""Of each protocol whether methods see labels; of its table what the rows are, whether it has an average, and the
columns of the methods that we have."""


def test_labels_and_tables_are_the_paper_s():
    found = {}
    for protocol in map(read_protocol, protocol_files()):
        table = protocol.table
        columns = [(column.method, column.score, column.head) for column in table.columns]
        found[protocol.name] = (protocol.labels, table.rows, table.average, columns)
    assert found == TABLES


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10"])
def test_one_class_is_normal_or_anomalous_and_the_others_are_the_opposite(dataset):
    classes = CIFAR10 if dataset == "cifar10" else DIGITS
    for name, case in cases("test1", dataset).items():
        assert case.clusters == ((name,),)
        assert case.anomalies == {"anomaly": tuple(c for c in classes if c != name)}
    for name, case in cases("test3", dataset).items():
        assert as_sets(case.clusters) == {frozenset([c]) for c in classes if c != name}
        assert case.anomalies == {"anomaly": (name,)}
    assert list(cases("test1", dataset)) == list(cases("test3", dataset)) == list(classes)


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10"])
def test_test2_grows_through_the_first_five_classes(dataset):
    classes = CIFAR10 if dataset == "cifar10" else DIGITS
    found = cases("test2", dataset)
    assert list(found) == ["1", "2", "3", "4", "5"]
    for k, case in enumerate(found.values(), start=1):
        assert case.normal == classes[:k]
        assert case.anomalies == {"anomaly": classes[5:]}


def test_test3_imagenet_has_ten_of_ssls_thirty_classes():
    ten = FACTS["imagenet_test3"]["classes"]
    found = cases("test3", "imagenet")
    assert list(found) == ten
    assert all(set(case.normal) == set(ten) - {name} and len(case.clusters) == 9 for name, case in found.items())


def test_test4_has_near_and_far_anomalies_for_six_sets():
    found = cases("test4", "imagenet")
    assert list(found) == list(FACTS["test4"])
    for name, fact in FACTS["test4"].items():
        assert as_sets(found[name].clusters) == {frozenset([c]) for c in fact["normal"]}
        assert set(found[name].anomalies["near"]) == set(fact["near"])
        far = {"far"} if name != "shop" else set()
        assert set(found[name].anomalies) == {"near"} | far
        assert all(set(found[name].anomalies[one]) == set(FACTS["test4_far"]["classes"]) for one in far)


@pytest.mark.parametrize("dataset", ["imagenet", "cifar100"])
def test_test5_takes_k_from_the_paper(dataset):
    found = cases("test5", dataset)
    assert set(found) == set(
        ("spitz", "boat", "organism") if dataset == "imagenet" else ("fish", "carnivores", "cat_family")
    )
    for name, case in found.items():
        fact = FACTS["test5"][name]
        assert set(case.normal) == set(fact["normal"])
        assert case.anomalies == {"anomaly": tuple(fact["anomaly"])}
        assert case.params == {"isif": {"k": fact["k"]}}


def test_the_clusters_study_has_the_partitions_and_random_ones_of_the_same_sizes():
    found = cases("clusters", "imagenet")
    facts = {"car": "table1a_car", "catdog": "table1b_catdog", "placental": "table1c_placental"}
    for study, key in facts.items():
        for count, clusters in FACTS[key]["clusters"].items():
            case = found[f"{study} {count}"]
            assert as_sets(case.clusters) == as_sets(clusters), case.name
            assert set(case.anomalies["anomaly"]) == set(FACTS[key]["anomaly"])
    assert len(found) == 5 + 5 * 4 + 3 + 4  # car twice over: in order, and at random where that makes a difference
    for count in (2, 4, 6, 8):
        fixed = found[f"car {count}"]
        drawn = [found[f"car {count} random {seed}"] for seed in range(5)]
        assert {tuple(map(len, case.clusters)) for case in drawn} == {tuple(map(len, fixed.clusters))}
        assert {frozenset(case.normal) for case in drawn} == {frozenset(fixed.normal)}
        assert len({frozenset(as_sets(case.clusters)) for case in (fixed, *drawn)}) == 6
        assert {case.row for case in drawn} == {f"car {count}, random partitions"}


def test_random_partitions_stay_what_they_are():
    case = cases("clusters", "imagenet")["car 2 random 0"]
    # np.random.RandomState(0).permutation(10) begins with 2, 8, 4, 9, 1
    assert case.clusters[0] == ("beach wagon", "sports car", "limousine", "racer", "minivan")


def test_the_levels_study_always_has_four_clusters_of_the_same_classes():
    found = cases("levels", "imagenet")
    facts = FACTS["table1d_placental_levels"]["clusters"]
    assert [case.name for case in found.values()] == [f"level {level}" for level in facts]
    for level, clusters in facts.items():
        assert as_sets(found[f"level {level}"].clusters) == as_sets(clusters)
        assert set(found[f"level {level}"].normal) == set(FACTS["table1c_placental"]["normal"])


def test_every_imagenet_class_is_the_synset_that_the_paper_means():
    with (PLUGINS / "datasets" / "imagenet_classes.csv").open(newline="", encoding="utf-8") as file:
        wnids = {row["name"]: row["wnid"] for row in csv.DictReader(file)}
    named = set()
    for name in protocol_files():
        protocol = read_protocol(name)
        if "imagenet" in protocol.dataset:
            for case in protocol.cases("imagenet"):
                named.update(case.normal, *case.anomalies.values())
    assert named == set(FACTS["wnids"])
    assert {name: wnids[name] for name in named} == FACTS["wnids"]


def test_every_protocol_can_be_tried_on_digits():
    for name in protocol_files():
        assert read_protocol(name).cases("digits")
