"""A training that was killed goes on as if nothing had happened, or begins anew where it can't."""

import random

import numpy as np
import pytest
import torch
from small_training import IMAGES, LABELS, loss_of, net, recipe, run
from torch import nn

from harness.kit import checkpoint
from harness.kit.train import cross_entropy, train_network
from harness.seeding import seeded


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
