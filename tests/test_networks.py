"""The networks: shapes, published parameter counts, normalisation inside, a float32 head, clear errors."""

from __future__ import annotations

import importlib.util
import math
import sys

import pytest
import torch
import torch.nn.functional as F

from harness.errors import HarnessError
from harness.kit import networks
from harness.kit.dropout import FEW, Dropout
from harness.kit.networks import network

GREY = {"mean": [0.13], "std": [0.31]}
COLOUR = {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}


def make(name: str, channels: int, side: int, outputs: int = 5):
    torch.manual_seed(0)
    return network(name, channels, side, outputs, **(GREY if channels == 1 else COLOUR))


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("two-conv", 128),
        ("two-conv-pooled", 128),
        ("wrn-10-1", 64),
        ("wrn-16-2", 128),
        ("resnet18", 512),
        ("resnet18-small", 512),
        ("resnet18-cbam", 512),
    ],
)
def test_every_network_takes_grey_and_colour_images_of_even_and_odd_sides(name, dimension):
    for channels, side in ((1, 8), (3, 13)):
        made = make(name, channels, side).eval()
        x = torch.rand(2, channels, side, side)
        with torch.no_grad():
            features, logits = made.features(x), made(x)
        assert features.shape == (2, dimension)
        assert logits.shape == (2, 5)
        assert features.dtype == logits.dtype == torch.float32
        torch.testing.assert_close(logits, F.linear(features, made.head.weight, made.head.bias))
        assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize(
    ("name", "channels", "side", "published"),
    [
        ("wrn-28-10", 3, 32, 36_479_194),
        ("wrn-40-2", 3, 32, 2_243_546),
        ("two-conv", 1, 28, 1_199_882),  # PyTorch's MNIST example
        ("resnet18", 3, 224, 11_181_642),
        ("resnet18-cbam", 3, 224, 11_269_482),
        ("resnet18-small", 3, 32, 11_173_962),  # the usual CIFAR ResNet-18
    ],
)
def test_parameter_counts_are_the_published_ones(name, channels, side, published):
    with torch.device("meta"):  # no memory, no arithmetic
        made = network(name, channels, side, 10, mean=[0.5] * channels, std=[0.25] * channels)
    assert sum(p.numel() for p in made.parameters()) == published


def test_normalisation_is_inside_and_travels_with_the_weights():
    made, plain = make("two-conv-pooled", 3, 9).eval(), make("two-conv-pooled", 3, 9).eval()
    plain.mean.zero_()
    plain.std.fill_(1)
    x = torch.rand(4, 3, 9, 9)
    by_hand = torch.stack([(x[:, c] - COLOUR["mean"][c]) / COLOUR["std"][c] for c in range(3)], dim=1)
    torch.testing.assert_close(made(x), plain(by_hand))
    plain.load_state_dict(made.state_dict())
    assert torch.equal(made(x), plain(x))


@pytest.mark.parametrize("name", ["two-conv-pooled", "wrn-10-1"])
def test_autocast_reaches_the_body_but_not_the_head(name):
    made = make(name, 1, 8, outputs=7).eval()
    x = torch.rand(16, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features, logits = made.features(x), made(x)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.equal(features, features.bfloat16().float())  # the body did run in bfloat16
    assert not torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, F.linear(features, made.head.weight, made.head.bias))
    torch.testing.assert_close(logits, made(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["two-conv", "two-conv-pooled", "wrn-16-2", "resnet18-cbam", "resnet18-small"])
def test_every_parameter_is_trained(name):
    made = make(name, 1, 16).train()
    # Blocks of timm start as the identity: a zero scale would hide the layers before it.
    for parameter in made.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    made(torch.rand(8, 1, 16, 16)).square().sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_wide_resnet_starts_as_he_et_al_say_and_its_blocks_are_residual():
    body = make("wrn-16-4", 3, 8).body.eval()
    convolutions = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d) and m.weight.numel() > 10_000]
    assert len(convolutions) == 12
    for conv in convolutions:
        expected = math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
    blocks = [m for m in body if isinstance(m, networks._WideBlock)]
    x = torch.randn(2, 16, 8, 8)
    assert [tuple(x.shape[1:])] + [tuple((x := block(x)).shape[1:]) for block in blocks] == [
        (16, 8, 8), (64, 8, 8), (64, 8, 8), (128, 4, 4), (128, 4, 4), (256, 2, 2), (256, 2, 2)
    ]  # fmt: skip
    torch.nn.init.zeros_(blocks[-1].conv2.weight)
    assert torch.equal(blocks[-1](x), x)


