"""A fit: found or trained; and what that takes, in a contract test, too: a task, labels, a method within another."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from harness import kit
from harness.dataset import Dataset, loaded
from harness.digests import plugged_networks, require_named
from harness.errors import HarnessError, Unwritable
from harness.fits import KeptFit, NotKept
from harness.machine import processor, threads
from harness.method import PLAIN, Images, Method, Run, Task
from harness.peak import Peak
from harness.plan import Fit
from harness.provenance import provenance
from harness.recipe import recipe_of_fit
from harness.seeding import seeded
from harness.spec import Params, withheld

if TYPE_CHECKING:
    from torch import Tensor

    from harness.run import Worker


class Fitting:
    """A method, fitted: from the store if its fit is finished there, else by training."""

    def __init__(self, worker: Worker, fit: Fit, dataset: Dataset, shape: Sequence[int]):
        """`shape` is that of a test image, (C, H, W)."""
        self.worker, self.fit, self.dataset, self.shape = worker, fit, dataset, tuple(shape)
        self.epochs = self.epoch = 0
        """How many were reported, of all trainings, and the last one."""
        self.unkept: Unwritable | None = None
        """Why what it learnt could not be kept, if it couldn't."""
        cls = worker.plugins.get("method", fit.method)
        self.method = unfitted(cls, cls.Params(**fit.params))
        recipe = recipe_of_fit(fit.recipe)
        self.run = Run(worker.device, fit.seed, recipe, self.method.params, self._epoch, faster_by=worker.faster_by)
        self.run.provenance = [provenance(worker.device)]
        self.run.fitted = self._another

    def find_or_train(self, digests: dict[str, str]) -> None:
        """See to it that the method is fitted; `about` then says what its fit was, and how it went.

        Raises:
            NotKept: it would have to be trained, and the worker trains nothing.
        """
        for name in plugged_networks(self.fit.recipe):
            kit.BUILDERS[name] = self.worker.plugins.get("network", name)
        fits = self.worker.store.fits
        self.checkpoints = fits.checkpoints(self.fit.id, digests)
        found = fits.find(self.fit.id, digests)
        if not (found or self.worker.trains):
            raise NotKept
        self.about = self._load(*found) if found else self._train(digests)
        switch_to_scoring(self.method, self.run, type(self.method.params)(**self.fit.params))

    def _load(self, kept: KeptFit, state: Mapping[str, Tensor]) -> KeptFit:
        """Fill the method with what it learnt; checkpoints of an earlier attempt are of no more use."""
        self.worker.reporter.fit_reused(self.fit)
        if kept.numerics.get("device") == "cpu" and any(key != PLAIN and "." not in key for key in state):
            self.run.device = "cpu"  # nothing tells which of its tensors outside modules belong beside the images
        self.method.build(Task(**kept.task), self.run)
        here = {name: tensor if name in kept.on_cpu else tensor.to(self.run.device) for name, tensor in state.items()}
        self.method.load(here)
        self.run.notes, self.run.numerics = dict(kept.diagnostics), dict(kept.numerics)
        self.forget_checkpoints()
        return kept

    def _train(self, digests: dict[str, str]) -> KeptFit:
        """Train the method, and keep what it learnt if it says what that is, and the results folder takes it."""
        fit, run = self.fit, self.run
        self.worker.reporter.fit_started(fit)
        images, classes = loaded(self.dataset, "train", fit.normal)
        if (shape := tuple(images.shape[1:])) != self.shape:  # which a network may well take
            raise HarnessError(
                f"{fit.dataset}: training images have the shape {shape} (channels, height, width), and test images "
                f"{self.shape}; set the data set's size"
            )
        labels = cluster_index(fit.clusters, fit.normal)[classes] if fit.labels else None
        task = task_of(images, len(fit.clusters) if fit.labels else None)
        run.checkpoints = self.checkpoints
        peak, started = Peak(run.device), time.perf_counter()
        # A method may go elsewhere; and what a data set has drawn, or seeded, in loading is nothing to the training.
        with seeded(fit.seed), contextlib.chdir("."):
            self.method.build(task, run)
            self.method.fit(Images(images, labels), run)
        seconds = time.perf_counter() - started + run.seconds_before
        run.numerics = {"threads": threads(), **run.numerics, "device": run.device, "processor": processor(run.device)}
        if self.worker.jobs > 1:
            run.numerics["jobs"] = self.worker.jobs
        kept = KeptFit(
            fit=fit.model_dump(mode="json"),
            task=asdict(task),
            digests=digests,
            seconds=seconds,
            images_per_second=per_second(len(images) * max(self.epochs, 1), seconds),
            peak_memory_mib=peak.mib,
            diagnostics=run.notes,
            numerics=run.numerics,
            provenance=tuple(run.provenance),
        )
        state = self.method.state()
        if state is not None:
            try:
                self.worker.store.fits.keep(fit.id, kept, state)
                self.forget_checkpoints()  # else they are all that is left of the training, until all is scored
            except Unwritable as error:
                self.unkept = error
        return kept

    def _epoch(self, epoch: int, epochs: int, loss: float) -> None:
        self.epochs += epoch - self.epoch if epoch > self.epoch else epoch  # which begin anew in another training
        self.epoch = epoch
        self.worker.reporter.epoch(self.fit, epoch, epochs, loss)

    def forget_checkpoints(self) -> None:
        """Also those of other versions of the method or the data."""
        for folder in self.checkpoints.parent.glob(f"{self.fit.id}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _another(self, name: str, images: Tensor) -> Method:
        """See `Run.fitted`."""
        cls = self.worker.plugins.get("method", name)
        require_named(self.worker.plugins, name, self.fit.params)
        slot = self.run.next_checkpoint()
        own = {"checkpoints": slot and slot.with_suffix(""), "trainings": 0}
        method, run = fit_another(cls, images, self.run, recipe=recipe_of_fit(self.fit.recipe, name), **own)
        self.run.seconds_before = run.seconds_before
        return method


def unfitted(cls: type[Method], params: Params) -> Method:
    """A method as `build` and `fit` are to find it: without the parameters that only `score` may read."""
    return cls(withheld(params, cls.scoring))


def switch_to_scoring(method: Method, run: Run, params: Params) -> None:
    """Give a fitted method all of its parameters, and take the modules among its attributes out of training mode."""
    method.params = run.params = params
    for value in vars(method).values():
        if hasattr(value, "eval") and hasattr(value, "train"):
            value.eval()


def fit_another(cls: type[Method], images: Tensor, run: Run, **own: Any) -> tuple[Method, Run]:
    """A method with default parameters, fitted without labels: see `Run.fitted`; `own` is what its run has of its own.
    What it notes is not recorded."""
    method = unfitted(cls, cls.Params())
    run = replace(run, params=method.params, notes={}, numerics={}, **own)
    method.build(task_of(images, None), run)
    method.fit(Images(images), run)
    switch_to_scoring(method, run, cls.Params())
    return method, run


def task_of(images: Tensor, n_clusters: int | None) -> Task:
    """What a method may know of its training images in advance."""
    import torch

    n, channels, height, width = images.shape
    level = torch.arange(256, dtype=torch.float64) / 255
    # A histogram says all there is to say of uint8 pixels, without a float copy of the images.
    share = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(channels)]) / (
        n * height * width
    )
    mean = share.double() @ level
    std = (share.double() @ level.square() - mean.square()).clamp(min=1 / 255**2).sqrt()
    return Task(channels, height, width, n, n_clusters, tuple(mean.tolist()), tuple(std.tolist()))


def cluster_index(clusters: Sequence[Sequence[str]], classes: Sequence[str]) -> Tensor:
    """(len(classes),) int64: the cluster of each class, -1 for a class in none."""
    import torch

    owner = {name: k for k, cluster in enumerate(clusters) for name in cluster}
    return torch.tensor([owner.get(name, -1) for name in classes])


def per_second(images: int, seconds: float) -> float:
    """To four digits."""
    return float(f"{images / max(seconds, 1e-9):.4g}")
