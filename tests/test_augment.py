"""The augmentations, against numpy, torchvision and hand-written images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from harness.errors import HarnessError
from harness.kit import augment


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def numbered(batch: int, channels: int, height: int, width: int, dtype=torch.float32) -> torch.Tensor:
    """No two pixels are equal, and none is zero, so that a crop tells where it comes from."""
    return torch.arange(1, 1 + batch * channels * height * width).view(batch, channels, height, width).to(dtype)


# --- crops and flips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("border", "mode"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize(("height", "width", "size", "pad"), [(6, 6, 6, 2), (5, 7, 4, 0), (4, 4, 10, 3)])
def test_random_crops_are_windows_of_the_padded_image(border, mode, height, width, size, pad):
    x = numbered(60, 2, height, width)
    crops = augment.random_crop(x, size, pad, border).numpy()
    assert crops.shape == (60, 2, size, size)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode=mode)
    offsets = [(i, j) for i in range(height + 2 * pad - size + 1) for j in range(width + 2 * pad - size + 1)]
    seen = set()
    for image, crop in zip(padded, crops, strict=True):
        found = [(i, j) for i, j in offsets if np.array_equal(image[:, i : i + size, j : j + size], crop)]
        assert found
        seen.update(found)
    assert len(seen) > 0.9 * len(offsets)  # every image has its own draw, and the draws cover the range


def test_random_crop_positions_are_uniform_and_independent():
    x = numbered(1, 1, 5, 5).expand(20_000, -1, -1, -1)
    corner = augment.random_crop(x, 3)[:, 0, 0, 0].long() - 1
    counts = torch.bincount(corner, minlength=25).view(5, 5)
    assert counts[3:].sum() == counts[:, 3:].sum() == 0
    expected = 20_000 / 9
    assert ((counts[:3, :3] - expected).abs() < 5 * expected**0.5).all()


def test_crops_work_on_bytes_and_refuse_what_does_not_fit():
    x = numbered(4, 3, 4, 4).to(torch.uint8)
    for border in ("zero", "reflect"):
        assert augment.random_crop(x, 4, 1, border).dtype == torch.uint8
    with pytest.raises(HarnessError, match=r"size 7 .* 6 x 6"):
        augment.random_crop(x, 7, 1)
    with pytest.raises(HarnessError, match=r"size 5 .* 4 x 4"):
        augment.center_crop(x, 5)
    with pytest.raises(HarnessError, match=r"'wrap'.*known: reflect, zero"):
        augment.random_crop(x, 4, 1, "wrap")


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 4), (9, 7, 5), (6, 6, 6)])
def test_center_crop_leaves_equal_margins(height, width, size):
    x = numbered(2, 3, height, width)
    assert torch.equal(augment.center_crop(x, size), tv.center_crop(x, [size, size]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_random_flip_mirrors_half_of_the_images_left_to_right(dtype):
    image = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    x = image.expand(4000, 2, -1, -1)
    flipped = augment.random_flip(x)
    mirrored = (flipped == torch.tensor([[3, 2, 1], [6, 5, 4]])).flatten(1).all(1)
    kept = (flipped == image).flatten(1).all(1)
    assert flipped.dtype == dtype
    assert (mirrored ^ kept).all()
    assert 1850 < mirrored.sum() < 2150


# --- rotations and translations --------------------------------------------------------------------------------------


def test_quarter_turns_are_exact_and_counter_clockwise():
    x = torch.tensor([[1, 2], [3, 4]])[None, None]
    assert augment.rotate(x, 1)[0, 0].tolist() == [[2, 4], [1, 3]]
    assert augment.rotate(x, 2)[0, 0].tolist() == [[4, 3], [2, 1]]
    assert augment.rotate(x, 3)[0, 0].tolist() == [[3, 1], [4, 2]]
    y = torch.rand(2, 3, 5, 5)
    assert torch.equal(augment.rotate(augment.rotate(y, 3), 1), y)
    assert np.array_equal(augment.rotate(y, 1).numpy(), np.rot90(y.numpy(), axes=(2, 3)))


def test_four_rotations_come_rotation_by_rotation_with_their_labels():
    x = torch.randint(256, (3, 2, 4, 4), dtype=torch.uint8)
    views, labels = augment.four_rotations(x)
    assert views.shape == (12, 2, 4, 4)
    assert views.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for i, (view, label) in enumerate(zip(views, labels, strict=True)):
        assert np.array_equal(view.numpy(), np.rot90(x[i % 3].numpy(), int(label), axes=(1, 2)))


def test_positive_translations_go_right_and_down():
    x = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])[None, None]
    one, none = torch.tensor([1]), torch.tensor([0])
    assert augment.translate(x, one, none, "zero")[0, 0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    assert augment.translate(x, none, one, "zero")[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert augment.translate(x, one, none, "reflect")[0, 0].tolist() == [[2, 1, 2], [5, 4, 5], [8, 7, 8]]


@settings(max_examples=40)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    shifts=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5),
    border=st.sampled_from(["reflect", "zero"]),
)
def test_translation_equals_padding_and_slicing_in_numpy(height, width, shifts, border):
    x = numbered(len(shifts), 2, height, width)
    dx, dy = torch.tensor(shifts).T
    moved = augment.translate(x, dx, dy, border)
    for image, result, (right, down) in zip(x.numpy(), moved.numpy(), shifts, strict=True):
        mode = "reflect" if border == "reflect" else "constant"
        padded = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode=mode)
        expected = padded[:, 9 - down : 9 - down + height, 9 - right : 9 - right + width]
        assert np.array_equal(result, expected)


def test_translation_names_its_borders():
    none = torch.zeros(1, dtype=torch.long)
    with pytest.raises(HarnessError, match=r"'constant'.*known: reflect, zero"):
        augment.translate(torch.rand(1, 1, 3, 3), none, none, "constant")


# --- resized crops ---------------------------------------------------------------------------------------------------


def ramp(side: int) -> torch.Tensor:
    """Channel 0 holds each pixel's x, channel 1 its y, as shares of the side."""
    centre = (torch.arange(side) + 0.5) / side
    return torch.stack([centre.expand(side, side), centre[:, None].expand(side, side)])


