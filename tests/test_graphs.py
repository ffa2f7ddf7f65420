"""What of a network is recorded and replayed, with a recorder that writes into one place, as a CUDA graph does.

Where there is a GPU: that a training by CUDA graphs is the training without.
"""

import copy

import pytest
import torch
from torch import nn

from harness.environment import seeded
from harness.kit import graphs, network
from harness.kit.train import in_batches, train_network
from harness.method import Run
from harness.recipe import Recipe
from harness.spec import Params

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def untrained(name="wrn-10-1", channels=3, side=8):
    torch.manual_seed(0)
    return network(name, channels, side, 4, mean=(0.5,) * channels, std=(0.25,) * channels)


class InOnePlace(torch.autograd.Function):
    """The identity, whose values are where those of every other call are."""

    @staticmethod
    def forward(ctx, x, place):
        place[: len(x)] = x
        return place[: len(x)].detach()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.fixture
def replays(monkeypatch):
    """The sizes of the batches that were recorded, and of those that were replayed."""
    seen = {"recorded": [], "replayed": []}
    place = torch.empty(100, 4)

    def record(part, x):
        seen["recorded"].append(len(x))
        plain = part.forward
        plain(x), plain(x)

        def replay(x):
            seen["replayed"].append(len(x))
            return InOnePlace.apply(plain(x), place)

        return replay

    monkeypatch.setattr(graphs, "record", record)
    return seen


def test_the_first_training_call_of_a_step_is_replayed(replays):
    net, other = untrained(), untrained()
    one, two = torch.rand(2, 6, 3, 8, 8)

    def loss(batch, index):
        return net(batch), net(batch + 0.25)

    with graphs.replayed(net, loss, wanted=True) as step:
        results = [step(batch, None) for batch in (one, two, one[:5], two[:4])]
    assert replays == {"recorded": [6, 5], "replayed": [6, 6, 5]}  # of two sizes; a third is not recorded
    sum(value.square().mean() for pair in results for value in pair).backward()
    expected = [(other(x), other(x + 0.25)) for x in (one, two, one[:5], two[:4])]
    for pair, their in zip(results, expected, strict=True):
        for value, true in zip(pair, their, strict=True):
            torch.testing.assert_close(value, true)
    sum(value.square().mean() for pair in expected for value in pair).backward()
    for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for ours, theirs in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)  # batch norms have not counted what recording ran


def test_no_other_call_is_replayed(replays):
    net, images = untrained(), torch.rand(6, 3, 8, 8)

    def loss(batch, index):
        with torch.no_grad():
            net(batch)
        net(batch.clone().requires_grad_())
        net.eval()(batch)
        net.train()
        net.features(batch)

    with graphs.replayed(net, loss, wanted=True) as step:
        step(images, None)
    with graphs.replayed(net, lambda batch, index: net(batch), wanted=False) as step:
        step(images, None)
    assert replays == {"recorded": [], "replayed": []}


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.head.weight.requires_grad_(False),
        lambda net: next(net.body.children()).eval(),
        lambda net: setattr(net, "head", nn.Linear(net.head.in_features, 4)),
        lambda net: setattr(net.head.weight, "data", net.head.weight.data + 1),
    ],
    ids=["frozen", "in evaluation mode", "replaced", "of other values"],
)
def test_a_network_that_was_changed_is_recorded_again(replays, change):
    net, images = untrained(), torch.rand(6, 3, 8, 8)
    with graphs.replayed(net, lambda batch, index: net(batch), wanted=True) as step:
        step(images, None)
        step(images, None)
        change(net)
        step(images, None)
        step(images, None)
        assert replays == {"recorded": [6, 6], "replayed": [6] * 4}
        net.head.bias.requires_grad_(False)
        step(images, None)  # a third recording is one too many
    assert replays == {"recorded": [6, 6], "replayed": [6] * 4}


