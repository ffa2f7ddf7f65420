"""What is made of a fitted method: scores that depend on nothing but the image, and accuracies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_data import make
from sklearn.neighbors import KNeighborsClassifier
from tiny import case, harness, named, plugin, records, scorings, spy

import harness as api
from harness.fitting import task_of
from harness.plugins import Plugins
from harness.records import Store

# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["subcluster", "rotnet", "ssl"])
def fitted(request):
    """A bundled method after one epoch on digits."""
    cls = Plugins().get("method", request.param)
    method = cls()
    images, labels = make("digits").load("train", ("0", "1", "2"))
    recipe = api.Recipe(network="two-conv", optimizer="adam", lr=1e-3, epochs=1, batch=64, precision="float32")
    run = api.Run("cpu", 0, recipe, method.params)
    torch.manual_seed(0)
    method.build(task_of(images, 3 if cls.uses_labels else None), run)
    method.fit(api.Images(images, labels if cls.uses_labels else None), run)
    return method


def test_scores_do_not_depend_on_order_or_company(fitted):
    images, _ = make("digits").load("test", ("0", "5", "patches"))
    images = images[::9]
    together = fitted.score(images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    shuffled = fitted.score(images[order])
    alone = [fitted.score(image[None]) for image in images]
    assert set(together) == set(fitted.scores)
    for name, values in together.items():
        assert values.shape == (len(images),)
        # ODIN's step is a sign, which rounding may turn where the gradient is next to nothing.
        tolerance = {"rtol": 1e-4, "atol": 1e-5 * values.std().item() + 1e-7}
        torch.testing.assert_close(shuffled[name], values[order], **tolerance)
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), values, **tolerance)


def test_scores_are_those_of_all_images_whatever_the_chunks(here, monkeypatch):
    words = ("run", "--protocol", "test2", "--case", "2", "--method", spy())
    harness(*words, "--results", "whole")
    monkeypatch.setattr("harness.scoring.CHUNK", 50)
    harness(*words, "--results", "chunks")
    sizes = [len(scoring["hashes"]) for scoring in scorings(Path("spy.py"))]
    whole, chunks = (Store(Path(folder)) for folder in ("whole", "chunks"))
    assert sizes == [sizes[0], *[50] * (sizes[0] // 50), sizes[0] % 50]
    assert sizes[0] % 50 > 0
    found, expected = (store.scores(*store.records()) for store in (chunks, whole))
    assert found.keys() == expected.keys()
    for part, values in expected.items():
        np.testing.assert_allclose(found[part], values, rtol=1e-6)


def test_scores_leave_the_images_and_the_network_alone(fitted):
    images, _ = make("digits").load("test", ("5",))
    before = images.clone()
    first, second = fitted.score(images), fitted.score(images)
    assert torch.equal(images, before)
    for name in first:
        assert torch.equal(first[name], second[name])


def test_scores_stand_in_one_order_whatever_clusters_a_method_sees(here):
    protocol = named({"a": case([["9", "1"], ["5", "0"]], "8", "7")}, labels="visible")
    methods = f"{plugin('blind')},{plugin('sighted', uses_labels=True)}"
    harness("run", "--protocol", protocol, "--method", methods)
    store = Store(Path("results"))
    blind, sighted = store.records()
    assert not blind.labels
    assert sighted.labels
    assert blind.order == sighted.order == (("0", "1", "5", "9"), ("8", "7"))
    for part, values in store.scores(blind).items():
        assert np.array_equal(values, store.scores(sighted)[part]), part


def test_what_a_score_writes_into_its_images_nothing_else_sees(here):
    predict = "def predict(self, images):\n        return (images.float().mean((1, 2, 3)) > 80).long()\n"
    protocol = named({"a": case(["0", "1"], near=["2"], far=["3"])})
    score = 'far = (images.float() - self.mean).flatten(1).norm(dim=1); images.zero_(); return {"L2": far}'
    more = {"body": predict, "uses_labels": True}
    methods = plugin("clean", **more), plugin("wipes", score=score, **more)
    for method in methods:
        harness("run", "--protocol", protocol, "--method", method, "--results", method.stem)
    clean, wipes = ([(one.scores, one.accuracy) for one in records(method.stem)] for method in methods)
    assert clean == wipes


# --- accuracies ------------------------------------------------------------------------------------------------------


def test_the_accuracy_is_that_of_the_predicted_clusters(here):
    # Predicts by brightness, whatever the label: the truth comes from the data set.
    predict = "def predict(self, images):\n        return (images.float().mean((1, 2, 3)) > 80).long()\n"
    method = plugin(body=predict, uses_labels=True)
    harness("run", "--protocol", named({"a": case(["1", ["0", "8"]], "3")}), "--method", method)
    images, labels = make("digits").load("test", ("0", "8", "1"))
    predicted = images.double().mean((1, 2, 3)) > 80
    # Clusters are told apart in order of their names: ("0", "8") before ("1",).
    assert records()[0].accuracy == pytest.approx(((labels == 2) == predicted).double().mean().item(), abs=1e-6)


def test_each_evaluation_has_the_accuracy_of_its_own_parameters(here):
    body = """
    class Params(harness.Params):
        bright: int = 80

    scoring = ("bright",)

    def predict(self, images):
        return (images.float().mean((1, 2, 3)) > self.params.bright).long()
