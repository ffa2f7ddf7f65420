"""The engine beside the loop of method repositories: the same network, images, epochs and batch, in images/s."""

from __future__ import annotations

import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor

import pytest
import reference
import torch
from shaped import ANOMALY, NORMAL, digits, recipe_of, trained, untrained
from sklearn.metrics import roc_auc_score

from harness import kit
from harness.kit import numerics

SEEDS = 3
BOTH = pytest.mark.parametrize(("name", "n", "epochs"), [("subcluster", 3000, 2), ("rotnet", 600, 3)])
DATASETS = {"subcluster": reference.Classified, "rotnet": reference.Turned}


def normalised(images: torch.Tensor):
    pixels = images.float() / 255
    return reference.to_network(pixels.mean().item(), pixels.std().item())


def processes(n: int, threads: int) -> ProcessPoolExecutor:
    """So many of their own, since the engine has a process keep the memory that it frees."""
    return ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), torch.set_num_threads, [threads])


@BOTH
def test_training_and_its_auroc(beside, also, name, n, epochs):
    recipe = recipe_of(name, epochs=epochs)
    images, labels = digits("train", NORMAL, n)
    shown, outputs, views = (labels, 5, 1) if name == "subcluster" else (None, 4, 4)
    dataset = DATASETS[name]
    data = dataset(images, labels, normalised(images))
    ours, theirs = [], []  # a fit for each seed

    def engine():
        ours.append(trained(name, images, shown, len(ours), recipe))

    other = processes(1, torch.get_num_threads())

    def loop():
        theirs.append(other.submit(reference.trained, recipe, outputs, data, len(theirs)).result())

    # The floor: as many steps on one batch that is there already.
    method, run = untrained(name, images, 0, recipe, outputs if shown is not None else None)
    chosen, bare = numerics.choose(run), method.network.train().to(memory_format=numerics.layout(run))
    optimizer = torch.optim.Adam(bare.parameters(), lr=recipe.lr, fused=True)
    batch = kit.train.pixels(images[: recipe.batch].repeat(views, 1, 1, 1))
    answers = torch.arange(len(batch)) % outputs

    def arithmetic():
        for _ in range(epochs * round(n / recipe.batch)):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=chosen.bfloat16):
                loss = torch.nn.functional.cross_entropy(bare(batch), answers)
            loss.backward()
            optimizer.step()

    with other:
        other.submit(reference.trained, recipe, outputs, torch.utils.data.Subset(data, range(50)), 0).result()
        references = {"DataLoader loop": loop, "bare arithmetic": arithmetic}
        beside(f"train {name}", engine, references, n * epochs, rounds=SEEDS)

    test = torch.cat([digits("test", classes, 250)[0] for classes in (NORMAL, ANOMALY)])
    anomalous = torch.arange(len(test)) >= 250
    as_theirs = dataset(test, anomalous, normalised(images))
    aurocs = [roc_auc_score(anomalous, fitted.score(test)["MAX"]) for fitted in ours]
    others = [roc_auc_score(anomalous, reference.max_softmax(net, as_theirs, 250)) for net in theirs]
    also(f"AUROC {name}, MAX", aurocs, "DataLoader loop", others)
    noise = (statistics.variance(aurocs) / SEEDS + statistics.variance(others) / SEEDS) ** 0.5
    assert abs(statistics.fmean(aurocs) - statistics.fmean(others)) < 4 * noise + 0.01


def engine_alone(name: str, n: int, epochs: int, seed: int) -> None:
    images, labels = digits("train", NORMAL, n)
    trained(name, images, labels if name == "subcluster" else None, seed, recipe_of(name, epochs=epochs))


@BOTH
def test_two_fits_on_two_cores(beside, name, n, epochs):
    """As `harness run` carries them out, beside the loops in turn, with both cores, and beside two loops at once."""
    recipe, outputs = recipe_of(name, epochs=epochs), 5 if name == "subcluster" else 4
    images, labels = digits("train", NORMAL, n)
    data = DATASETS[name](images, labels, normalised(images))

    def all_of(pool, task, *given):
        for done in [pool.submit(task, *given, seed) for seed in (0, 1)]:
            done.result()

    with processes(2, 1) as ours, processes(1, 2) as in_turn, processes(2, 1) as at_once:
        calls = {
            "two fits": lambda: all_of(ours, engine_alone, name, n, epochs),
            "DataLoader loops in turn": lambda: all_of(in_turn, reference.trained, recipe, outputs, data),
            "DataLoader loops at once": lambda: all_of(at_once, reference.trained, recipe, outputs, data),
        }
        for call in calls.values():
            call()  # every process imports what it needs
        engine = calls.pop("two fits")
        beside(f"train {name}, two fits at once", engine, calls, 2 * n * epochs)


def test_scoring_of_36_views(beside):
    recipe, n = recipe_of("ssl", network="two-conv-pooled"), 200
    images, labels = digits("test", NORMAL, n)
    method, _ = untrained("ssl", images, 0, recipe)
    method.network.eval()
    net = reference.plain_network(recipe, 10)
    net.load_state_dict(method.network.state_dict() | {"mean": net.mean, "std": net.std})
    mean, std = method.network.mean.item(), method.network.std.item()
    data = reference.Viewed(images, labels, reference.to_network(mean, std))
    found = {}

    def engine():
        found["ours"] = method.score(images)

    def loop():
        found["theirs"] = reference.uniform_divergence(net, data, 64, (slice(0, 3), slice(3, 6), slice(6, 10)))

    beside("score SSL, 36 views", engine, {"DataLoader loop": loop}, n)
    for name, values in found["theirs"].items():
        torch.testing.assert_close(found["ours"][name].float(), values, rtol=1e-4, atol=1e-4)
