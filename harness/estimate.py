"""How long a plan will take, judged by the fits on record in the same results folder.

A precedent is a fit of the same method, data set and network on the same hardware: what `--device auto` means here,
else this machine's processor, or, where no record is of either, what the newest record is of. Where some have the same
parameters, the others don't count, and likewise the same normal classes. Training takes a time in proportion to classes
and epochs, since how many images a class has is not known before it is loaded; scoring takes one in proportion to the
classes that are tested.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.machine import choose_device, processor
from harness.plan import Evaluation, Fit, Plan
from harness.records import Record, Store
from harness.spec import digest

LATEST = 200
"""How many records of a method are looked at, the newest first: what is read does not grow with what is on record."""


@dataclass(frozen=True)
class Precedent:
    """A fit on record, and what it took."""

    kind: str
    """Of method, data set and network, and of what methods within it are trained by."""
    params: str
    normal: frozenset[str]
    epochs: int
    tested: int
    """Classes of test images."""
    fit_seconds: float
    """Of the machine's time: what was carried out beside others took its share of it."""
    score_seconds: float
    """Likewise."""


@dataclass(frozen=True)
class Estimate:
    """What the fits of a plan take one after the other."""

    seconds: float
    judged: int
    """Fits that have a precedent."""
    precedents: int
    """Fits on record that were looked at for them."""
    hardware: str
    """What they were carried out on."""
    here: bool
    """Whether this machine has it."""
    unknown: dict[str, int]
    """Fits without a precedent, by method."""

    def __str__(self) -> str:
        lacking = ", ".join(f"{count} of {method}" for method, count in self.unknown.items())
        if not self.judged:
            return f"no fit on record tells how long this takes ({lacking})"
        hardware = self.hardware if self.here else f"{self.hardware}, not this machine"
        text = f"about {duration(self.seconds)}, judged by {self.precedents} fit(s) on record ({hardware})"
        return f"{text}; without precedent, and not counted: {lacking}" if lacking else text


def estimate(plan: Plan, store: Store) -> Estimate | None:
    """What the fits that a plan has to carry out will take; None if there is none."""
    jobs = plan.jobs()
    if not jobs:
        return None
    wanted = dict.fromkeys((fit.dataset, fit.method) for fit, _ in jobs)
    records: dict[str, list[Record]] = {}
    for record in (record for one in wanted for record in store.latest(*one, LATEST)):
        if record.status == "ok" and (found := _hardware(record)):
            records.setdefault(found, []).append(record)
    hardware, here = _to_judge_by(records)
    kinds: dict[str, list[Precedent]] = {}
    for one in _precedents(records.get(hardware, ())):
        kinds.setdefault(one.kind, []).append(one)
    seconds, judged, unknown, used = 0.0, 0, {}, {}
    for fits, evaluations in _but_for_the_seed(jobs):
        fit = fits[0]
        known = kinds.get(_kind(fit.method, fit.dataset, fit.dataset_params, fit.recipe), [])
        if not known:
            unknown[fit.method] = unknown.get(fit.method, 0) + len(fits)
            continue
        alike = _closest(fit, evaluations[0].params, known)
        training, scoring = _seconds(fit, evaluations, alike)
        untrained = sum(not store.fits.has(one.id, evaluations[0].fit_digests) for one in fits)
        seconds += len(fits) * scoring + untrained * training
        judged += len(fits)
        used.update({id(one): one for one in alike})
    return Estimate(seconds, judged, len(used), hardware, here, unknown)


def duration(seconds: float) -> str:
    """In one or two units, as in "2 h 10 min"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def _but_for_the_seed(jobs: Iterable[tuple[Fit, list[Evaluation]]]) -> list[tuple[list[Fit], list[Evaluation]]]:
    """Fits that are alike, with the evaluations of one: in a plan, a method has one data set, recipe and settings."""
    groups: dict[tuple, tuple[list[Fit], list[Evaluation]]] = {}
    for fit, evaluations in jobs:
        cases = tuple((one.protocol, one.case, one.anomaly_set) for one in evaluations)
        groups.setdefault((fit.method, cases), ([], evaluations))[0].append(fit)
    return list(groups.values())


def _seconds(fit: Fit, evaluations: Sequence[Evaluation], alike: Sequence[Precedent]) -> tuple[float, float]:
    """Of training and of scoring: the median of what the precedents say."""
    amount = fit.recipe["epochs"] * len(fit.normal)
    tested = len({*fit.normal, *(name for evaluation in evaluations for name in evaluation.anomaly)})
    return (
        amount * statistics.median(one.fit_seconds / (one.epochs * len(one.normal)) for one in alike),
        tested * statistics.median(one.score_seconds / one.tested for one in alike),
    )


def _closest(fit: Fit, params: dict[str, Any], precedents: Sequence[Precedent]) -> Sequence[Precedent]:
    """Those that are most like a fit."""
    wanted, normal = digest(params), frozenset(fit.normal)
    same: tuple[Callable[[Precedent], bool], ...] = (lambda p: p.params == wanted, lambda p: p.normal == normal)
    for holds in same:
        precedents = [one for one in precedents if holds(one)] or precedents
    return precedents


def _precedents(records: Iterable[Record]) -> list[Precedent]:
    """Each fit once, however many evaluations share it."""
    by_fit: dict[str, list[Record]] = {}
    for record in records:
        by_fit.setdefault(record.fit, []).append(record)
    found = []
    for each in by_fit.values():
        first = each[0]
        normal = frozenset(name for cluster in first.clusters for name in cluster)
        at_once = int(first.numerics.get("jobs", 1))
        found.append(
            Precedent(
                kind=_kind(first.method, first.dataset, first.dataset_params, first.recipe_values),
                params=digest(first.params),
                normal=normal,
                epochs=first.recipe_values["epochs"],
                tested=len(normal.union(*(record.anomaly for record in each))),
                fit_seconds=first.fit_seconds / at_once,
                score_seconds=statistics.median(record.score_seconds for record in each) / at_once,
            )
        )
    return found


def _kind(method: str, dataset: str, dataset_params: dict[str, Any], recipe: dict[str, Any]) -> str:
    return digest([method, dataset, dataset_params, recipe["network"], recipe.get("methods")])


def _to_judge_by(records: Mapping[str, Sequence[Record]]) -> tuple[str, bool]:
    """The hardware whose records count, and whether it is here; `records` by hardware."""
    own = processor("cpu")
    # Only where something else than this machine's processor is on record is it worth loading PyTorch to ask.
    if records.keys() <= {own}:
        return own, True
    for name in (processor(choose_device("auto")), own):
        if name in records:
            return name, True
    newest = max(chain(*records.values()), key=lambda record: record.finished)
    return _hardware(newest), False


def _hardware(record: Record) -> str:
    """What a fit was trained and scored on; nothing, if not on the same."""
    scored = str(record.provenance.get("processor"))
    return scored if record.numerics.get("processor", scored) == scored else ""
