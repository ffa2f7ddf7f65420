"""Image augmentation, batched on the images' own device.

Images are (B, C, H, W). Each image gets its own draw, from the global random state of the device.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import HarnessError, suggest

LUMA = (0.2989, 0.587, 0.114)
"""How much red, green and blue count in a grey value (ITU-R BT.601, as in torchvision)."""


Border = Literal["reflect", "zero"]
"""What lies around an image: its reflection, the edge pixels not repeated, or zeros."""


def random_crop(x: Tensor, size: int, pad: int = 0, border: Border = "zero") -> Tensor:
    """A (size, size) window of each image (any dtype), anywhere in it and the `pad` pixels around it.

    Raises:
        HarnessError: the window is larger than the padded image.
    """
    height, width = x.shape[-2] + 2 * pad, x.shape[-1] + 2 * pad
    if size > min(height, width):
        raise HarnessError(f"random_crop: size {size} is more than the {height} x {width} pixels that there are")
    top = torch.randint(height - size + 1, (len(x), 1), device=x.device) - pad
    left = torch.randint(width - size + 1, (len(x), 1), device=x.device) - pad
    window = torch.arange(size, device=x.device)
    return _take(x, top + window, left + window, border)


def center_crop(x: Tensor, size: int) -> Tensor:
    """The central (size, size) window (any dtype); where it cannot be exact, half a pixel to the upper left.

    Raises:
        HarnessError: the window is larger than the image.
    """
    height, width = x.shape[-2:]
    if size > min(height, width):
        raise HarnessError(f"center_crop: size {size} is more than the {height} x {width} pixels that there are")
    top, left = (height - size) // 2, (width - size) // 2
    return x[..., top : top + size, left : left + size]


def random_flip(x: Tensor) -> Tensor:
    """Each image (any dtype), mirrored left to right or not, with equal chances."""
    return torch.where(_chance(x, 0.5), x.flip(-1), x)


def rotate(x: Tensor, quarter_turns: int) -> Tensor:
    """All images (any dtype), turned counter-clockwise by so many times 90 degrees, without interpolation."""
    return torch.rot90(x, quarter_turns, (-2, -1))


def four_rotations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Square images (any dtype) under each quarter turn.

    Returns:
        views (4B, C, H, W), first all images upright, then all at 90 degrees counter-clockwise, and so on; and
        labels (4B,) int64, the number of quarter turns.
    """
    views = torch.cat([rotate(x, turns) for turns in range(4)])
    return views, torch.arange(4, device=x.device).repeat_interleave(len(x))


def translate(x: Tensor, dx: Tensor, dy: Tensor, border: Border) -> Tensor:
    """Shifts each image (any dtype) by whole pixels; the border comes in from outside.

    Args:
        dx, dy: (B,) integers; positive moves the content to the right, or down.
    """
    rows = torch.arange(x.shape[-2], device=x.device) - dy.to(x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device) - dx.to(x.device)[:, None]
    return _take(x, rows, columns, border)


