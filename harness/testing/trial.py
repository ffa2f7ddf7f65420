"""One method tried in toy situations, in the way in which the harness itself fits and scores it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.digests import require_named
from harness.errors import HarnessError
from harness.fitting import fit_another, switch_to_scoring, task_of, unfitted
from harness.method import Images, Method, Run, Task
from harness.plugins import Entry, Plugins
from harness.seeding import seeded
from harness.testing.findings import Broken, calling, require
from harness.testing.toy import Situation

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0
LEARNING = {"images": 192, "epochs": 8}
"""With these, each bundled method tells the toy images well enough from noise."""


FINITE = "look for a division by zero, a log of zero, or an overflow; clamp, or work with logarithms"
"""What mends scores that are not finite."""


@dataclass
class Fitted:
    """A method after `fit`, as the harness has it."""

    method: Method
    run: Run
    task: Task
    situation: Situation
    scores: dict[str, Tensor] = field(default_factory=dict)
    """Of the situation's test images, once they were asked for."""
    in_training_mode: set[str] = field(default_factory=set)
    """The modules that were called in training mode while they scored."""

    def score(self, images: Tensor) -> dict[str, Tensor]:
        """Each score, (M,) of the dtype that the method returns; the random state is seeded as in a run."""
        import torch

        with seeded(self.run.seed):
            given = self.method.score(images)
        if not isinstance(given, Mapping):
            mend = "return a dict with a tensor for each name in `scores`"
            raise Broken(f"score() returns {type(given).__name__}, no mapping from names to values", mend)
        return {name: torch.as_tensor(values).detach().cpu() for name, values in given.items()}


