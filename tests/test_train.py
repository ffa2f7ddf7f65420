"""The training engine: schedules, and going on after a kill as if nothing had happened."""

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import Diverged, HarnessError
from harness.kit import checkpoint, numerics
from harness.kit.train import augment, cross_entropy, in_batches, learning_rate, train_network
from harness.method import Run
from harness.recipe import Recipe
from harness.seeding import seeded
from harness.spec import Params

IMAGES = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.float().mean((1, 2, 3)) > 127).long()


def recipe(**values):
    return Recipe(**{"network": "two-conv", "lr": 0.05, "epochs": 6, "batch": 16, "precision": "float32"} | values)


def run(**values):
    return Run("cpu", 0, values.pop("recipe", recipe()), Params(), **values)


def net():
    torch.manual_seed(1)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 2)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def loss_of(module):
    def loss(batch, index):
        logits = module(batch)
        right = (logits.argmax(1) == LABELS[index]).float().mean()
        return nn.functional.cross_entropy(logits, LABELS[index]), right

    return loss


class Killed(BaseException):
    pass


@pytest.mark.parametrize("values", [{}, {"optimizer": "adam", "lr": 0.01}, {"momentum": 0}])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, values):
    made = recipe(**values)
    whole = net()

    def drawn(module):
        """A loss that draws from every generator that a run seeds; the net's dropout does from PyTorch's."""

        def loss(batch, index):
            value, right = loss_of(module)(batch, index)
            return value + np.random.rand() * random.random() * module[0].weight.sum(), right

        return loss

    with seeded(5):
        train_network(whole, IMAGES, drawn(whole), run(recipe=made))

    def die(epoch, epochs, loss):
        if epoch == 3:
            raise Killed

    def attempt(**more):
        module = net()
        this = run(recipe=made, checkpoints=tmp_path, checkpoint_seconds=0, **more)
        with seeded(5):
            train_network(module, IMAGES, drawn(module), this)
        return module, this

    with pytest.raises(Killed):
        attempt(progress=die)
    seen = []
    resumed, this = attempt(progress=lambda epoch, epochs, loss: seen.append(epoch))
    assert seen == [3, 4, 5, 6]  # where it goes on from, then each epoch
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    seen.clear()
    again, noted = attempt(progress=lambda epoch, epochs, loss: seen.append(epoch))
    assert seen == [6], "a finished training is not trained again"
    assert noted.notes == this.notes
    assert 0 < this.seconds_before < noted.seconds_before
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_training_that_goes_on_elsewhere_says_where_it_was_begun(tmp_path):
    def attempt(machine, **more):
        module, this = (
            net(),
            run(checkpoints=tmp_path, checkpoint_seconds=0, provenance=[{"processor": machine}], **more),
        )
        train_network(module, IMAGES, loss_of(module), this)
        return [one["processor"] for one in this.provenance]

    for last, machine in enumerate(("a", "a", "b"), 1):

        def die(epoch, epochs, loss, last=last):
            if epoch == last:
                raise Killed

        with pytest.raises(Killed):
            attempt(machine, progress=die)
    assert attempt("c") == ["a", "b", "c"]


def flipped(content: bytes) -> bytes:
    """With another bit in the middle, where weights are."""
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


@pytest.mark.parametrize("damage", ["half a file", "another bit", "nothing", "of another network"])
def test_a_damaged_checkpoint_is_not_used(tmp_path, damage):
    path = tmp_path / "1.checkpoint"
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    train_network(other, IMAGES, loss_of(other), run(checkpoints=tmp_path, checkpoint_seconds=0))
    content = path.read_bytes()
    path.write_bytes(
        {"half a file": content[:-100], "another bit": flipped(content), "nothing": b""}.get(damage, content)
    )
    module, whole, seen = net(), net(), []
    this = run(checkpoints=tmp_path, checkpoint_seconds=0, progress=lambda epoch, *_: seen.append(epoch))
    with seeded(5):
        train_network(module, IMAGES, loss_of(module), this)
    assert seen == [1, 2, 3, 4, 5, 6]
    with seeded(5):
        train_network(whole, IMAGES, loss_of(whole), run())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), module.parameters(), strict=True))


