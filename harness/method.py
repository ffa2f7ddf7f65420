"""The Method contract: fit on normal training images, then score test images. Higher = more anomalous."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import kit
from harness.errors import HarnessError
from harness.recipe import Recipe
from harness.spec import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """What a method may know of a fit before it sees an image."""

    channels: int
    height: int
    width: int
    n_images: int
    n_clusters: int | None
    """How many sub-clusters the training labels tell apart; None where labels are withheld."""
    mean: tuple[float, ...]
    """Of the normal training images, per channel, in [0, 1] pixel units."""
    std: tuple[float, ...]
    """Likewise; at least 1/255."""


@dataclass(frozen=True)
class Images:
    """Normal training images, and the index of the sub-cluster of each if the method may see it."""

    images: Tensor
    """(N, C, H, W) uint8, on the CPU."""
    labels: Tensor | None = None
    """(N,) int64 in [0, K), or None where labels are withheld."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Run:
    """What the harness brings to a fit. The random state is seeded before `build`, `fit` and `score` are called."""

    device: str
    seed: int
    recipe: Recipe
    params: Params
    progress: Callable[[int, int, float], None] = lambda epoch, epochs, loss: None
    """Call it as `progress(epoch, epochs, loss)` after each epoch, and with the last one that is over where a training
    goes on from a checkpoint."""
    checkpoints: Path | None = None
    """A folder for checkpoints of this fit alone, removed when it is finished; None: keep none."""
    checkpoint_seconds: float = 30.0
    """Between checkpoints, at least; the training engine keeps them at the ends of epochs."""
    trainings: int = 0
    """How many trainings this fit has begun."""
    seconds_before: float = 0.0
    """What the trainings took up to the checkpoints from which they went on."""
    faster_by: tuple[str, ...] = kit.FASTER_BY_DEFAULT
    """Which of `harness.kit.FASTER_BY` the training may use."""
    notes: dict[str, float] = field(default_factory=dict)
    """Diagnostics that belong in the record, such as the training accuracy."""
    numerics: dict[str, str | int | float | bool] = field(default_factory=dict)
    """How the arithmetic was done, for the record; the training engine fills it in."""
    provenance: list[dict[str, Any]] = field(default_factory=list)
    """What the training was carried out with, for the record: commit, machine, packages; more than one where it goes on
    from a checkpoint that others have made."""
    fitted: Callable[[str, Tensor], Method] | None = None
    """Another method by its name, with default parameters, trained without labels on some images (N, C, H, W) uint8
    by the recipe, with what that has for it alone: `run.fitted(self.params.on, train.images).embed(...)`. A parameter
    has to name it, so that a change of its code makes the record stale."""

    def next_checkpoint(self) -> Path | None:
        """The file for the next training of this fit: the same one when a killed fit is carried out again."""
        self.trainings += 1
        return self.checkpoints / f"{self.trainings}.checkpoint" if self.checkpoints else None

    def note(self, **values: float) -> None:
        """Keep a diagnostic in the record: `run.note(train_accuracy=0.98)`.

        A method that takes a sample of its training images says so by `images_used`, which stands under the table.

        Raises:
            TypeError: it is no number.
        """
        for name, value in values.items():
            try:
                self.notes[name] = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"note({name}=…): {type(value).__name__} is no number") from None


class Method:
    """One way of telling anomalies from normal images. Subclass it, name it, and write `fit` and `score`."""

    name: ClassVar[str]
    """Lower case, as typed after `--method`."""
    scores: ClassVar[tuple[str, ...]]
    """The names of the detection scores that `score` returns."""
    uses_labels: ClassVar[bool] = False
    """True: `fit` is handed the sub-cluster labels, where the protocol shows them. Fits of a method that does not
    look at labels are shared by all protocols that are normal on the same classes."""
    scoring: ClassVar[tuple[str, ...]] = ()
    """The parameters that only `score` reads: changing them needs no new training. One fit serves all of their values,
    so that they have none in `build`, `fit` and `load`, where to read one raises; `predict` and its like may."""
    Params: ClassVar[type[Params]] = Params
    """The declared parameters: a subclass of `harness.Params`, each field with a default."""

    def __init__(self, params: Params | None = None):
        self.params = params if params is not None else self.Params()

    @classmethod
    def skip(cls, n_clusters: int | None, params: Params) -> str | None:
        """Why the method does not apply, or None if it does; the table then shows a dash.

        Args:
            n_clusters: how many sub-clusters the normal images have; None where their labels are withheld.
            params: the declared parameters.
        """
        return None

    def build(self, task: Task, run: Run) -> None:
        """Make the untrained modules that `fit` trains, on `run.device`. Also called before a saved fit is loaded."""

    def fit(self, train: Images, run: Run) -> None:
        """Learn from normal training images."""
        raise NotImplementedError(f"{type(self).__name__} has no fit")

    def score(self, images: Tensor) -> Mapping[str, Tensor]:
        """Score test images.

        Args:
            images: (M, C, H, W) uint8, on the CPU.

        Returns:
            For each name in `scores`, (M,) floats; higher = more anomalous. The score of an image may not depend on
            which other images it comes with.
        """
        raise NotImplementedError(f"{type(self).__name__} has no score")

    # Optional, looked up by the harness, which computes accuracies on normal test images from them:
    # `predict(images) -> (M,) int64`, the sub-cluster of each image; `embed(images) -> (M, D)`, for its neighbours.
    # `logits(images) -> (M, K)` of a classifier of normal images, for the detection scores of plugins; a method that
    # predicts by `self.network` has those of that network.

    def state(self) -> dict[str, Tensor] | None:
        """What was learnt, as named tensors, for scoring again without training.

        By default every attribute: tensors, modules, and plain values such as numbers. If an attribute is anything
        else, None: nothing is kept then, and the fit is trained again wherever it is needed again.
        """
        import torch

        tensors: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        for attribute, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                tensors[attribute] = value
            elif isinstance(value, torch.nn.Module):
                tensors.update({f"{attribute}.{key}": tensor for key, tensor in value.state_dict().items()})
            elif _is_plain(value):
                plain[attribute] = value
            elif not isinstance(value, HANDED_OVER):
                return None
        return tensors | {PLAIN: torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The reverse of `state`, after `build`.

        Raises:
            HarnessError: a module is lacking that `build` should have made.
        """
        import torch

        modules: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key == PLAIN:
                vars(self).update(json.loads(bytes(tensor.tolist())))
                continue
            attribute, _, rest = key.partition(".")
            if not rest:
                setattr(self, key, tensor)
            elif isinstance(getattr(self, attribute, None), torch.nn.Module):
                modules.setdefault(attribute, {})[rest] = tensor
            else:
                raise HarnessError(
                    f"self.{attribute} is a module that fit() makes; make it in build(), so that a finished fit can be "
                    "loaded"
                )
        for attribute, tensors in modules.items():
            getattr(self, attribute).load_state_dict(tensors)


HANDED_OVER = (Params, Recipe, Run, Task)
"""What `build` is handed again when a fit is loaded, and so need not be kept."""
PLAIN = "plain values"
"""The tensor that holds the attributes which are no tensors, as JSON."""


def _is_plain(value: Any) -> bool:
    """Whether a value comes back from JSON as it was: a tuple or a NaN does not."""
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False