@contextmanager
def noting_training_mode(found: set[str]) -> Iterator[None]:
    """Every module that is called in training mode, by the name of its class."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    hook = register_module_forward_pre_hook(lambda one, _: found.add(type(one).__name__) if one.training else None)
    try:
        yield
    finally:
        hook.remove()


def defaults() -> dict[str, Any]:
    """Torch's global settings, by the function that sets each."""
    import torch

    return {
        "set_default_dtype": torch.get_default_dtype(),
        "set_grad_enabled": torch.is_grad_enabled(),
        "set_num_threads": torch.get_num_threads(),
        "use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


class Trial:
    """A method to be checked; what was fitted for one check serves the others."""

    def __init__(self, plugins: Plugins, entry: Entry):
        self.plugins, self.entry, self.file = plugins, entry, entry.source.path
        self.cls: type[Method] = plugins.get("method", entry.name)
        self.changed: dict[str, Any] = {}
        """Torch's global settings that some fit has changed, and their values."""
        self._fitted: dict[Situation, Fitted] = {}

    def skips(self, situation: Situation) -> str | None:
        with calling("skip()", self.file):
            return self.cls.skip(situation.visible, self.cls.Params())

    @cached_property
    def usual(self) -> Situation:
        """The first of the usual situations in which the method applies."""
        situations = (Situation(), Situation(clusters=1), Situation(labels=False))
        reasons = [self.skips(situation) for situation in situations]
        require(
            None in reasons,
            f"skip() refuses three sub-clusters, a single one, and withheld labels alike: {reasons[0]}",
            "let skip() return None where the method applies",
        )
        return situations[reasons.index(None)]

    def fit(self, situation: Situation) -> Fitted:
        """Fit anew, in the random state as it is.

        Raises:
            HarnessError: the method's own clear refusal.
            Broken: it raises anything else, or changes what it is handed.
        """
        train = situation.train()
        before, settings = train.images.clone(), defaults()
        mend = "let __init__ take `params` and hand it to super().__init__(params), or make things in build()"
        with calling("__init__(params)", self.file, mend):
            method = unfitted(self.cls, self.cls.Params())
        run = Run("cpu", SEED, situation.recipe, method.params)

        def fitted(name: str, images: Tensor) -> Method:
            cls = self.plugins.get("method", name)
            require_named(self.plugins, name, method.params.model_dump(mode="json"))
            return fit_another(cls, images, run)[0]

        run.fitted = fitted
        task = task_of(train.images, situation.visible if self.cls.uses_labels else None)
        handed = train if self.cls.uses_labels else Images(train.images)
        for name, call in (("build", lambda: method.build(task, run)), ("fit", lambda: method.fit(handed, run))):
            try:
                with calling(f"{name}() on {situation}", self.file):
                    call()
            except Broken as broken:
                if isinstance(broken.__cause__, HarnessError):
                    raise broken.__cause__ from None
                raise
            finally:
                self._restore(settings)
        require(
            before.equal(train.images),
            "fit() changes the training images that it is handed",
            "work on a copy: the images are used again; x.float() makes one, x.sub_(…) does not",
        )
        switch_to_scoring(method, run, self.cls.Params())
        return Fitted(method, run, task, situation)

    def fitted(self, situation: Situation, may_refuse: bool = False) -> Fitted:
        """Fit, or take what was fitted in this situation before.

        Raises:
            Broken: as for `fit`, or the method refuses what it may not refuse.
            HarnessError: it refuses what it may.
        """
        if situation not in self._fitted:
            try:
                with seeded(SEED):
                    self._fitted[situation] = self.fit(situation)
            except HarnessError as error:
                if may_refuse:
                    raise
                mend = "say so in skip(), or make it work: the toy images are valid input"
                raise Broken(f"refuses {situation}: {error}", mend) from None
        return self._fitted[situation]

    def scores(self, situation: Situation, images: Tensor | None = None) -> dict[str, Tensor]:
        """Scores of images, by default of the situation's test images, which are scored once only.

        Raises:
            Broken: they are not what `score` promises to return.
        """
        fitted = self.fitted(situation)
        if images is None:
            if not fitted.scores:
                fitted.scores = self._scores(fitted, situation.test())
            return fitted.scores
        return self._scores(fitted, images)

    def numbers(self, situation: Situation, images: Tensor | None = None) -> dict[str, Tensor]:
        """The same, if all are finite: nothing else can be seen of the others.

        Raises:
            Broken: they are not; as one bug, wherever it is met.
        """
        scores = self.scores(situation, images)
        for name, values in scores.items():
            bad = int((~values.isfinite()).sum())
            require(not bad, f"{name} is not finite for {bad} of {len(values)} toy images", FINITE, "not finite")
        return scores

    def _scores(self, fitted: Fitted, images: Tensor) -> dict[str, Tensor]:
        before = images.clone()
        with calling(f"score() on {fitted.situation}", self.file), noting_training_mode(fitted.in_training_mode):
            scores = fitted.score(images)
        self._check_shapes(scores, len(images))
        require(
            before.equal(images),
            "score() changes the images that it is handed",
            "work on a copy: x.float() makes one, x.sub_(…) does not",
        )
        return scores

    def _check_shapes(self, given: dict[str, Tensor], images: int) -> None:
        import torch

        declared = self.cls.scores
        require(
            set(given) == set(declared),
            f"score() returns {', '.join(given) or 'nothing'}, but `scores` declares {', '.join(declared)}",
            "make the two agree",
        )
        for name, values in given.items():
            require(
                values.shape == (images,),
                f"{name} has the shape {tuple(values.shape)} for {images} images",
                f"return one value per image, as ({images},): flatten(1) and reduce over dim=1",
            )
            require(
                values.dtype in (torch.float32, torch.float64),
                f"{name} is of the type {values.dtype}".replace("torch.", ""),
                "return float32 or float64: coarser numbers tie",
            )

    def _restore(self, settings: dict[str, Any]) -> None:
        import torch

        for name, value in defaults().items():
            if value != settings[name]:
                self.changed[name] = value
                getattr(torch, name)(settings[name])
