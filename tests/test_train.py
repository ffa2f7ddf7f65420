"""The training engine: order and batches, losses, optimisers and schedules, what makes it faster, and scoring."""

import math
from functools import partial

import pytest
import torch
from small_training import IMAGES, LABELS, loss_of, net, recipe, run
from torch import nn

from harness.errors import Diverged, HarnessError
from harness.kit import numerics
from harness.kit.train import augment, in_batches, learning_rate, train_network
from harness.seeding import seeded


def test_every_image_is_seen_once_an_epoch():
    seen = []

    def loss(batch, index):
        assert module.training
        assert batch.shape == (len(index), 1, 8, 8)
        assert torch.allclose(batch, IMAGES[index].float() / 255)
        seen.append(index)
        return module(batch).square().mean(), torch.tensor(0.0)

    module = net().eval()
    train_network(module, IMAGES, loss, run(recipe=recipe(epochs=2)))
    assert torch.cat(seen).bincount(minlength=70).tolist() == [2] * 70
    assert {len(index) for index in seen} == {14}  # five equal parts, rather than four of 16 and a rest of 6
    assert not module.training


@pytest.mark.parametrize("share", [None, 0.25, torch.tensor(0.25)])
def test_a_loss_may_have_no_share_of_right_answers(tmp_path, share):
    module = net()

    def loss(batch, index):
        value = (module(batch) - 1).square().mean()
        return value if share is None else (value, share)

    for _ in range(2):  # trained, and then from its last checkpoint
        this = run(checkpoints=tmp_path, checkpoint_seconds=0)
        train_network(module, IMAGES, loss, this)
        assert this.notes.get("train_accuracy") == (None if share is None else 0.25)
        assert 0 < this.notes["train_loss"] < 1


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda value: value, r"Tensor of the shape \(14, 2\)"),
        (lambda value: (value, value.mean()), r"tuple of the shape \(14, 2\)"),
        (lambda value: (value.mean(), value), "tuple"),
        (lambda value: value.mean().item(), "float"),
        (lambda value: None, "NoneType"),
    ],
)
def test_what_is_no_loss_is_refused_with_the_mend(returned, said):
    module = net()
    with pytest.raises(HarnessError, match=f"the loss returns {said}.*; return one number as a tensor"):
        train_network(module, IMAGES, lambda batch, index: returned(module(batch)), run())


def test_the_order_of_the_images_is_drawn_anew_for_each_epoch_and_seed():
    def epochs(seed):
        module, seen = net(), []

        def loss(batch, index):
            seen.extend(index.tolist())
            return module(batch).square().mean(), torch.tensor(0.0)

        with seeded(seed):
            train_network(module, IMAGES, loss, run(recipe=recipe(epochs=2)))
        return seen[:70], seen[70:]

    orders = *epochs(1), *epochs(2)
    assert len({tuple(order) for order in orders}) == 4
    assert all(order != sorted(order) for order in orders)
    assert epochs(1) == orders[:2]


@pytest.mark.parametrize(("images", "batch", "sizes"), [(3, 2, [3]), (5, 2, [3, 2]), (7, 3, [3, 2, 2]), (1, 2, [1])])
def test_no_batch_is_of_one_image_where_there_are_more(images, batch, sizes):
    """Batch normalisation makes nothing of one whose features have one value a channel."""
    module, seen = net(), []

    def loss(batch, index):
        seen.append(len(index))
        return module(batch).square().mean(), torch.tensor(0.0)

    train_network(module, IMAGES[:images], loss, run(recipe=recipe(epochs=1, batch=batch)))
    assert seen == sizes


def test_a_loss_that_is_not_finite_ends_the_training():
    module = net()
    with pytest.raises(Diverged, match="nan after epoch 1"):
        train_network(module, IMAGES, lambda x, i: (module(x).sum() * math.nan, torch.tensor(0.0)), run())


