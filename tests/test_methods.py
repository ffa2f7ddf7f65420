"""The scores of the bundled methods, against plain float64 formulas on a network that is given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.fitting import task_of
from harness.plugins import Plugins

PLUGINS = Plugins()
RECIPE = harness.Recipe(network="two-conv", lr=0.1, epochs=1, batch=8, precision="float32")
SIDE = 8


class Linear(nn.Module):
    """Logits W x + b, in double precision, whose gradients are known."""

    def __init__(self, outputs: int, channels: int):
        super().__init__()
        rng = np.random.default_rng(outputs)
        self.w, self.b = rng.normal(size=(outputs, channels * SIDE * SIDE)), rng.normal(size=outputs)
        self.weight = nn.Parameter(torch.from_numpy(self.w))

    def forward(self, x):
        return x.double().flatten(1) @ self.weight.T + torch.from_numpy(self.b)

    def logits(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) @ self.w.T + self.b

    def stepped(self, x: np.ndarray, temperature: float, epsilon: float) -> np.ndarray:
        """ODIN's logits at the temperature: the step goes against the gradient of the predicted class's loss."""
        p = softmax(self.logits(x) / temperature)
        p[np.arange(len(p)), p.argmax(1)] -= 1
        gradient = (p @ self.w / temperature).reshape(x.shape)
        return self.logits(x - epsilon * np.sign(gradient)) / temperature


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def made(name: str, outputs: int, images: torch.Tensor, **params):
    """A method as after `build`, with the linear network in place of its own."""
    cls = PLUGINS.get("method", name)
    method = cls(cls.Params(**params))
    recipe = RECIPE.model_copy(update={"crop": SIDE / images.shape[-1]})
    method.build(task_of(images, 3 if cls.uses_labels else None), harness.Run("cpu", 0, recipe, method.params))
    assert method.network(images[:2, :, :SIDE, :SIDE] / 255).shape == (2, outputs)
    method.network = Linear(outputs, images.shape[1])
    return method


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def images(request):
    return torch.randint(256, (12, request.param, SIDE, SIDE), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture(params=[0, 2], ids=["whole", "cropped"])
def framed(images, request):
    """The images, with other pixels around them that the recipe's crop takes away again."""
    margin, side = request.param, SIDE + 2 * request.param
    around = torch.randint(256, (*images.shape[:2], side, side), dtype=torch.uint8, generator=torch.manual_seed(1))
    around[:, :, margin : margin + SIDE, margin : margin + SIDE] = images
    return around


def assert_scores(method, images, **expected: np.ndarray) -> None:
    scores = method.score(images)
    assert set(scores) == set(method.scores) == set(expected)
    for name, values in expected.items():
        assert scores[name].dtype == torch.float64
        np.testing.assert_allclose(scores[name], values, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(scores[name].argsort(), np.argsort(values))


# --- sub-clusters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "epsilon"), [(1000.0, 0.0014), (10.0, 0.05), (1.0, 0.0)])
def test_subcluster_scores_by_max_and_odin(images, framed, temperature, epsilon):
    method = made("subcluster", 3, framed, temperature=temperature, epsilon=epsilon)
    x = images.numpy() / 255
    p, q = softmax(method.network.logits(x)).max(1), softmax(method.network.stepped(x, temperature, epsilon)).max(1)
    assert_scores(method, framed, MAX=-np.log(p), ODIN=np.log((1 - q) / q) - np.log(2))
    np.testing.assert_array_equal(method.predict(framed), method.network.logits(x).argmax(1))


# --- RotNet ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["max", "true", "upright"])
def test_rotnet_averages_over_the_four_rotations(images, framed, aggregate):
    temperature, epsilon = 10.0, 0.02
    method = made("rotnet", 4, framed, temperature=temperature, epsilon=epsilon, aggregate=aggregate)
    x = images.numpy() / 255
    found = {"MAX": [], "ODIN": []}
    for turn in range(1 if aggregate == "upright" else 4):
        view = np.rot90(x, turn, axes=(2, 3))
        for name, logits in (
            ("MAX", method.network.logits(view)),
            ("ODIN", method.network.stepped(view, temperature, epsilon)),
        ):
            p = softmax(logits)
            found[name].append(p[:, turn] if aggregate == "true" else p.max(1))
    assert_scores(method, framed, **{name: -np.mean(values, 0) for name, values in found.items()})


def test_rotnet_s_odin_does_not_tie_at_its_own_temperature(images):
    scores = made("rotnet", 4, images).score(images)
    assert len(scores["ODIN"].unique()) == len(images)


# --- SSL -------------------------------------------------------------------------------------------------------------


def shifted(x: np.ndarray, right: int, down: int, mode: str) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), mode=mode)
    return padded[:, :, 4 - down : 4 - down + SIDE, 4 - right : 4 - right + SIDE]