def test_a_training_whose_checkpoints_can_not_be_written_says_so_once_and_goes_on(tmp_path, capsys):
    def trained(**values):
        module = net()
        with seeded(5):
            train_network(module, IMAGES, loss_of(module), run(**values))
        return module.state_dict()

    whole = trained()
    (tmp_path / "file").touch()  # where a folder should be
    assert all(map(torch.equal, whole.values(), trained(checkpoints=tmp_path / "file", checkpoint_seconds=0).values()))
    (line,) = capsys.readouterr().err.splitlines()
    assert "file: no checkpoint can be written there" in line
    assert line.endswith("; training goes on without")


def test_weights_that_are_tied_are_kept(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    checkpoint.save(tmp_path / "a", module, optimizer, {}, "")
    before = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.zero_()
    assert checkpoint.load(tmp_path / "a", module, optimizer, "") == {}
    assert torch.equal(module[1].weight, before)


def test_a_training_with_other_labels_begins_anew(tmp_path):
    """As where k-means finds other clusters the second time: the weights of the first are of another task."""

    def attempt(labels, **values):
        module, seen = net(), []

        def loss(batch, index):
            return cross_entropy(module(batch), labels[index])

        with seeded(5):
            train_network(module, IMAGES, loss, run(progress=lambda epoch, *_: seen.append(epoch), **values))
        return module, seen

    first, again = LABELS, 1 - LABELS
    attempt(first, recipe=recipe(epochs=3), checkpoints=tmp_path, checkpoint_seconds=0)
    assert attempt(first.clone(), checkpoints=tmp_path)[1] == [3, 4, 5, 6]
    resumed, seen = attempt(again, checkpoints=tmp_path)
    assert seen == [1, 2, 3, 4, 5, 6]
    whole, _ = attempt(again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_training_with_other_numerics_begins_anew(tmp_path):
    """Or the record would say of the whole training what holds of its end alone."""

    def attempt(**values):
        module, seen = net(), []
        with seeded(5):
            made = run(progress=lambda epoch, *_: seen.append(epoch), checkpoints=tmp_path, **values)
            train_network(module, IMAGES, loss_of(module), made)
        return seen

    attempt(recipe=recipe(epochs=3), checkpoint_seconds=0)
    assert attempt(faster_by=("channels_last",)) == [1, 2, 3, 4, 5, 6]
    assert attempt() == [3, 4, 5, 6]


def test_a_gpu_of_another_number_goes_on_with_the_same_draws(tmp_path, monkeypatch):
    states = {torch.device("cuda:0"): torch.tensor([1, 2]).byte(), torch.device("cuda:1"): torch.tensor([7, 7]).byte()}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: state}))
    module = net()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    monkeypatch.setattr(checkpoint, "_device", lambda module: torch.device("cuda:0"))
    checkpoint.save(tmp_path / "a", module, optimizer, {}, "")
    monkeypatch.setattr(checkpoint, "_device", lambda module: torch.device("cuda:1"))
    assert checkpoint.load(tmp_path / "a", module, optimizer, "") == {}
    assert states[torch.device("cuda:1")].tolist() == [1, 2]


def test_whatever_a_loss_closes_over_is_looked_at_if_it_can_be():
    many = torch.arange(12).reshape(6, 2)
    column, spread, one, real = many[:, 0], torch.tensor([3]).expand(4), torch.tensor(1), torch.rand(3)
    sparse, other = torch.eye(2).long().to_sparse(), torch.tensor(2)

    def digest(*tensors):
        def loss(batch, index):
            return tensors, late

        if not tensors:
            late = None
        return checkpoint.closed_over(loss)

    def with_one(value):
        return checkpoint.closed_over(lambda: value)

    assert digest(many) == digest(many)  # in a tuple nothing is seen, and `late` is nothing yet
    seen = [with_one(value) for value in (many, column, spread, one, other, column > 3)]
    assert len(set(seen)) == len(seen)
    assert with_one(column.clone()) == with_one(column)
    assert with_one(real) == with_one(sparse) == with_one("nothing") == checkpoint.closed_over(print)


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
