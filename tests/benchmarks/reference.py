"""The loops that method repositories write: PIL images, per-image transforms, a DataLoader with workers, float32."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import affine, rotate, to_pil_image

from harness import kit
from harness.recipe import Recipe

# Forked, as on Linux by default; a process that was spawned itself would spawn them, which takes seconds.
WORKERS = {"num_workers": 2, "multiprocessing_context": "fork"}


class Classified(Dataset):
    """An image and its sub-cluster, as torchvision.datasets.MNIST gives them."""

    def __init__(self, images: Tensor, labels: Tensor, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(to_pil_image(self.images[index])), int(self.labels[index])


class Turned(Classified):
    """An image under each quarter turn."""

    def __getitem__(self, index: int):
        image = to_pil_image(self.images[index])
        views = [self.transform(rotate(image, 90 * turns)) for turns in range(4)]
        return torch.stack(views), torch.arange(4)


class Viewed(Classified):
    """An image under 3 x 3 shifts and four quarter turns: the 36 views that SSL scores."""

    def __getitem__(self, index: int):
        image, step = to_pil_image(self.images[index]), self.images.shape[-1] // 4
        views, answers = [], []
        for across in range(3):
            for down in range(3):
                shifted = affine(image, 0, [(across - 1) * step, (down - 1) * step], 1, [0, 0])
                for turns in range(4):
                    views.append(self.transform(rotate(shifted, 90 * turns)))
                    answers.append((across, down, turns))
        return torch.stack(views), torch.tensor(answers)


def to_network(mean: float, std: float):
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (std,))])


def plain_network(recipe: Recipe, outputs: int) -> nn.Module:
    """The recipe's network for MNIST's shape, with the normalisation left to a transform."""
    return kit.network(recipe.network, 1, 28, outputs, mean=(0.0,), std=(1.0,))


def trained(recipe: Recipe, outputs: int, data: Dataset, seed: int) -> nn.Module:
    """It, trained on the processor."""
    torch.manual_seed(seed)
    network = plain_network(recipe, outputs)
    train(network, data, recipe.epochs, recipe.batch, recipe.lr)
    return network


def train(
    network: nn.Module,
    data: Dataset,
    epochs: int,
    batch: int,
    lr: float,
    device: str = "cpu",
    workers: int = WORKERS["num_workers"],
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Adam with a cosine schedule, one epoch after the other; `progress` is called after each."""
    loading = WORKERS | {"num_workers": workers}
    loader = DataLoader(data, batch, shuffle=True, **loading, pin_memory=torch.cuda.is_available())
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader), eta_min=1e-6)
    network.train()
    for _ in range(epochs):
        total = 0.0
        for images, labels in loader:
            images, labels = images.flatten(0, -4).to(device), labels.flatten().to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        progress()


@torch.no_grad()
def max_softmax(network: nn.Module, data: Dataset, batch: int) -> Tensor:
    """(M,) anomaly scores: 1 minus the largest softmax value, averaged over the views of an image."""
    network.eval()
    parts = []
    for images, _ in DataLoader(data, batch, **WORKERS):
        softmax = network(images.flatten(0, -4)).softmax(1).amax(1)
        parts.append(1 - softmax.view(len(images), -1).mean(1))
    return torch.cat(parts)


@torch.no_grad()
def uniform_divergence(network: nn.Module, data: Dataset, batch: int, heads: tuple[slice, ...]) -> dict[str, Tensor]:
    """SSL's scores (M,), averaged over all views: minus the divergence from uniform, minus the true probability."""
    network.eval()
    parts: dict[str, list[Tensor]] = {"KL": [], "TrueProb": []}
    for images, answers in DataLoader(data, batch, **WORKERS):
        logits = network(images.flatten(0, -4))
        kl = true = 0
        for place, head in enumerate(heads):
            log_p = logits[:, head].log_softmax(1)
            kl = kl + log_p.mean(1) + math.log(log_p.shape[1])
            true = true - log_p.exp().gather(1, answers.flatten(0, 1)[:, place, None]).squeeze(1)
        parts["KL"].append(kl.view(len(images), -1).mean(1))
        parts["TrueProb"].append(true.view(len(images), -1).mean(1))
    return {name: torch.cat(each) for name, each in parts.items()}