@pytest.mark.parametrize("params", [{}, {"shift": 3}, {"border": "reflect"}, {"border": "zero"}, {"views": "upright"}])
def test_ssl_averages_over_the_thirty_six_views(images, framed, params):
    method = made("ssl", 10, framed, **params)
    x = images.numpy() / 255
    step = params.get("shift", SIDE // 4)
    mode = {"zero": "constant"}.get(params.get("border", "zero" if images.shape[1] == 1 else "reflect"), "reflect")
    views = [(1, 1, 0)] if params.get("views") == "upright" else list(itertools.product(range(3), range(3), range(4)))
    kl, true = np.zeros(len(x)), np.zeros(len(x))
    for across, down, turn in views:
        view = np.rot90(shifted(x, (across - 1) * step, (down - 1) * step, mode), turn, axes=(2, 3))
        logits = method.network.logits(view)
        for head, answer in ((logits[:, :3], across), (logits[:, 3:6], down), (logits[:, 6:], turn)):
            p = softmax(head)
            uniform = 1 / p.shape[1]
            kl += (uniform * np.log(uniform / p)).sum(1)  # KL(U || p)
            true += p[:, answer]
    assert_scores(method, framed, KL=-kl / len(views), TrueProb=-true / len(views))


# --- what they train on ----------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Keeps the batches that it is given, and learns nothing."""

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs, self.batches = outputs, []
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.batches.append((x.detach() * 255).round().to(torch.uint8))
        return self.weight * torch.ones(len(x), self.outputs)


def trained_on(name: str, outputs: int, images: torch.Tensor, monkeypatch, labels=None, **params):
    """The batches that a method's network is given while it is fitted, with the answers that it is asked for."""
    method = made(name, outputs, images, **params)
    method.network = Recorder(outputs)
    answers = []
    real = harness.kit.cross_entropy

    def recorded(logits, target):
        answers.append(target.clone())
        return real(logits, target)

    monkeypatch.setattr("harness.kit.train.cross_entropy", recorded)
    torch.manual_seed(0)
    method.fit(harness.Images(images, labels), harness.Run("cpu", 0, RECIPE, method.params))
    return method.network.batches, answers


def test_subcluster_learns_the_labels_of_the_images(images, monkeypatch):
    labels = torch.arange(len(images)) % 3
    batches, answers = trained_on("subcluster", 3, images, monkeypatch, labels)
    seen = {image.numpy().tobytes(): int(label) for batch, answer in zip(batches, answers, strict=True)
            for image, label in zip(batch, answer, strict=True)}  # fmt: skip
    assert seen == {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


def test_rotnet_learns_all_four_rotations_of_an_image_in_one_batch(images, monkeypatch):
    batches, answers = trained_on("rotnet", 4, images, monkeypatch)
    assert len(batches) > 1
    originals = {image.numpy().tobytes() for image in images}
    for batch, answer in zip(batches, answers, strict=True):
        assert answer.bincount().tolist() == [len(batch) // 4] * 4
        turned = [np.rot90(image.numpy(), -int(turn), axes=(1, 2)).copy().tobytes()
                  for image, turn in zip(batch, answer, strict=True)]  # fmt: skip
        assert set(turned) <= originals
        assert all(turned.count(one) == 4 for one in turned)


def test_ssl_learns_the_shift_and_rotation_of_an_image(images, monkeypatch):
    batches, answers = trained_on("ssl", 10, images, monkeypatch, border="zero")
    originals = {}
    for image in images.numpy():
        for across, down, turn in itertools.product(range(3), range(3), range(4)):
            view = shifted(image[None], (across - 1) * 2, (down - 1) * 2, "constant")
            originals[np.rot90(view, turn, axes=(2, 3))[0].copy().tobytes()] = (across, down, turn)
    truths = zip(*[iter(answers)] * 3, strict=True)
    seen = []
    for batch, truth in zip(batches, truths, strict=True):
        for image, *answer in zip(batch, *truth, strict=True):
            assert originals[image.numpy().tobytes()] == tuple(map(int, answer))
            seen.append(tuple(map(int, answer)))
    assert len(seen) == 4 * len(images)
    assert {turn for _, _, turn in seen} == {0, 1, 2, 3}
    assert {across for across, _, _ in seen} == {down for _, down, _ in seen} == {0, 1, 2}


# --- where they apply ------------------------------------------------------------------------------------------------


def test_only_subcluster_needs_clusters():
    assert {name: PLUGINS.get("method", name).uses_labels for name in ("subcluster", "rotnet", "ssl")} == {
        "subcluster": True,
        "rotnet": False,
        "ssl": False,
    }
    subcluster = PLUGINS.get("method", "subcluster")
    assert "two" in subcluster.skip(1, subcluster.Params())
    assert "withheld" in subcluster.skip(None, subcluster.Params())
    assert subcluster.skip(2, subcluster.Params()) is None
    for name in ("rotnet", "ssl"):
        cls = PLUGINS.get("method", name)
        assert cls.skip(1, cls.Params()) is cls.skip(None, cls.Params()) is None
