"""A training that takes a moment: seventy images, a network with dropout, its loss."""

import torch
from torch import nn

from harness.method import Run
from harness.recipe import Recipe
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