@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (6, 1), (6, 2)])
def test_a_wide_block_adds_two_convolutions_to_a_shortcut_that_starts_behind_the_first_relu(outputs, stride):
    """Or to its input as it is, where that has as many channels."""
    torch.manual_seed(0)
    block = networks._WideBlock(4, outputs, stride).double().eval()
    for norm in (block.norm1, block.norm2):
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            torch.nn.init.uniform_(values, 0.5, 2)

    def active(x, norm):
        return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))

    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    first = active(x, block.norm1)
    second = active(F.conv2d(first, block.conv1.weight, stride=stride, padding=1), block.norm2)
    shortcut = x if outputs == 4 else F.conv2d(first, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), shortcut + F.conv2d(second, block.conv2.weight, padding=1))


@pytest.mark.parametrize("name", ["two-conv", "two-conv-pooled"])
def test_two_conv_drops_a_quarter_behind_the_convolutions_and_half_before_the_head(name):
    assert [one.p for one in make(name, 1, 8).body.modules() if isinstance(one, Dropout)] == [0.25, 0.5]


def test_small_resnet_keeps_the_resolution_that_the_plain_one_gives_up():
    sizes = {}
    for name in ("resnet18", "resnet18-small"):
        made = make(name, 3, 32).eval()
        made.body.layer1.register_forward_hook(lambda module, args, out, name=name: sizes.update({name: out.shape[-1]}))
        made(torch.rand(1, 3, 32, 32))
    assert sizes == {"resnet18": 8, "resnet18-small": 32}


@pytest.mark.parametrize("name", ["wrn-27-10", "wrn-4-1", "wrn-28-0"])
def test_impossible_wide_resnets_are_refused_in_one_line(name):
    with pytest.raises(HarnessError, match=rf"{name}.*6n \+ 4"):
        make(name, 3, 32)


@pytest.mark.parametrize("name", ["resnet19", "wrn-28", "two-conv-"])
def test_unknown_names_are_answered_with_the_known_ones(name):
    with pytest.raises(HarnessError, match=f"{name!r}.*known: two-conv, .*wrn-DEPTH-WIDTH.*resnet18-cbam"):
        make(name, 3, 32)


def test_small_images_and_raw_bytes_are_refused():
    with pytest.raises(HarnessError, match=r"side 7.*at least 8"):
        make("two-conv", 1, 7)
    with pytest.raises(HarnessError, match=r"uint8.*255"):
        make("two-conv", 1, 8)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_timm_is_imported_only_for_its_own_networks(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # importing it now fails
    spec = importlib.util.spec_from_file_location("networks_without_timm", networks.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    fresh.network("wrn-10-1", 1, 8, 2, **GREY)
    with pytest.raises(ImportError):
        fresh.network("resnet18", 1, 8, 2, **GREY)


def test_dropout_zeroes_its_share_of_the_values_and_keeps_the_mean():
    torch.manual_seed(0)
    for p, layout in ((0.25, torch.channels_last), (0.5, torch.contiguous_format)):
        x = torch.ones(200, 64, 7, 7).to(memory_format=layout).requires_grad_()
        out = Dropout(p)(x)
        assert out.stride() == x.stride()
        assert set(out.unique().tolist()) == {0, torch.tensor(1 / (1 - p)).item()}
        dropped = (out == 0).double()
        # Three standard deviations of a binomial share: of all values, and of those of each image, on average.
        assert abs(dropped.mean() - p) < 3 * math.sqrt(p * (1 - p) / x.numel())
        assert dropped.mean((1, 2, 3)).std() == pytest.approx(math.sqrt(p * (1 - p) / x[0].numel()), rel=0.25)
        out.sum().backward()
        assert torch.equal(x.grad, out)


def test_dropout_is_decided_by_the_seed_and_off_in_scoring():
    for values in (FEW // 2, 4 * FEW + 3):  # by PyTorch, and by the byte
        x, drop = torch.randn(values), Dropout(0.5)

        def drawn(seed, x=x, drop=drop):
            torch.manual_seed(seed)
            return drop(x)

        assert torch.equal(drawn(1), drawn(1))
        assert not torch.equal(drawn(1), drawn(2))
        assert torch.equal(drop.eval()(x), x)


def test_a_rate_that_no_byte_can_draw_is_refused():
    with pytest.raises(ValueError, match=r"0\.3: its rate must be a multiple of 1/256"):
        Dropout(0.3)
