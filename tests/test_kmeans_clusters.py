"""Sub-clusters without labels: what k-means finds is what the classifier is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from tiny import harness, plugin

from harness import Images, Run
from harness.kit import kmeans
from harness.plugins import Plugins
from harness.records import Store
from harness.testing.toy import RECIPE

FAST = ("--set", "recipe.epochs=6", "--set", "recipe.network=two-conv-pooled")
TEST5 = ("run", "--protocol", "test5", "--method", "subcluster", *FAST)


def found(**wanted):
    records = [one for one in Store(Path("results")).records() if one.method == "subcluster"]
    return [one for one in records if all(getattr(one, key) == value for key, value in wanted.items())]


def test_the_proposal_runs_where_labels_are_withheld(here):
    harness(*TEST5)
    assert {(one.status, one.reason) for one in found()} == {("skipped", "labels are withheld")}
    harness(*TEST5, "--set", "subcluster.clusters=kmeans:4")
    scored = found(status="ok")
    assert scored
    for one in scored:
        assert one.labels is False
        assert one.accuracy is None
        assert one.scores["MAX"].auroc > 0.6
        assert one.diagnostics["smallest_cluster"] > 0


def test_on_the_embedding_of_another_method(here):
    harness(*TEST5, "--set", "subcluster.clusters=kmeans:3:isif")
    assert found(status="ok")
    # A fit that is loaded again needs neither the embedding nor the training images.
    fits = len(list(Path("results/fits").glob("*.json")))
    for path in Path("results/records").rglob("*.json"):
        path.unlink()
    err = harness(*TEST5, "--set", "subcluster.clusters=kmeans:3:isif").err
    assert "already trained" in err
    assert len(list(Path("results/fits").glob("*.json"))) == fits


class ByRemainder:
    """Embeds images that show their number so that only its remainder counts."""

    def embed(self, images):
        return torch.nn.functional.one_hot(images[:, 0, 0, 0].long() % 3) + images[:, 0, 0, :1] / 5000


class Oracle(torch.nn.Module):
    """A network that knows the answers, by the number that an image shows."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.sure = answers, torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.sure * torch.nn.functional.one_hot(self.answers[(x[:, 0, 0, 0] * 255).round().long()])


@pytest.mark.parametrize("embedder", ["", ":mine"])
def test_clusters_found_are_the_labels_that_the_network_learns(embedder):
    number = torch.cat([torch.arange(10), torch.arange(100, 120), torch.arange(200, 230)])
    images = number.byte().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    vectors = ByRemainder().embed(images) if embedder else images.flatten(1).float() / 255
    found, _ = kmeans(vectors, 3, seed=3)
    assert adjusted_rand_score(number % 3 if embedder else number // 100, found) == 1

    cls = Plugins().get("method", "subcluster")
    method = cls(cls.Params(clusters=f"kmeans:3{embedder}"))
    method.network = Oracle(torch.zeros(256, dtype=torch.int64).index_put((number,), found))
    run = Run("cpu", 3, RECIPE, method.params, fitted=lambda name, given: {"mine": ByRemainder()}[name])
    method.fit(Images(images, torch.zeros_like(number)), run)
    assert run.notes["train_accuracy"] == 1
    assert run.notes["smallest_cluster"] == found.bincount().min()


@pytest.mark.parametrize("value", ["kmeans", "kmeans:1", "kmeans:x", "kmean:5", "kmeans:5:", ""])
def test_what_is_no_way_to_find_clusters_is_refused(here, value):
    line = harness(*TEST5, "--set", f"subcluster.clusters={value}", code=2).line
    assert "clusters" in line
    assert "kmeans:K:METHOD" in line


EMBEDDER = """
    def build(self, task, run):
        import torch
        self.drop = torch.nn.Dropout(0.5)

    def embed(self, images):
        import torch
        assert not self.drop.training
        return images.flatten(1).float() * {factor}
"""


def test_a_record_turns_stale_with_the_code_of_the_method_that_embeds(here):
    mine = plugin("mine", body=EMBEDDER.format(factor=1))
    words = ("--protocol", "test2", "--case", "1", "--method", "lof", "--plugins", mine, "--set", "lof.on=mine")
    harness("run", *words)
    (before,) = Store(Path("results")).records()
    assert harness("plan", *words).statuses == ["done"]
    plugin("mine", body=EMBEDDER.format(factor="torch.linspace(0, 1, 64)"))
    assert harness("plan", *words).statuses == ["stale: fitted mine changed"]
    harness("run", *words)
    (after,) = Store(Path("results")).records()
    assert after.scores["LOF"].auroc != before.scores["LOF"].auroc
    assert after.fit == before.fit  # what was asked for is the same


def test_a_method_that_no_parameter_names_is_not_fitted_for_another(here):
    mine = plugin("mine", fit="self.mean = run.fitted('lof', train.images)")
    err = harness("run", "--protocol", "test2", "--case", "1", "--method", mine, code=1).err
    assert "no parameter names that method" in err


def test_an_embedding_that_is_none_fails_with_its_reason(here):
    mine = plugin("mine")
    err = harness(*TEST5, "--plugins", mine, "--set", "subcluster.clusters=kmeans:3:mine", code=1).err
    assert "the method 'mine' has no embed(); try isif" in err
    err = harness(*TEST5, "--set", "subcluster.clusters=kmeans:3:nothing", code=1).err
    assert "no method is called 'nothing'" in err


def test_more_clusters_than_images_fail_with_their_reason(here):
    err = harness(*TEST5, "--set", "subcluster.clusters=kmeans:5000", code=1).err
    assert "into 5000 clusters: choose from 1 to" in err
