"""Image networks by name. Pixels in [0, 1] go in, float32 logits come out; normalisation is the first layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.kit import BUILDERS, NETWORKS, depth_and_width
from harness.kit.dropout import Dropout

SMALLEST_SIDE = 8


def network(
    name: str, channels: int, side: int, outputs: int, *, mean: Sequence[float], std: Sequence[float]
) -> Network:
    """An untrained network, initialised from the global random state.

    Args:
        name: `two-conv`, `two-conv-pooled`, `wrn-DEPTH-WIDTH` (DEPTH = 6n + 4), `resnet18`, `resnet18-small`
            (3x3 stem without a pool, for small images), `resnet18-cbam`, or a plugin's, where the recipe names it.
        channels: 1 for grey images, 3 for colour.
        side: of the square images, at least 8 pixels.
        outputs: how many logits.
        mean, std: of the training images, one value per channel, in units of pixels in [0, 1].

    Raises:
        HarnessError: no such network, or the images are too small for it.
    """
    if side < SMALLEST_SIDE:
        raise HarnessError(f"network {name!r}: images of side {side} are too small; it needs at least {SMALLEST_SIDE}")
    body, width = _body(name, channels, side)
    built = Network(body, width, outputs, channels, mean, std)
    built.replayable = name not in BUILDERS
    return built


class Network(nn.Module):
    """Normalisation, a body that gives features, and a linear head.

    Since the normalisation is inside, a step on the input is in units of pixels, and its constants are saved with the
    weights. The body may run under bfloat16 autocast, but the head never does: rounded logits would tie.
    """

    mean: Tensor
    std: Tensor
    replayable = False
    """Whether it does the same for all batches of a size, so that it can be recorded: what a plugin builds may not."""

    def __init__(
        self, body: nn.Module, width: int, outputs: int, channels: int, mean: Sequence[float], std: Sequence[float]
    ):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.clone().reshape(1, channels, 1, 1))
        self.body = body
        self.head = nn.Linear(width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """What the head sees: (B, C, side, side) float pixels in [0, 1] to (B, D) float32."""
        if not x.is_floating_point():
            raise HarnessError(f"a network takes float pixels in [0, 1], not {x.dtype}; divide the images by 255")
        return self.body((x - self.mean) / self.std).float()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, side, side) float pixels in [0, 1] to (B, outputs) float32 logits."""
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(features)


def _body(name: str, channels: int, side: int) -> tuple[nn.Module, int]:
    """The named network up to its features, and how many these are."""
    if name in BUILDERS:
        return _checked_body(name, BUILDERS[name](channels, side))
    try:
        wide = depth_and_width(name)
    except ValueError as error:
        raise HarnessError(f"network {error}") from None
    if wide:
        return _wide_resnet(channels, *wide)
    match name:
        case "two-conv":
            return _two_conv(channels, side)
        case "two-conv-pooled":
            return _two_conv_pooled(channels, side)
        case "resnet18":
            return _resnet18(channels)
        case "resnet18-small":
            return _resnet18_small(channels)
        case "resnet18-cbam":
            # Woo et al. 2018, "CBAM: Convolutional Block Attention Module".
            return _resnet18(channels, block_args={"attn_layer": "cbam"})
    raise HarnessError(f"network {name!r}: no such network; known: {', '.join([*NETWORKS, *BUILDERS])}")


def _checked_body(name: str, built: object) -> tuple[nn.Module, int]:
    """What a plugin's builder returns, if it is what it should be."""
    match built:
        case (nn.Module() as body, int(width)) if width > 0:
            return body, width
    raise HarnessError(f"network {name!r}: its builder must return (module, width), not {type(built).__name__}")


def _two_conv(channels: int, side: int) -> tuple[nn.Module, int]:
    """Two convolutions and two fully connected layers (the second is the head): PyTorch's MNIST example."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3),
        *_pooled_relu(),
        *_dense(64 * ((side - 4) // 2) ** 2),
    ), 128


def _two_conv_pooled(channels: int, side: int) -> tuple[nn.Module, int]:
    """`two-conv` with a pool after each convolution: about a third of the arithmetic, for fast recipes."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        *_pooled_relu(),
        nn.Conv2d(32, 64, 3, padding=1),
        *_pooled_relu(),
        *_dense(64 * (side // 4) ** 2),
    ), 128


def _pooled_relu() -> tuple[nn.Module, ...]:
    """ReLU, then a pool: the same in the other order, on a quarter of the values."""
    return nn.MaxPool2d(2), nn.ReLU(inplace=True)


def _dense(inputs: int) -> tuple[nn.Module, ...]:
    return Dropout(0.25), nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(inplace=True), Dropout(0.5)


class _WideBlock(nn.Module):
    """Two 3x3 convolutions, each after its batch norm and ReLU, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(active)), inplace=True))


def _wide_resnet(channels: int, depth: int, width: int) -> tuple[nn.Module, int]:
    """Zagoruyko & Komodakis 2016, "Wide Residual Networks", without dropout; He et al.'s initialisation."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
    inputs = 16
    for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for block in range((depth - 4) // 6):
            layers.append(_WideBlock(inputs, outputs, stride if block == 0 else 1))
            inputs = outputs
    layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    body = nn.Sequential(*layers)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body, inputs


def _resnet18(channels: int, **options) -> tuple[nn.Module, int]:
    import timm  # only here: it is slow to import

    body = timm.create_model("resnet18", pretrained=False, in_chans=channels, num_classes=0, **options)
    return body, body.num_features


def _resnet18_small(channels: int) -> tuple[nn.Module, int]:
    """Keeps the resolution up to the first stage, as is usual for images of about 32 pixels."""
    body, width = _resnet18(channels)
    body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    body.maxpool = nn.Identity()
    return body, width
