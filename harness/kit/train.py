"""The training engine: images live on the device as uint8, and are cropped, flipped and trained on there, batched."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.errors import Diverged, HarnessError, Unwritable
from harness.kit import checkpoint, graphs, memory, numerics
from harness.kit.augment import center_crop, random_crop, random_flip
from harness.kit.networks import Network, network

if TYPE_CHECKING:
    from harness.method import Run, Task
    from harness.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]

SCORED_ON_CPU, SCORED_ON_GPU = 250_000, 6_250_000
"""How many values all views of a batch that is scored may have: few enough for what a network makes of them to stay
near a processor's cache, or enough to keep a GPU busy."""


def backbone(task: Task, run: Run, outputs: int) -> nn.Module:
    """The recipe's network for a task's images, untrained, on the run's device.

    Its input is (B, C, S, S) float pixels in [0, 1], with S the side that the recipe's crop leaves; its output is
    (B, outputs) float32 logits.
    """
    if task.height != task.width:
        raise HarnessError(
            f"images are {task.height} x {task.width}: networks take square ones; set the data set's parameter `size`, "
            "as in --set folder.size=32"
        )
    side = crop_side(task.height, run.recipe)
    built = network(run.recipe.network, task.channels, side, outputs, mean=task.mean, std=task.std)
    return built.to(run.device, memory_format=numerics.layout(run))


def crop_side(side: int, recipe: Recipe) -> int:
    return round(side * recipe.crop)


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss that `train_network` wants: cross-entropy over (B, K) logits, and the share that is classified right."""
    return nn.functional.cross_entropy(logits.float(), labels), (logits.argmax(1) == labels).float().mean()


def train_network(module: nn.Module, images: Tensor, loss: Loss, run: Run) -> None:
    """Train by the run's recipe, from the first epoch to the last; the last one counts.

    Args:
        module: what is trained; left in eval mode.
        images: (N, C, H, W) uint8 normal training images.
        loss: `loss(batch, index)` gets (B, C, S, S) float pixels in [0, 1], cropped and flipped as the recipe says,
            on the run's device, and (B,) their places in `images`; it returns the loss to minimise, one number, or that
            and the share of answers that were right, where the task has answers. A checkpoint counts only if the
            tensors of whole numbers that the loss closes over, such as labels, are the same, and so are the numerics.
        run: recipe, device and progress; the mean loss and accuracy of the last epoch are noted in it.

    Raises:
        Diverged: the loss is not finite.
        HarnessError: the loss is no number.
    """
    memory.keep()
    recipe = run.recipe
    images = _within_reach(images, torch.device(run.device))
    chosen = numerics.choose(run)
    if not any(isinstance(part, Network) for part in module.modules()):
        run.numerics["network"] = "a network of its own"  # or the recipe's would be said to be it
    module.to(memory_format=numerics.layout(run))
    optimizer = _optimizer(module, recipe, chosen.fused)
    keeper = _Keeper(module, optimizer, loss, run, chosen)
    done = keeper.resume()
    graphed = done.get("cuda_graphs", False)
    if done["epochs"]:
        run.progress(done["epochs"], recipe.epochs, done["train_loss"])
    module.train()
    with (
        _threads(recipe.batch * images[0].numel()) as threads,
        numerics.convolutions(chosen.tf32),
        _compiled(module, chosen.compile),
        graphs.Replays(module, loss, chosen.cuda_graphs) as replays,
    ):
        run.numerics["threads"] = threads
        for epoch in range(done["epochs"], recipe.epochs):
            mean_loss, accuracy = _epoch(epoch, optimizer, images, replays, run, chosen.bfloat16)
            if not math.isfinite(mean_loss):
                raise Diverged(f"training diverged: the loss is {mean_loss} after epoch {epoch + 1}")
            done = {"epochs": epoch + 1, "train_loss": mean_loss, "train_accuracy": accuracy}
            graphed = graphed or replays.used
            keeper.keep(done | {"provenance": run.provenance, "cuda_graphs": graphed})
            run.progress(epoch + 1, recipe.epochs, mean_loss)
    module.eval()
    if torch.device(run.device).type == "cuda":
        run.numerics["cuda_graphs"] = graphed
    if replays.refusal:
        numerics.leave_out(run, f"cuda_graphs, for this can't be recorded: {replays.refusal}")
    run.note(train_loss=done["train_loss"])
    if not math.isnan(done["train_accuracy"]):
        run.note(train_accuracy=done["train_accuracy"])


def _epoch(
    epoch: int, optimizer: torch.optim.Optimizer, images: Tensor, loss: Loss, run: Run, half: bool
) -> tuple[float, float]:
    """One pass over the images; the mean loss and accuracy, which is NaN for a loss without answers."""
    recipe, device = run.recipe, torch.device(run.device)
    steps = max(1, min(math.ceil(len(images) / recipe.batch), len(images) // 2))
    totals = torch.zeros(2, device=device)
    # Nearly equal parts: nothing is dropped, and batch normalisation has two images or more.
    parts = torch.randperm(len(images)).to(images.device).tensor_split(steps)
    for step, index in enumerate(parts, start=epoch * steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        batch = augment(images[index].to(device), recipe, numerics.layout(run))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            value, accuracy = _parts(loss(batch, index.to(device)))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        totals += torch.stack([value, accuracy]).detach() * len(index)
    mean_loss, mean_accuracy = (totals / len(images)).tolist()
    return mean_loss, mean_accuracy


def _parts(returned: Any) -> tuple[Tensor, Tensor]:
    """What a loss returned, as float32 numbers: the loss, and the share of right answers, NaN where it has none."""
    value, share = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, math.nan)
    if isinstance(value, Tensor) and isinstance(share, float | int):
        share = torch.full_like(value.detach(), share)
    if not all(isinstance(part, Tensor) and part.ndim == 0 for part in (value, share)):
        shape = f" of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise HarnessError(
            f"the loss returns {type(returned).__name__}{shape}; return one number as a tensor, such as the mean over "
            "the batch, or that and the share of answers that were right"
        )
    return value.float(), share.float()


class _Keeper:
    """Keeps a checkpoint of a long training; each training of a fit has its own."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        run: Run,
        chosen: numerics.Numerics,
    ):
        self.module, self.optimizer, self.run = module, optimizer, run
        self.path = run.next_checkpoint()
        # The record says one thing of how it was computed, which then holds from the first epoch on.
        how = f"{torch.device(run.device).type} {chosen}"
        self.of = f"{checkpoint.closed_over(loss)} {how}" if self.path else ""
        self.begun = self.kept = time.monotonic()
        self.told = False

    def resume(self) -> dict[str, Any]:
        found = checkpoint.load(self.path, self.module, self.optimizer, self.of) if self.path else None
        done = {"epochs": 0, "seconds": 0.0} | (found or {})
        self.begun -= done["seconds"]
        self.run.seconds_before += done["seconds"]
        self.run.provenance[:0] = [one for one in done.get("provenance", ()) if one not in self.run.provenance]
        return done

    def keep(self, done: dict[str, Any]) -> None:
        now = time.monotonic()
        if self.path and now - self.kept >= self.run.checkpoint_seconds:
            try:
                checkpoint.save(self.path, self.module, self.optimizer, done | {"seconds": now - self.begun}, self.of)
            except Unwritable as error:  # what has been trained so far may yet be scored
                self._tell(error)
            self.kept = time.monotonic()

    def _tell(self, error: Unwritable) -> None:
        if not self.told:
            self.told = True
            why = f"no checkpoint can be written there ({error.__cause__})"
            print(f"{self.path.parent}: {why}; training goes on without", file=sys.stderr)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: cosine per step (Loshchilov & Hutter 2017, eq. 5), stairs per epoch, or constant."""
    if recipe.schedule == "cosine":
        share = step / max(1, recipe.epochs * steps_per_epoch - 1)
        return recipe.lr_end + (recipe.lr - recipe.lr_end) * (1 + math.cos(math.pi * share)) / 2
    if recipe.schedule == "step":
        return recipe.lr * recipe.step_factor ** (step // steps_per_epoch // recipe.step_epochs)
    return recipe.lr


def augment(images: Tensor, recipe: Recipe, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, S, S) float pixels in [0, 1], each image with its own crop and flip."""
    side = crop_side(images.shape[-1], recipe)
    if recipe.pad or side < images.shape[-1]:
        images = random_crop(images, side, pad=recipe.pad)
    if recipe.flip:
        images = random_flip(images)
    return pixels(images, layout)