def test_the_whole_image_resized_to_its_own_size_is_unchanged():
    x = torch.rand(5, 3, 9, 9)
    torch.testing.assert_close(augment.random_resized_crop(x, 9, (1, 1), (1, 1)), x)


def test_resizing_is_bilinear_like_the_library_s():
    x = torch.rand(2, 3, 8, 6)
    ours = augment.random_resized_crop(x, 12, (1, 1), (6 / 8, 6 / 8))
    torch.testing.assert_close(ours, tv.resize(x, [12, 12], antialias=False))


def test_windows_lie_in_the_image_and_have_the_drawn_areas_and_ratios():
    side, size = 64, 16
    crops = augment.random_resized_crop(ramp(side).expand(4000, -1, -1, -1), size)
    assert crops.shape == (4000, 2, size, size)
    # On a ramp, the difference of two inner columns (rows) tells the window's width (height), their mean its centre.
    inner = slice(2, size - 2)
    step = (size - 5) / size
    width = (crops[:, 0, 8, size - 3] - crops[:, 0, 8, 2]) / step
    height = (crops[:, 1, size - 3, 8] - crops[:, 1, 2, 8]) / step
    x, y = crops[:, 0, 8, inner].mean(1), crops[:, 1, inner, 8].mean(1)
    tolerance = 1e-4
    for centre, length in ((x, width), (y, height)):
        assert (centre - length / 2).min() > -tolerance
        assert (centre + length / 2).max() < 1 + tolerance
        assert abs(centre.mean() - 0.5) < 0.01
    area, ratio = width * height, width / height
    assert 0.2 - tolerance < area.min() < 0.21
    assert 0.95 < area.max() < 1 + tolerance
    assert 0.75 - tolerance < ratio.min() < 0.76
    assert 1.31 < ratio.max() < 4 / 3 + tolerance
    assert abs(ratio.log().mean()) < 0.02
    assert len(area.unique()) > 3900


def test_windows_are_distributed_as_the_library_s():
    n, side = 4000, 64
    drawn = augment.random_resized_crop(ramp(side).expand(n, -1, -1, -1), 16)
    window = RandomResizedCrop.get_params
    rows = [window(torch.empty(1, side, side), (0.2, 1), (3 / 4, 4 / 3)) for _ in range(n)]
    top, left, height, width = (torch.tensor(rows).double() / side).unbind(1)
    # On a ramp: the difference of two inner pixels tells the window's width (height), their mean its centre.
    ours = {}
    for name, line in (("x", drawn[:, 0, 8]), ("y", drawn[:, 1, :, 8])):
        length = (line[:, 13] - line[:, 2]) * 16 / 11
        ours[name], ours[f"length in {name}"] = line[:, 2:14].mean(1), length
    theirs = {"x": left + width / 2, "y": top + height / 2, "length in x": width, "length in y": height}
    for pair in combinations(ours, 2):
        for sign in (1, -1):  # each by itself, and together: the centres lie in the square, not on a diagonal
            a, b = (one[pair[0]] + sign * one[pair[1]] for one in (ours, theirs))
            assert ks_2samp(a, b).pvalue > 1e-4, (pair, sign)