def random_resized_crop(
    x: Tensor, size: int, scale: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Tensor:
    """A random window of each image (float pixels in [0, 1]), resized to (size, size) bilinearly.

    The window is drawn as in torchvision, but at fractions of pixels. There is no low-pass filter, so `size` should
    not be much less than the side of the images.

    Args:
        scale: range of the share of the image's area, drawn uniformly.
        ratio: range of width / height, drawn log-uniformly.
    """
    height, width = x.shape[-2:]
    # Windows that stick out are drawn again; ten candidates at once save a loop, and the last resort is to cut.
    area = x.new_empty(len(x), 10).uniform_(*scale) * (height * width)
    aspect = x.new_empty(len(x), 10).uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    w, h = (area * aspect).sqrt(), (area / aspect).sqrt()
    first = ((w <= width) & (h <= height)).int().argmax(1, keepdim=True)
    # As shares of the image from here on.
    w = (w.gather(1, first).squeeze(1) / width).clamp(max=1)
    h = (h.gather(1, first).squeeze(1) / height).clamp(max=1)
    left, top = torch.rand_like(w) * (1 - w), torch.rand_like(h) * (1 - h)
    zero = torch.zeros_like(w)
    # An affine map from the corners (-1, 1) of the result to those of the window.
    theta = torch.stack([w, zero, 2 * left + w - 1, zero, h, 2 * top + h - 1], dim=1).view(-1, 2, 3)
    # Autocast would round where to look to 8 bits, a good part of a pixel in large images.
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(theta, [len(x), x.shape[1], size, size], align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp_(0, 1)


def color_jitter(x: Tensor, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in this order, by random amounts (float pixels in [0, 1]).

    The steps are torchvision's. Grey images, with one channel, have neither saturation nor hue.

    Args:
        brightness, contrast, saturation: the factor is drawn from [1 - value, 1 + value], not below 0.
        hue: the shift is drawn from [-value, value], in turns of the colour circle.
    """
    if brightness:
        x = _blend(x, torch.zeros_like(x), _factor(x, brightness))
    if contrast:
        x = _blend(x, _gray(x).mean((1, 2, 3), keepdim=True), _factor(x, contrast))
    if saturation and x.shape[1] > 1:
        x = _blend(x, _gray(x), _factor(x, saturation))
    if hue and x.shape[1] > 1:
        x = _turn_hue(x, x.new_empty(len(x), 1, 1, 1).uniform_(-hue, hue))
    return x


def random_gray(x: Tensor, p: float) -> Tensor:
    """Each image (float pixels) without its colour, with chance `p`; it keeps its channels."""
    return torch.where(_chance(x, p), _gray(x), x)


def _chance(x: Tensor, p: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) < p


def _take(x: Tensor, rows: Tensor, columns: Tensor, border: Border) -> Tensor:
    """Pixels at rows (B, h) and columns (B, w) of each image, which may lie outside: (B, C, h, w)."""
    if border not in get_args(Border):
        raise HarnessError(f"border {border!r}: {suggest(border, get_args(Border))}")
    batch, channels, height, width = x.shape
    inside = _inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :]
    pixel = _mirror(rows, height)[:, :, None] * width + _mirror(columns, width)[:, None, :]
    taken = (
        x.flatten(2)
        .gather(2, pixel.view(batch, 1, -1).expand(-1, channels, -1))
        .view(batch, channels, rows.shape[1], columns.shape[1])
    )
    return taken if border == "reflect" else taken.masked_fill_(~inside[:, None], 0)


def _inside(index: Tensor, length: int) -> Tensor:
    return (index >= 0) & (index < length)


def _mirror(index: Tensor, length: int) -> Tensor:
    """Indices outside [0, length), reflected into it as often as it takes; the edges are not repeated."""
    period = max(2 * (length - 1), 1)
    index = index % period
    return torch.minimum(index, period - index) if length > 1 else index


def _gray(x: Tensor) -> Tensor:
    """(B, 1, H, W) grey values."""
    return x if x.shape[1] == 1 else (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def _factor(x: Tensor, value: float) -> Tensor:
    return x.new_empty(len(x), 1, 1, 1).uniform_(max(0.0, 1 - value), 1 + value)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp_(0, 1)


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue of the HSV model, keeping value and chroma (value times saturation)."""
    red, green, blue = x.unbind(1)
    value, strongest = x.max(1)
    chroma = value - x.amin(1)
    safe = torch.where(chroma > 0, chroma, 1)  # grey pixels have no hue, and need none
    sixths = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4], dim=1)
    hue = sixths.gather(1, strongest[:, None]) + 6 * turns
    # How far each channel falls below `value` as the hue goes round, in units of the chroma.
    phase = (hue + x.new_tensor([5, 3, 1]).view(3, 1, 1)) % 6
    fall = torch.minimum(phase, 4 - phase).clamp_(0, 1)
    return (value[:, None] - chroma[:, None] * fall).clamp_(0, 1)
