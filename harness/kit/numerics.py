"""What makes training faster and changes the result by rounding alone: what is allowed, and what the device has."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from harness.method import Run


@dataclass(frozen=True)
class Numerics:
    """How a training computes, once it is seen what the device can do."""

    bfloat16: bool
    channels_last: bool
    fused: bool
    compile: bool
    cuda_graphs: bool
    tf32: bool


def choose(run: Run) -> Numerics:
    """What the run allows, its recipe wants and its device has; noted in the run, with what had to be left out."""
    device = torch.device(run.device)
    half = run.recipe.precision == "bfloat16" and "bfloat16" in run.faster_by
    compiled = "compile" in run.faster_by
    if half and not has_bfloat16(device):
        half = False
        leave_out(run, "bfloat16, which this device would only emulate: trained in float32")
    if compiled and (missing := _missing_compiler(device)):
        compiled = False
        leave_out(run, f"compile, for want of {missing}")
    graphs = "cuda_graphs" in run.faster_by and device.type == "cuda" and not compiled
    # TF32 rounds factors to 10 bits behind the point, and came with the GPUs that have bfloat16.
    tf32 = "tf32" in run.faster_by and device.type == "cuda" and has_bfloat16(device)
    chosen = Numerics(half, "channels_last" in run.faster_by, "fused" in run.faster_by, compiled, graphs, tf32)
    run.numerics.update(
        precision="bfloat16" if half else "float32",
        channels_last=chosen.channels_last,
        fused=chosen.fused,
        compile=compiled,
    )
    if device.type == "cuda":
        run.numerics["tf32"] = tf32
    return chosen


def leave_out(run: Run, what: str) -> None:
    """Note what could not be used, and why; it is told once the fit is done."""
    before = str(run.numerics.get("left_out", ""))
    if what not in before:
        run.numerics["left_out"] = f"{before}; {what}" if before else what


def layout(run: Run) -> torch.memory_format:
    """How images and weights lie in memory."""
    return torch.channels_last if "channels_last" in run.faster_by else torch.contiguous_format


@contextmanager
def convolutions(tf32: bool) -> Iterator[None]:
    """Inside, a GPU computes convolutions of float32 in TF32, or does not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself: emulated, it is many times slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # else another GPU of the machine answers
            return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def _missing_compiler(device: torch.device) -> str:
    """What torch.compile would need and does not find; empty if all is there."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton"
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return "" if any(map(shutil.which, wanted)) else f"a C++ compiler ({', '.join(wanted)})"
