"""What of a network is recorded and replayed, with a recorder that writes into one place, as a CUDA graph does.

Where there is a GPU: that a training by CUDA graphs is the training without.
"""

import copy

import pytest
import torch
from torch import nn

from harness.errors import HarnessError
from harness.kit import graphs, network
from harness.kit.graphs import Replays
from harness.kit.train import in_batches, train_network
from harness.method import Run
from harness.recipe import Recipe
from harness.seeding import seeded
from harness.spec import Params

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
IMAGES = torch.rand(6, 3, 8, 8)


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
    kept = []

    def loss(batch, index):
        with torch.no_grad():
            net(batch)  # goes nowhere
        first, second = net(batch), net(batch + 0.25)
        kept.append(first.detach())
        return first.square().mean() - second.square().mean()

    with Replays(net, loss, wanted=True) as step:
        for batch in (one, two, one[:5], two[:4]):
            step(batch, None).backward()
    assert replays == {"recorded": [6, 5], "replayed": [6, 6, 5]}  # of two sizes; a third is not recorded
    for batch, mine in zip((one, two, one[:5], two[:4]), kept, strict=True):
        with torch.no_grad():
            other(batch)
        first, second = other(batch), other(batch + 0.25)
        (first.square().mean() - second.square().mean()).backward()
        torch.testing.assert_close(mine, first)
    for (name, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for ours, theirs in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)  # batch norms have not counted what recording ran


