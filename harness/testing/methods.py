"""What every method promises, one small function per promise."""

from __future__ import annotations

import random
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.fits import Fits, KeptFit
from harness.fitting import switch_to_scoring, unfitted
from harness.metrics import measure
from harness.seeding import seeded
from harness.testing.findings import calling, require
from harness.testing.imports import imports_nothing_heavy
from harness.testing.toy import Situation
from harness.testing.trial import FINITE, LEARNING, SEED, Fitted, Trial

if TYPE_CHECKING:
    from torch import Tensor

UPSIDE_DOWN, CHANCE = 0.4, 0.6
"""On figures against noise, each score must have an AUROC above the one, and the best score above the other."""
ALIKE = 1e-3
"""Two scores of one image may differ by this share of the scores' spread: another batch rounds in another way."""


def scores(trial: Trial) -> None:
    """score() returns (M,) floats for each name in `scores`"""
    trial.scores(trial.usual)


def finite(trial: Trial) -> None:
    """every score is finite, of black and white images too"""
    import torch

    trial.numbers(trial.usual)
    normal = trial.usual.normal()
    for what, images in {"black": torch.zeros_like(normal[:2]), "white": torch.full_like(normal[:2], 255)}.items():
        for name, values in trial.scores(trial.usual, images).items():
            require(values.isfinite().all(), f"{name} is not finite for {what} images", FINITE)


def sign(trial: Trial) -> None:
    """higher = more anomalous, on figures against noise"""
    situation = replace(trial.usual, **LEARNING)
    count, aurocs = len(situation.normal()), {}
    for name, values in trial.numbers(situation).items():
        aurocs[name] = measure(values[:count], values[count:]).auroc
        require(
            aurocs[name] > UPSIDE_DOWN,
            f"{name} has an AUROC of {aurocs[name]:.3f} on figures against noise: noise scores lower",
            "return minus the score: higher must mean more anomalous",
        )
    require(
        max(aurocs.values()) > CHANCE,
        f"no score tells figures from noise: AUROC {', '.join(f'{n} {auroc:.3f}' for n, auroc in aurocs.items())}",
        "see whether fit() learns anything: every bundled method tells them apart",
    )


def seed(trial: Trial) -> None:
    """the same seed gives the same scores"""
    first = trial.numbers(trial.usual)
    with seeded(SEED):
        again = trial.fit(trial.usual).score(trial.usual.test())
    for name, values in first.items():
        require(
            values.equal(again[name]),
            f"{name} differs between two fits with one seed, by up to {(values - again[name]).abs().max():.2g}",
            "draw random numbers from the global state, which is seeded, or from a generator that run.seed seeds",
        )


def random_state(trial: Trial) -> None:
    """no global state is set: neither a random seed nor torch's defaults"""
    trial.scores(trial.usual)  # what it can't do at all is told as such
    ends = []
    for start in (1, 2):
        with seeded(start):
            fitted = trial.fit(trial.usual)  # with the same run.seed both times
            with calling("score()", trial.file):
                fitted.method.score(trial.usual.normal())
            ends.append(_random_states())
    for generator, state in ends[0].items():
        require(
            state != ends[1][generator],
            f"{generator} random state is the same after two fits that began with different ones: somebody seeds it",
            "draw from it as it is, it is seeded already; or pass run.seed to a generator of your own",
        )
    for name, value in trial.changed.items():
        require(False, f"fit() leaves torch.{name}({value}) behind", "set it back, or do without")


def _random_states() -> dict[str, Any]:
    import numpy as np
    import torch

    name, keys, place, *_ = np.random.get_state()
    return {
        "Python's": random.getstate(),
        "NumPy's": (name, keys.tobytes(), place),
        "torch's": torch.get_rng_state().numpy().tobytes(),
    }