def test_autocast_does_not_move_a_crop():
    x, views = torch.rand(8, 3, 64, 64), []
    for half in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            views.append(augment.random_resized_crop(x, 64, scale=(0.2, 1.0)))
    assert torch.equal(*views)


def test_resized_crops_of_flat_and_of_extreme_images_stay_in_range():
    x = torch.randint(2, (64, 1, 8, 8)).float()
    crops = augment.random_resized_crop(x, 8)
    assert crops.min() >= 0
    assert crops.max() <= 1
    flat = torch.full((9, 1, 8, 8), 0.3)
    torch.testing.assert_close(augment.random_resized_crop(flat, 8), flat)


# --- colours ---------------------------------------------------------------------------------------------------------


COLOUR_STEPS = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]


@pytest.mark.parametrize("amounts", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0.5), (0.4, 0.4, 0.4, 0.4)])
def test_colour_steps_are_the_library_s_one_after_the_other(amounts):
    x = torch.rand(24, 3, 6, 6)
    x[:, :, 0] = x[:, :1, 0]  # some grey pixels, some black, some white, some of a pure colour
    x[:, :, 1, :2] = 0
    x[:, :, 1, 2:4] = 1
    x[:, 1:, 1, 4:] = 0
    torch.manual_seed(1)
    ours = augment.color_jitter(x, *amounts)

    torch.manual_seed(1)  # the same draws again: one factor per image and step
    theirs = x
    for adjust, amount in zip(COLOUR_STEPS, amounts, strict=True):
        if amount:
            middle = 0 if adjust is tv.adjust_hue else 1
            factors = torch.empty(24).uniform_(middle - amount, middle + amount).tolist()
            theirs = torch.stack([adjust(image, factor) for image, factor in zip(theirs, factors, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=0)


def test_brightness_factors_are_uniform_and_each_image_s_own():
    x = torch.full((5000, 1, 1, 1), 0.5)
    factors = (augment.color_jitter(x, 0.4, 0, 0, 0) / 0.5).flatten()
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 0.01
    assert factors.std().item() == pytest.approx(0.8 / 12**0.5, rel=0.05)
    assert len(factors.unique()) > 4900


def test_jitter_stays_in_range_and_is_nothing_at_zero():
    x = torch.rand(32, 3, 5, 5)
    jittered = augment.color_jitter(x, 0.9, 0.9, 0.9, 0.5)
    assert jittered.min() >= 0
    assert jittered.max() <= 1
    assert not torch.isclose(jittered, x).flatten(1).all(1).any()
    assert torch.equal(augment.color_jitter(x, 0, 0, 0, 0), x)


def test_grey_images_have_no_saturation_or_hue_to_change():
    x = torch.rand(8, 1, 5, 5)
    assert torch.equal(augment.color_jitter(x, 0, 0, 0.9, 0.5), x)
    assert augment.color_jitter(x, 0.4, 0.4, 0.4, 0.4).shape == x.shape
    assert torch.equal(augment.random_gray(x, 1.0), x)


def test_random_gray_takes_the_colour_of_a_share_of_the_images():
    x = torch.rand(2000, 3, 4, 4)
    result = augment.random_gray(x, 0.2)
    changed = (result != x).flatten(1).any(1)
    assert 330 < changed.sum() < 470
    torch.testing.assert_close(result[changed], tv.rgb_to_grayscale(x[changed], num_output_channels=3))


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: augment.random_crop(x, 6, 2),
        augment.random_flip,
        lambda x: augment.random_resized_crop(x, 6),
        lambda x: augment.color_jitter(x, 0.4, 0.4, 0.4, 0.4),
        lambda x: augment.random_gray(x, 0.5),
    ],
    ids=["crop", "flip", "resized-crop", "jitter", "gray"],
)
def test_draws_follow_the_global_seed_and_leave_the_input_alone(draw):
    x = torch.rand(16, 3, 6, 6)
    before = x.clone()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(draw(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(x, before)