"""
    own = {f"{i}": case(["1", "0"], "3") | {"params": {"mean-image": {"bright": b}}} for i, b in enumerate((0, 80, 0))}
    harness("run", "--protocol", named(own), "--method", plugin(body=body, uses_labels=True))
    images, labels = make("digits").load("test", ("0", "1"))
    bright = images.double().mean((1, 2, 3))
    dim, clear = (((labels == 1) == (bright > at)).double().mean().item() for at in (0, 80))
    assert dim != pytest.approx(clear, abs=0.01)
    assert [record.accuracy for record in records()] == pytest.approx([dim, clear, dim], abs=1e-6)


def test_an_embedding_is_made_once_for_all_evaluations_of_a_fit(here):
    body = """def embed(self, images):
        with open("embedded.txt", "a") as log:
            print(len(images), file=log)
        return images.float().flatten(1)
"""
    protocol = named({"one": case(["0", "1"], near=["6"], far=["7"])})
    harness("run", "--protocol", protocol, "--method", plugin(body=body))
    near, far = records()
    train, test = map(int, Path("embedded.txt").read_text().split())
    assert train == near.n_train
    assert test == near.n_normal
    assert near.knn_accuracy == far.knn_accuracy
    assert near.knn_accuracy["200"] > 0.9


def test_the_accuracy_among_neighbours_is_of_200_and_of_as_many_as_the_method_scores_by(here):
    # The sums of an image's rows say so little of it that the number of neighbours matters.
    body = """
    class Params(harness.Params):
        k: int = 3

    scoring = ("k",)

    def embed(self, images):
        return images[:, 0].sum(2).float()
"""
    harness("run", "--protocol", named({"a": case(["0", "1", "2"], "3")}), "--method", plugin(body=body))
    (near, labels), (queries, truth) = (make("digits").load(split, ("0", "1", "2")) for split in ("train", "test"))
    expected = {}
    for k in (3, 200):
        vote = KNeighborsClassifier(k, metric="cosine", weights=lambda distances: np.exp(-distances / 0.1))
        expected[str(k)] = vote.fit(near[:, 0].sum(2), labels).score(queries[:, 0].sum(2), truth)
    assert expected["3"] > expected["200"] + 0.1
    assert records()[0].knn_accuracy == pytest.approx(expected, abs=1e-6)


UNFIT = {
    "predict raises": ("def predict(self, images):\n        raise ValueError('lost')", "accuracy: ValueError: lost"),
    "predict gives another shape": (
        "def predict(self, images):\n        return images[:, 0, :1, 0]",
        "accuracy: ValueError: predict() returned the shape (",
    ),
    "embed gives zeros": (
        "def embed(self, images):\n        return images.float().flatten(1) * 0",
        "kNN accuracy: HarnessError: nearest neighbours: a vector of zeros has no direction",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNFIT.values(), ids=UNFIT)
def test_an_accuracy_that_fails_costs_no_score(here, body, reason):
    protocol = named({"a": case(["0", "1"], near=["2"], far=["3"])})
    found = harness("run", "--protocol", protocol, "--method", plugin(body=body, uses_labels=True), code=1)
    for record in records():
        assert (record.status, list(record.scores)) == ("ok", ["L2"])
        assert (record.accuracy, record.knn_accuracy) == (None, {})
        assert record.reason.startswith(f"without {reason}")
        assert f"FAILED: {record.reason}" in found.err
    assert found.err.splitlines()[-1].startswith("2 evaluation(s) failed; the traceback is in results/failures/")
    assert "Traceback" in next(Path("results/failures").iterdir()).read_text()


def test_what_a_method_says_beside_its_scores_may_be_of_numpy(here):
    body = """
    def predict(self, images):
        return (images.float().mean((1, 2, 3)) > 80).long(){0}

    def embed(self, images):
        return images[:, 0].sum(2).float(){0}

    def logits(self, images):
        return images[:, 0].sum(2).float(){0}
"""
    for kind in ("", ".numpy()"):
        method = plugin(body=body.format(kind), uses_labels=True)
        words = ("--method", method, "--score", "Energy", "--results", f"results{kind}")
        harness("run", "--protocol", named({"a": case(["0", "1"], "3")}), *words)
    found = [
        [(one.scores, one.accuracy, one.knn_accuracy) for one in records(f"results{kind}")] for kind in ("", ".numpy()")
    ]
    assert found[0] == found[1]
    assert set(found[0][0][0]) == {"L2", "Energy"}