@pytest.mark.parametrize(
    ("values", "optimizer", "rates"),
    [
        (
            {"lr": 0.1, "lr_end": 0.02, "weight_decay": 0.1},
            partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
            [0.02 + 0.04 * (1 + math.cos(math.pi * t / 5)) for t in range(6)],
        ),
        (
            {"optimizer": "adam", "lr": 0.01, "schedule": "constant", "momentum": 0.8, "weight_decay": 0.1},
            partial(torch.optim.Adam, betas=(0.8, 0.999), weight_decay=0.1),
            [0.01] * 6,
        ),
        (
            {"lr": 0.1, "schedule": "step", "step_epochs": 1, "step_factor": 0.5, "nesterov": False},
            partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4),
            [0.1, 0.1, 0.1, 0.05, 0.05, 0.05],
        ),
    ],
    ids=["sgd, cosine", "adam", "sgd, step"],
)
def test_every_step_is_one_of_the_recipe_s_optimiser_at_the_rate_of_its_schedule(values, optimizer, rates):
    def linear():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    trained, replayed, seen = linear(), linear(), []

    def loss(batch, index):
        seen.append((batch, index))
        return loss_of(trained)(batch, index)

    with seeded(5):
        train_network(trained, IMAGES, loss, run(recipe=recipe(epochs=2, batch=24, **values)))
    replay = optimizer(replayed.parameters(), lr=1)
    for (batch, index), rate in zip(seen, rates, strict=True):
        replay.param_groups[0]["lr"] = rate
        replay.zero_grad()
        nn.functional.cross_entropy(replayed(batch), LABELS[index]).backward()
        replay.step()
    for found, expected in zip(trained.parameters(), replayed.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_loss_and_accuracy_over_the_images_of_the_last_epoch_are_noted():
    module, sizes, this = net(), [], run(recipe=recipe(epochs=2, batch=24))

    def loss(batch, index):
        epoch = len(sizes) // 3
        sizes.append(len(index))
        return 0 * module(batch).sum() + 100 * epoch + index.float().mean(), LABELS[index].float().mean()

    train_network(module, IMAGES, loss, this)
    assert sizes == [24, 23, 23] * 2
    mean = {"train_loss": 100 + 34.5, "train_accuracy": int(LABELS.sum()) / 70}
    assert this.notes == pytest.approx(mean, rel=1e-5)


def test_learning_rates_follow_the_schedules():
    cosine = recipe(epochs=2, lr=0.1, lr_end=0.001)
    rates = [learning_rate(cosine, step, steps_per_epoch=3) for step in range(6)]
    expected = [0.001 + 0.0495 * (1 + math.cos(math.pi * t / 5)) for t in range(6)]
    assert rates == pytest.approx(expected)
    stairs = recipe(schedule="step", lr=0.1, step_epochs=10, step_factor=0.8, epochs=200)
    assert learning_rate(stairs, 199 * 4 + 3, steps_per_epoch=4) == pytest.approx(0.1 * 0.8**19)  # METHODS: 1.4e-3
    assert learning_rate(stairs, 9 * 4 + 3, 4) == 0.1
    assert learning_rate(stairs, 10 * 4, 4) == pytest.approx(0.08)
    assert learning_rate(recipe(schedule="constant"), 77, 4) == 0.05


def test_augmentation_crops_and_flips_each_image_for_itself():
    torch.manual_seed(0)
    same = IMAGES[:1].expand(64, -1, -1, -1)
    moved = augment(same, recipe(pad=1, flip=True))
    assert moved.shape == same.shape
    assert len({tuple(image.flatten().tolist()) for image in moved}) > 10
    assert torch.equal(augment(same, recipe()), same.float() / 255)
    assert augment(same, recipe(crop=0.75)).shape[-1] == 6


def test_around_an_image_that_is_moved_all_is_black():
    torch.manual_seed(0)
    moved = augment(torch.full((64, 1, 8, 8), 255, dtype=torch.uint8), recipe(pad=2))
    assert set(moved.unique().tolist()) == {0, 1}
    assert moved[..., 2:6, 2:6].min() == 1


@pytest.mark.parametrize("allowed", [(), ("fused",), ("channels_last",)])
def test_what_makes_training_faster_changes_it_by_rounding_alone(allowed):
    def trained(**more):
        module, this = net(), run(**more)
        with seeded(5):
            train_network(module, IMAGES, loss_of(module), this)
        return this, module

    usual, fast = trained()
    this, plain = trained(faster_by=allowed)
    assert {name: usual.numerics[name] for name in ("fused", "channels_last")} == {"fused": True, "channels_last": True}
    assert {name for name in ("fused", "channels_last") if this.numerics[name]} == set(allowed)
    assert plain[2].weight.is_contiguous() != ("channels_last" in allowed)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_bfloat16_can_be_turned_off_and_is_left_out_where_it_is_emulated(monkeypatch):
    half = recipe(epochs=1, precision="bfloat16")
    for has, allowed, precision, said in [
        (True, ("bfloat16",), "bfloat16", None),
        (True, (), "float32", None),
        (False, ("bfloat16",), "float32", "bfloat16, which this device would only emulate: trained in float32"),
    ]:
        monkeypatch.setattr(numerics, "has_bfloat16", lambda device, has=has: has)
        module, this = net(), run(recipe=half, faster_by=allowed)
        train_network(module, IMAGES, loss_of(module), this)
        assert (this.numerics["precision"], this.numerics.get("left_out")) == (precision, said)


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    module, this = net(), run(recipe=recipe(epochs=1), faster_by=("compile",))
    train_network(module, IMAGES, loss_of(module), this)
    assert this.numerics["compile"] is False
    assert this.numerics["left_out"] == "compile, for want of a C++ compiler (no-such-compiler)"


def test_a_compiled_training_leaves_the_module_as_it_was(monkeypatch):
    monkeypatch.setenv("CXX", "true")
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    module, this = net(), run(recipe=recipe(epochs=1), faster_by=("compile",))
    train_network(module, IMAGES, loss_of(module), this)
    assert compiled == [module]
    assert this.numerics["compile"] is True
    assert module._compiled_call_impl is None


def test_what_is_scored_is_the_centre_that_the_recipe_s_crop_leaves():
    found = in_batches(IMAGES, run(recipe=recipe(crop=0.75)), lambda x: {"mean": x.mean((1, 2, 3))})
    torch.testing.assert_close(found["mean"], IMAGES[:, :, 1:7, 1:7].float().mean((1, 2, 3)) / 255)


@pytest.mark.parametrize("size", [(4, 8), (8, 4)])
def test_where_nothing_is_cropped_images_need_not_be_square(size):
    images = IMAGES[:, :, : size[0], : size[1]]
    found = in_batches(images, run(), lambda x: {"mean": x.mean((1, 2, 3))})
    torch.testing.assert_close(found["mean"], images.float().mean((1, 2, 3)) / 255)


@pytest.mark.parametrize(("views", "expected"), [(1, [27, 27, 16]), (3, [9] * 7 + [7])])
def test_all_images_are_scored_in_their_order_by_batches_that_hold_all_views(monkeypatch, views, expected):
    monkeypatch.setattr("harness.kit.train.SCORED_ON_CPU", 27 * IMAGES[0].numel())
    sizes = []

    def score(x):
        sizes.append(len(x))
        return {"mean": x.mean((1, 2, 3))}

    found = in_batches(IMAGES, run(), score, views)
    assert sizes == expected
    torch.testing.assert_close(found["mean"], IMAGES.float().mean((1, 2, 3)) / 255)


def test_a_batch_too_large_for_the_device_is_scored_in_halves():
    sizes = []

    def score(x):
        sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"mean": x.mean((1, 2, 3))}

    most = 20
    found = in_batches(IMAGES, run(), score)
    assert sizes == [70, 35, 18, 17, 35, 18, 17]
    torch.testing.assert_close(found["mean"], IMAGES.float().mean((1, 2, 3)) / 255)
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(IMAGES[:2], run(), score)
