"""Dropout drawn by the byte: PyTorch draws value by value on a processor, a tenth of a small network's step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 2**19
"""Fewer values are left to PyTorch: those of digits, whose published numbers rest on its draws."""


class Dropout(nn.Dropout):
    """`nn.Dropout` with a rate in 256ths. It draws from PyTorch's random state, so that a seed decides it."""

    def __init__(self, p: float):
        super().__init__(p)
        if not (p * 256).is_integer():
            raise ValueError(f"dropout of {p}: its rate must be a multiple of 1/256")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or x.numel() < FEW:
            return F.dropout(x, self.p, self.training)
        eights = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        dense = torch.empty_like(x, device="meta").stride()  # channels last, where x is
        kept = eights.view(torch.uint8).as_strided(x.shape, dense) >= self.p * 256
        return x * kept.to(x.dtype).mul_(1 / (1 - self.p))