CALLS = {
    "with a gradient of its input": lambda net, x: net(x.clone().requires_grad_()),
    "in evaluation mode": lambda net, x: (net.eval()(x), net.train()),
    "of features alone": lambda net, x: net.features(x),
    "without gradients": lambda net, x: torch.no_grad()(net)(x),
    "after another": lambda net, x: (net(x.clone().requires_grad_()), net(x)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_other_call_is_replayed(replays, call):
    net = untrained()
    with Replays(net, lambda batch, index: call(net, batch), wanted=True) as step:
        step(IMAGES, None)
    assert not step.used
    assert replays == {"recorded": [], "replayed": []}


def test_nothing_is_replayed_unasked(replays):
    net = untrained()
    with Replays(net, lambda batch, index: net(batch), wanted=False) as step:
        step(IMAGES, None)
    assert not step.used


CHANGES = {
    "frozen": lambda net: net.head.weight.requires_grad_(False),
    "in evaluation mode": lambda net: next(net.body.children()).eval(),
    "replaced": lambda net: setattr(net, "head", nn.Linear(net.head.in_features, 4)),
    "of other values": lambda net: setattr(net.head.weight, "data", net.head.weight.data + 1),
    "of another momentum": lambda net: setattr(net.body[-3], "momentum", 0.5),
    "of another method": lambda net: setattr(net, "features", net.features),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_network_that_was_changed_is_recorded_again(replays, change):
    net = untrained()
    with Replays(net, lambda batch, index: net(batch), wanted=True) as step:
        step(IMAGES, None)
        step(IMAGES, None)
        change(net)
        step(IMAGES, None)
        step(IMAGES, None)
        assert replays == {"recorded": [6, 6], "replayed": [6] * 4}
        net.head.bias.requires_grad_(False)
        step(IMAGES, None)  # a third recording is one too many
    assert replays == {"recorded": [6, 6], "replayed": [6] * 4}


HOOKS = {
    "of a part": lambda net, seen: net.head.register_forward_hook(lambda *_: seen.append(1)),
    "of a gradient": lambda net, seen: net.head.bias.register_hook(lambda gradient: seen.append(1)),
    "of all modules": lambda net, seen: nn.modules.module.register_module_forward_hook(lambda *_: seen.append(1)),
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_hooks_are_called(replays, hook):
    net, seen = untrained(), []
    with Replays(net, lambda batch, index: net(batch).sum(), wanted=True) as step:
        step(IMAGES, None).backward()
        assert replays["replayed"] == [6]
        added = hook(net, seen)
        try:
            step(IMAGES, None).backward()
        finally:
            added.remove()
    assert seen
    assert replays["replayed"] == [6]


def twice(net, x):
    one = net(x)
    torch.autograd.grad(one[:, 0].sum(), net.head.bias, retain_graph=True)
    return one.sum()


def penalised(net, x):
    one = net(x).square().sum()
    (slope,) = torch.autograd.grad(one, net.head.bias, create_graph=True)
    return one + slope.square().sum()


KEPT = []


def of_two_steps(net, x):
    KEPT.append(net(x))
    return sum(KEPT).sum()


@pytest.mark.parametrize("loss", [twice, penalised, of_two_steps])
def test_what_would_go_backward_wrongly_is_refused(replays, loss):
    net = untrained()

    def train(step):
        for _ in range(2):
            step(IMAGES, None).backward(retain_graph=True)

    told = pytest.raises(HarnessError, match="--faster-by bfloat16,channels_last,fused,tf32")
    with Replays(net, lambda batch, index: loss(net, batch), wanted=True) as step, told:
        train(step)


def test_networks_are_as_they_were_afterwards(replays):
    net = untrained()
    whole = nn.ModuleDict({"backbone": net, "more": nn.Linear(4, 4)})
    copies = []

    def loss(batch, index):
        whole["more"](net(batch))
        copies.append(copy.deepcopy(net))
        raise ValueError("of a plugin")

    with pytest.raises(ValueError, match="of a plugin"), Replays(whole, loss, wanted=True) as step:
        step(IMAGES, None)
    assert replays["replayed"] == [6]
    assert "forward" not in vars(net)
    torch.testing.assert_close(copies[0].eval()(IMAGES), net.eval()(IMAGES))
    assert replays["replayed"] == [6]


def test_a_forward_of_the_plugins_own_is_left_alone(replays):
    net = untrained()
    net.forward = own = lambda x: torch.zeros(len(x), 4)
    with Replays(net, lambda batch, index: net(batch), wanted=True) as step:
        assert step(IMAGES, None).sum() == 0
    assert net.forward is own


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
    with Replays(net, lambda batch, index: net(batch), wanted=True) as step:
        step(IMAGES, None)
        assert not freed
    assert freed


class Counting(nn.Identity):
    """A plugin's."""


def test_what_a_plugin_has_built_is_not_replayed(replays, monkeypatch):
    monkeypatch.setitem(graphs.Network.__init__.__globals__["BUILDERS"], "theirs", lambda c, s: (nn.Flatten(), 192))
    theirs, mixed = untrained("theirs"), untrained()
    mixed.body.append(Counting())
    for net in (theirs, mixed):
        with Replays(net, lambda batch, index, net=net: net(batch), wanted=True) as step:
            step(IMAGES, None)
        assert not step.used


def test_what_cannot_be_recorded_is_trained_as_ever(monkeypatch):
    def record(network, x):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(graphs, "record", record)
    net, other = untrained(), untrained()
    with Replays(net, lambda batch, index: net(batch), wanted=True) as step:
        for _ in range(2):
            torch.testing.assert_close(step(IMAGES, None), other(IMAGES))
    assert not step.used
    assert step.refusal == "CUDA out of memory."


def trained(name, twice=False, precision="float32", **values):
    """A network of some kind, trained on a GPU with batches of two sizes, and how."""
    channels, side = (1, 28) if name.startswith("two") else (3, 32)
    recipe = Recipe(network=name, lr=0.02, epochs=3, batch=50, flip=True, precision=precision)
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
def test_and_so_it_is_with_all_else_that_makes_it_faster():
    some = ("bfloat16", "channels_last", "fused", "tf32")
    plain, _ = trained("wrn-10-1", precision="bfloat16", faster_by=some)
    net, this = trained("wrn-10-1", precision="bfloat16", faster_by=(*some, "cuda_graphs"))
    assert this.numerics["cuda_graphs"]
    for one, other in zip(plain.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.02)


@on_gpu
@pytest.mark.parametrize("allowed", [(), ("tf32",)])
def test_scores_are_of_float32(allowed):
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    net = untrained("wrn-10-1", 3, 32).eval()
    run = Run("cuda:0", 0, Recipe(network="wrn-10-1", lr=0.1, epochs=1, batch=10), Params(), faster_by=allowed)
    with seeded(0):
        scored = in_batches(images, run, lambda x: {"first": net.to("cuda")(x)[:, 0]})["first"]
    with torch.no_grad():
        exact = net.to("cpu").double()(images.double() / 255)[:, 0]
    torch.testing.assert_close(scored.double(), exact, rtol=1e-4, atol=1e-4)
