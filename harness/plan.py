"""What a plan is: the distinct fits, each with its evaluations, and what is to be done about each.

A fit is identified by what it trains on, and not by the table that it feeds: two evaluations that need the same
training share it, within a command and across commands. A plan is made of a request by `harness.planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from harness.records import Key, Record, Store
from harness.spec import Spec, digest

IDENTITY = 1
"""The version of what identifies a fit. A change to `Fit` is a deliberate change to this number."""

FITTED = "fitted "
"""Begins the part of a method that another one has fitted for itself, by `Run.fitted`."""
OF_A_FIT = ("method", "dataset", "engine", "network")
"""The other parts that a fit depends on; protocol and recipe are in what identifies it."""

Status = Literal["done", "to run", "stale", "failed", "skipped"]


class Fit(Spec):
    """One training, as plain data: it can be printed, hashed, and sent to another machine."""

    method: str
    params: dict[str, Any]
    """The parameters that training depends on."""
    recipe: dict[str, Any]
    """The values that training depends on; under `methods`, those that are others for methods that this one has fitted
    for itself, by method, if any are."""
    dataset: str
    dataset_params: dict[str, Any]
    clusters: tuple[tuple[str, ...], ...]
    """The normal classes, sorted; one cluster each where the method may tell them apart, else all in one."""
    labels: bool
    """Whether the method is handed the cluster of each image."""
    seed: int

    @cached_property
    def id(self) -> str:
        return digest([IDENTITY, self.model_dump(mode="json")])

    @property
    def normal(self) -> tuple[str, ...]:
        return tuple(name for cluster in self.clusters for name in cluster)


@dataclass(frozen=True)
class Evaluation:
    """A fit scored on one anomaly set of one case, and part of the number of a table's cell."""

    protocol: str
    case: str
    declared_as: str
    """The data set that the protocol and the recipe declare this for."""
    anomaly_set: str
    recipe: str
    settings: dict[str, dict[str, Any]]
    """What the user changed with --set, of what matters here."""
    fit: Fit
    scoring: dict[str, Any]
    """The parameters that only scoring depends on."""
    clusters: tuple[tuple[str, ...], ...]
    """The case's normal classes by sub-cluster, whether or not the method may see them."""
    anomaly: tuple[str, ...]
    digests: dict[str, str]
    """Of what the numbers depend on: protocol, dataset, recipe, method, engine."""
    failed: str = ""
    """When the attempt was over that failed before the plan was made, and that is to be repeated."""

    @property
    def normal(self) -> tuple[str, ...]:
        """The normal classes in one order for all methods, whatever clusters they see."""
        return tuple(sorted(self.fit.normal))

    @property
    def fit_digests(self) -> dict[str, str]:
        """Of what the fit depends on, beyond what identifies it."""
        return {part: value for part, value in self.digests.items() if part in OF_A_FIT or part.startswith(FITTED)}

    @property
    def params(self) -> dict[str, Any]:
        """Every parameter of the method, as used."""
        return self.fit.params | self.scoring

    @cached_property
    def key(self) -> Key:
        """That of its record."""
        return Key.of(self, self.fit)

    def __str__(self) -> str:
        tail = "" if self.anomaly_set == "anomaly" else f", {self.anomaly_set}"
        return f"{self.protocol} {self.fit.dataset} {self.case}{tail}, {self.fit.method}, seed {self.fit.seed}"


@dataclass(frozen=True)
class Planned:
    """An evaluation, and what is to be done about it."""

    evaluation: Evaluation
    status: Status
    reason: str = ""
    recorded: bool = False
    """Whether a skip is already on record."""


@dataclass
class Plan:
    """Every evaluation of a request, in the order of its tables, with its status."""

    planned: list[Planned] = field(default_factory=list)

    def count(self, *statuses: Status) -> int:
        return sum(one.status in statuses for one in self.planned)

    def jobs(self) -> list[tuple[Fit, list[Evaluation]]]:
        """The distinct fits that are needed, each with the evaluations that wait for it; what has failed before comes
        last, since it may end the run again, as by a GPU that answers no more."""
        waiting: dict[str, tuple[Fit, list[Evaluation]]] = {}
        for one in sorted(self.planned, key=lambda one: one.status == "failed"):
            if one.status in ("to run", "stale", "failed"):
                waiting.setdefault(one.evaluation.fit.id, (one.evaluation.fit, []))[1].append(one.evaluation)
        return list(waiting.values())

    def of(self, method: str) -> Plan:
        """The part of the plan that is of one method."""
        return Plan([one for one in self.planned if one.evaluation.fit.method == method])

    def summary(self, store: Store | None = None) -> str:
        """How much is done, and how much there is to do, on one line; from a store, how much of that is training."""
        jobs = self.jobs()
        counts = {status: self.count(status) for status in ("done", "to run", "stale", "failed", "skipped")}
        said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        todo = f"{len(jobs)} fit(s) to train or load" if jobs else "nothing to train"
        if jobs and store:
            kept = sum(store.fits.has(fit.id, each[0].fit_digests) for fit, each in jobs)
            todo = f"{len(jobs) - kept} fit(s) to train, {kept} to score only"
        return f"{len(self.planned)} evaluations ({said}); {todo}"

    def of_finished_fits(self, store: Store) -> Plan:
        """The part of the plan that needs no training, unless what is kept can't be read."""
        lost = [each for fit, each in self.jobs() if not store.fits.has(fit.id, each[0].fit_digests)]
        missing = {evaluation.key for each in lost for evaluation in each}
        return Plan([one for one in self.planned if one.evaluation.key not in missing])

    def skips(self) -> list[Planned]:
        """What is skipped and not yet on record as such."""
        return [one for one in self.planned if one.status == "skipped" and not one.recorded]


def outstanding(evaluations: Iterable[Evaluation], recorded: Callable[[Key], Record | None]) -> list[Evaluation]:
    """Those that have yet to be carried out: not what has succeeded, or failed since the plan was made.

    Args:
        recorded: gives the record of a key, if there is one, as `Store.find` does.
    """

    def over(record: Record, evaluation: Evaluation) -> bool:
        once = record.status == "ok" or (record.status == "failed" and record.finished != evaluation.failed)
        return once and not changes(record, evaluation)

    return [one for one in evaluations if not ((record := recorded(one.key)) and over(record, one))]


def changes(record: Record, evaluation: Evaluation | Record) -> list[str]:
    """What has changed since a record was made; of another record of it, what is another there."""
    changed = [part for part, value in evaluation.digests.items() if record.digests.get(part) != value]
    return [*changed, "parameters"] if record.params != evaluation.params else changed
