"""What a user asks for beside a method's own scores: detection scores of its logits, and metrics of every score.

In an evaluation they are among the digests, as "score Energy" or "metric fpr80" with the digest of the plugin's file.
So a record that lacks one is scored again, while a fit stays the same whatever is made of it. One that fails is left
out of the record, which says so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import EndsTheRun, HarnessError, told
from harness.plugins import Plugins

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from harness.method import Method, Run
    from harness.plan import Evaluation
    from harness.records import Record

KINDS = ("score", "metric")


def asked(plugins: Plugins, scores: Iterable[str] = (), metrics: Iterable[str] = ()) -> dict[str, str]:
    """The digests of scores and metrics, by "score NAME" and "metric NAME".

    Raises:
        HarnessError: there is no such plugin, or it can't be loaded.
    """
    wanted = [*(("score", name) for name in scores), *(("metric", name) for name in metrics)]
    for kind, name in wanted:
        plugins.get(kind, name)  # now, and not when something has been trained for it
    return {f"{kind} {name}": plugins.entry(kind, name).source.digest for kind, name in wanted}


def with_recorded(evaluation: Evaluation, record: Record | None, plugins: Plugins) -> Evaluation:
    """An evaluation that also asks for what its record has already, as far as that can be had today."""
    if not record or record.digests.keys() <= evaluation.digests.keys():
        return evaluation  # most records have nothing more: the plugins are looked through only for those that have
    cls = plugins.get("method", evaluation.fit.method)
    more = record.digests.keys() - evaluation.digests.keys()
    scores = [name for name in names_of("score", more) if has_logits(cls) and name not in cls.scores]
    kept = (
        sorted(name for name in names if _can_be_had(plugins, kind, name))
        for kind, names in (("score", scores), ("metric", names_of("metric", more)))
    )
    return replace(evaluation, digests=asked(plugins, *kept) | evaluation.digests)


def _can_be_had(plugins: Plugins, kind: str, name: str) -> bool:
    try:
        plugins.get(kind, name)
    except HarnessError:
        return False
    return True


def asked_for(parts: Iterable[str]) -> list[str]:
    """Those of an evaluation's digests that are of scores and metrics."""
    return [part for part in parts if part.startswith(tuple(f"{kind} " for kind in KINDS))]


def names_of(kind: str, digests: Iterable[str]) -> list[str]:
    """The names of the scores, or of the metrics, that an evaluation's digests ask for."""
    return [part.removeprefix(f"{kind} ") for part in digests if part.startswith(f"{kind} ")]


def has_logits(cls: type[Method]) -> bool:
    """Whether a method has logits: its own, or those of the network by which it predicts sub-clusters."""
    return hasattr(cls, "logits") or hasattr(cls, "predict")


def logits(method: Method, images: Tensor, run: Run) -> Tensor:
    """(M, K) float64 logits of a method's classifier, on the CPU.

    Raises:
        HarnessError: the method has neither `logits` nor a `network` of its own.
    """
    import torch
    from torch import nn

    from harness import kit

    given = getattr(method, "logits", None)
    if given is not None:
        found = torch.as_tensor(given(images.clone()))  # it may write into what it is given
    elif isinstance(network := getattr(method, "network", None), nn.Module):
        found = kit.in_batches(images, run, lambda x: {"logits": network(x)})["logits"]
    else:
        raise HarnessError(f"{method.name} has no logits: give it logits(images) -> (M, K), or self.network")
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(f"logits() returned the shape {tuple(found.shape)} for {len(images)} images; want (M, K)")
    return found.detach().cpu().double()


def added_scores(
    names: Sequence[str], method: Method, images: Tensor, run: Run, plugins: Plugins
) -> tuple[dict[str, np.ndarray], Failures]:
    """(M,) float64 by name; and what failed, by "score NAME": one that raises, is of the wrong shape, or not finite."""
    import numpy as np
    import torch

    scores, failures = {}, Failures()
    with failures.of(*(f"score {name}" for name in names)):
        found = logits(method, images, run) if names else None
        for name in names:
            with failures.of(f"score {name}"):
                with plugins.blame("score", name, "score"):
                    values = torch.as_tensor(plugins.get("score", name)(found.clone())).detach().double().numpy()
                if values.shape != (len(images),) or not np.isfinite(values).all():
                    raise ValueError(f"it has the shape {values.shape} for {len(images)} images, or is not finite")
                scores[name] = values
    return scores, failures


def added_metrics(
    names: Sequence[str], scores: Mapping[str, np.ndarray], normal: Any, anomaly: Any, plugins: Plugins
) -> tuple[dict[str, dict[str, float]], Failures]:
    """Each metric of each score, by score and by metric; and what failed, by "metric NAME": one that raises, or is no
    finite number for one of the scores.

    Args:
        scores: (M,) of all test images.
        normal, anomaly: the indices of the normal images and of the anomalies among them.
    """
    found: dict[str, dict[str, float]] = {}
    failures = Failures()
    for name in names:
        with failures.of(f"metric {name}"):
            metric, values_of = plugins.get("metric", name), {}
            for score, values in scores.items():
                with plugins.blame("metric", name, "metric"):
                    value = float(metric(values[normal].copy(), values[anomaly].copy()))
                if not math.isfinite(value):
                    raise ValueError(f"of {score} it is {value}, no finite number")
                values_of[score] = value
            for score, value in values_of.items():
                found.setdefault(score, {})[name] = value
    return found, failures


class Failures(dict[str, BaseException]):
    """What failed beside a method's own scores, with its error: the record holds these without it."""

    @contextlib.contextmanager
    def of(self, *parts: str) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, EndsTheRun):
            raise
        except BaseException as error:
            self.update(dict.fromkeys(parts, error))

    def __str__(self) -> str:
        return "; ".join(f"without {part}: {told(error)}" for part, error in self.items())