def test_hooks_are_called(replays):
    net, seen = untrained(), []

    def loss(batch, index):
        with_hook = net.head.register_forward_hook(lambda part, given, made: seen.append(made))
        net(batch)
        with_hook.remove()

    with graphs.replayed(net, loss, wanted=True) as step:
        step(torch.rand(6, 3, 8, 8), None)
    assert len(seen) == 1
    assert replays == {"recorded": [], "replayed": []}


def test_networks_are_as_they_were_afterwards(replays):
    net = untrained()
    whole = nn.ModuleDict({"backbone": net, "more": nn.Linear(4, 4)})

    def loss(batch, index):
        whole["more"](net(batch))
        raise ValueError("of a plugin")

    with pytest.raises(ValueError, match="of a plugin"), graphs.replayed(whole, loss, wanted=True) as step:
        step(torch.rand(6, 3, 8, 8), None)
    assert replays["replayed"] == [6]
    assert "forward" not in vars(net)
    copy.deepcopy(net)(torch.rand(2, 3, 8, 8))


def test_what_was_recorded_is_freed_at_once(monkeypatch):
    """Else it lies in the GPU's memory, and ends a process that is forked later, such as one that loads images."""
    freed = []

    class Recording:
        def __init__(self, network):
            self.plain, self.itself = network.forward, self

        def __call__(self, x):
            return self.plain(x)

        def __del__(self):
            freed.append(True)

    monkeypatch.setattr(graphs, "record", lambda network, x: Recording(network))
    net = untrained()
    with graphs.replayed(net, lambda batch, index: net(batch), wanted=True) as step:
        step(torch.rand(6, 3, 8, 8), None)
        assert not freed
    assert freed


def test_a_network_of_a_plugin_is_not_replayed(replays, monkeypatch):
    monkeypatch.setitem(graphs.Network.__init__.__globals__["BUILDERS"], "theirs", lambda c, s: (nn.Flatten(), 192))
    net = untrained("theirs")
    with graphs.replayed(net, lambda batch, index: net(batch), wanted=True) as step:
        step(torch.rand(6, 3, 8, 8), None)
    assert replays == {"recorded": [], "replayed": []}


def trained(name, twice=False, **values):
    """A network of some kind, trained on a GPU with batches of two sizes, and how."""
    channels, side = (1, 28) if name.startswith("two") else (3, 32)
    recipe = Recipe(network=name, lr=0.02, epochs=3, batch=50, flip=True, precision="float32")
    images = torch.randint(0, 256, (190, channels, side, side), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    labels = (torch.arange(190) % 4).to("cuda")
    run = Run("cuda:0", 0, recipe, Params(), **values)
    net = untrained(name, channels, side).to("cuda")

    def loss(batch, index):
        logits = net(batch)
        if twice:
            logits = logits + net(1 - batch)
        return nn.functional.cross_entropy(logits, labels[index]), (logits.argmax(1) == labels[index]).float().mean()

    with seeded(5):
        train_network(net, images, loss, run)
    return net, run


@on_gpu
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("name", ["two-conv", "two-conv-pooled", "wrn-10-1", "wrn-16-4", "resnet18", "resnet18-small"])
def test_a_training_by_cuda_graphs_is_that_without(name, twice):
    plain, by_hand = trained(name, twice, faster_by=())
    net, this = trained(name, twice, faster_by=("cuda_graphs",))
    assert (by_hand.numerics["cuda_graphs"], this.numerics["cuda_graphs"]) == (False, True)
    for (key, one), other in zip(plain.state_dict().items(), net.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@on_gpu
def test_tf32_is_for_those_who_allow_it():
    recipe = Recipe(network="wrn-10-1", lr=0.1, epochs=1, batch=10)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    net = untrained("wrn-10-1", 3, 32).to("cuda").eval()

    def scored(**values):
        run = Run("cuda:0", 0, recipe, Params(), **values)
        return in_batches(images, run, lambda x: {"first": net(x)[:, 0]})["first"]

    exact, again, rounded = scored(faster_by=()), scored(faster_by=()), scored()
    assert torch.equal(exact, again)
    assert 0 < (exact - rounded).abs().max() < 0.1