def batch(trial: Trial) -> None:
    """the score of an image does not depend on the batch that it comes in"""
    images = trial.usual.test()
    together = trial.numbers(trial.usual)
    some = range(0, len(images), len(images) // 4)
    for k in some:
        alone = trial.numbers(trial.usual, images[k : k + 1])
        for name, values in together.items():
            value = alone[name][0]
            _alike(
                values,
                values[k],
                value,
                f"{name} of an image is {values[k]:.6g} in a batch of {len(images)}, and {value:.6g} alone",
                "use statistics of the training images, not of the batch; switch batch normalisation to eval()",
            )


def order(trial: Trial) -> None:
    """the score of an image does not depend on the order of the images"""
    images = trial.usual.test()
    forward, backward = trial.numbers(trial.usual), trial.numbers(trial.usual, images.flip(0))
    for name, values in forward.items():
        _alike(
            values,
            values,
            backward[name].flip(0),
            f"{name} changes when the same images come in another order",
            "draw no random numbers in score(), and keep nothing from one image to the next",
        )


def eval_mode(trial: Trial) -> None:
    """no module is in training mode while it scores"""
    trial.scores(trial.usual)
    training = trial.fitted(trial.usual).in_training_mode
    require(
        not training,
        f"score() runs {', '.join(sorted(training))} in training mode",
        "call .eval() at the end of fit(): the harness does so only for modules that are attributes of the method",
    )


def clusters(trial: Trial) -> str:
    """one normal class and many: fits, or skip() says why not"""
    return _situations(trial, Situation(clusters=1), Situation(clusters=3), Situation(clusters=9))


def labels(trial: Trial) -> str:
    """withheld labels: fits without them, or skip() says why not"""
    return _situations(trial, replace(trial.usual, labels=False))


def colour(trial: Trial) -> str:
    """grey and colour images"""
    return _situations(trial, replace(trial.usual, channels=1), replace(trial.usual, channels=3))


def sizes(trial: Trial) -> str:
    """odd sizes and rectangles: fits, or refuses with a HarnessError"""
    notes = []
    for height, width in ((13, 13), (9, 14)):
        situation = replace(trial.usual, height=height, width=width)
        try:
            trial.fitted(situation, may_refuse=True)
        except HarnessError as error:
            notes.append(f"refused: {error}")
        else:
            _plausible(trial, situation)
    return "; ".join(dict.fromkeys(notes))


def saved(trial: Trial) -> str:
    """what state() returns is kept on disk, and load() gives the same scores"""
    fitted, images = trial.fitted(trial.usual), trial.usual.test()
    with calling("state()", trial.file):
        state = fitted.method.state()
    if state is None:
        return "state() is None: nothing is kept, and the fit is trained again wherever it is needed again"
    mend = "state() must hold all that score() needs, as named tensors; let load() reverse it, after build()"
    method, before = unfitted(trial.cls, trial.cls.Params()), trial.numbers(trial.usual)
    again = replace(fitted, method=method, run=replace(fitted.run, params=method.params))
    with calling("keeping what state() returns, and load() of it,", trial.file, mend):
        again.method.build(again.task, again.run)
        again.method.load(_through_disk(fitted, state))
        switch_to_scoring(again.method, again.run, trial.cls.Params())
        loaded = again.score(images)
    for name, values in before.items():
        difference = (values - loaded[name]).abs().max()
        require(values.equal(loaded[name]), f"{name} differs by up to {difference:.2g} after load()", mend)
    return ""


def _through_disk(fitted: Fitted, state: dict[str, Tensor]) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        fits, digests = Fits(Path(folder)), {"method": ""}
        fits.keep("a-fit", KeptFit(fit={}, task=asdict(fitted.task), digests=digests, seconds=0), state)
        return fits.find("a-fit", digests)[1]


def extras(trial: Trial) -> str:
    """predict(), embed() and logits(), where there are any: one finite row per image"""
    import torch

    from harness.kit.neighbours import knn_accuracy

    fitted, images = trial.fitted(trial.usual), trial.usual.normal()
    found = []
    for name, dimensions in (("predict", 1), ("embed", 2), ("logits", 2)):
        function = getattr(fitted.method, name, None)
        if function is None:
            continue
        with calling(f"{name}()", trial.file), seeded(0):
            rows = torch.as_tensor(function(images))
        wanted = f"({len(images)},)" if dimensions == 1 else f"({len(images)}, D)"
        require(
            rows.ndim == dimensions and len(rows) == len(images),
            f"{name}() returns the shape {tuple(rows.shape)} for {len(images)} images",
            f"return {wanted}",
        )
        require(
            rows.isfinite().all(),
            f"{name}() returns what is not finite",
            "look for a division by zero, a log of zero, or an overflow",
        )
        if name == "predict":
            kind = str(rows.dtype).removeprefix("torch.")
            require(not rows.is_floating_point(), f"predict() returns {kind}", "return whole numbers: argmax does")
        if name == "embed":
            labels = torch.zeros(len(images), dtype=torch.int64)
            with calling("the accuracy among neighbours by embed()", trial.file, "give every image a direction"):
                knn_accuracy(rows, labels, rows, labels, k=1)
        found.append(name)
    return f"has {', '.join(found)}" if found else ""


def imports(trial: Trial) -> None:
    """nothing heavy is imported at the top of the file"""
    imports_nothing_heavy(trial.entry)


CHECKS = (
    *(imports, scores, finite, sign, seed, random_state, batch, order, eval_mode),
    *(clusters, labels, colour, sizes, saved, extras),
)


def _situations(trial: Trial, *situations: Situation) -> str:
    """Each situation is skipped with a reason, or gives plausible scores; the reasons, for those that are skipped."""
    notes = {}
    for situation in situations:
        reason = trial.skips(situation)
        require(
            reason is None or (isinstance(reason, str) and reason),
            f"skip() returns {reason!r} for {situation}",
            "return the reason as text, or None where the method applies",
        )
        if reason:
            notes[f"skipped: {reason}"] = None
        else:
            _plausible(trial, situation)
    return "; ".join(notes)


def _plausible(trial: Trial, situation: Situation) -> None:
    trial.numbers(trial.usual)  # what is wrong in all situations is told once
    for name, values in trial.scores(situation).items():
        require(
            values.isfinite().all(),
            f"{name} is not finite on {situation}",
            "let nothing depend on one number of channels, pixels or sub-clusters: task in build() has them",
        )


def _alike(spread: Tensor, first: Tensor, second: Tensor, reason: str, mend: str) -> None:
    values = spread.double()
    allowed = ALIKE * values.std() + 1e-6 * values.abs().max()
    require(((first.double() - second.double()).abs() <= allowed).all(), reason, mend)