def pixels(images: Tensor, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """uint8 -> float in [0, 1], laid out for the convolutions."""
    return images.to(memory_format=layout).float().div_(255)


def in_batches(
    images: Tensor, run: Run, score: Callable[[Tensor], Mapping[str, Tensor]], views: int = 1
) -> dict[str, Tensor]:
    """Score test images in batches that fit the device.

    Args:
        images: (M, C, H, W) uint8.
        run: device and recipe.
        score: gets float pixels in [0, 1], (B, C, H, W) or (B, C, S, S) of the recipe's central crop; returns (B,)
            values by name. Where the device has too little memory for a batch, it is called again with its halves.
        views: how many views `score` makes of each image, so that the batches shrink accordingly.

    Returns:
        (M,) values by name, on the CPU.
    """
    memory.keep()
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad(), _threads(images.numel() * views), numerics.convolutions(tf32=False):
        for batch in _chunks(images, run, views):
            for scored in _within_memory(score, batch):
                for name, values in scored.items():
                    parts.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in parts.items()}


def _within_memory(score: Callable[[Tensor], Mapping[str, Tensor]], batch: Tensor) -> Iterator[dict[str, Tensor]]:
    """The scores of a batch, on the CPU; half by half if the device has too little memory for all at once."""
    try:
        scored = {name: values.cpu() for name, values in score(batch).items()}
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    else:
        yield scored
        return
    # Out here nothing holds what the failed attempt had taken.
    for half in batch.chunk(2):
        yield from _within_memory(score, half)


def _chunks(images: Tensor, run: Run, views: int) -> Iterator[Tensor]:
    if run.recipe.crop < 1:
        images = center_crop(images, crop_side(images.shape[-1], run.recipe))
    at_once = SCORED_ON_CPU if run.device == "cpu" else SCORED_ON_GPU
    for chunk in images.split(max(1, at_once // (views * images.shape[1:].numel()))):
        yield pixels(chunk.to(run.device), numerics.layout(run))


def _within_reach(images: Tensor, device: torch.device) -> Tensor:
    """The training images on the device; where they are, if they would fill more than half of its memory."""
    if device.type == "cuda" and images.numel() > torch.cuda.mem_get_info(device)[0] / 2:
        return images
    return images.to(device)


@contextmanager
def _compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """A module that is called as torch.compile makes it, inside."""
    if wanted:
        module.compile()
    try:
        yield
    finally:
        module._compiled_call_impl = None  # as before compile(): scoring has batches of many sizes, and short ones


@contextmanager
def _threads(values: int) -> Iterator[int]:
    """One processor thread where a batch has few values: several would spend their time waiting for one another, and
    on a busy machine nearly all of it."""
    before = torch.get_num_threads()
    threads = 1 if values < 2**15 else before
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)


def _optimizer(module: nn.Module, recipe: Recipe, fused: bool) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), betas=(recipe.momentum, 0.999), **common)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(module.parameters(), momentum=recipe.momentum, nesterov=nesterov, **common)
