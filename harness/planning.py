"""From a request to its plan: protocols x methods x seeds -> the evaluations, each compared with what is on record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import extras, kit
from harness.dataset import Dataset
from harness.digests import dataset_digest, is_bundled, named_methods, source_digests
from harness.errors import HarnessError, guess, one_line, suggest
from harness.method import Method
from harness.plan import Evaluation, Fit, Plan, Planned, changes
from harness.plugins import Plugins, aside
from harness.protocol import Case, Protocol, read_protocol
from harness.recipe import COMMENTARY, Recipe, read_recipe
from harness.records import Store
from harness.settings import check_owners, parse_settings, settled
from harness.spec import check, digest


@dataclass
class Request:
    """What the user asks for, as typed."""

    protocols: Sequence[str]
    methods: Sequence[str]
    dataset: str = "digits"
    cases: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    recipe: str | None = None
    settings: Sequence[str] = ()
    scores: Sequence[str] = ()
    """Detection scores to add to every method that has logits."""
    metrics: Sequence[str] = ()
    """Metrics to add to every score."""
    data: Path = Path("data")


def make_plan(request: Request, plugins: Plugins, store: Store | None = None) -> Plan:
    """Resolve a request into its evaluations, each compared with the records that the store holds.

    Raises:
        HarnessError: something that was asked for does not exist or is not well formed.
    """
    with aside():
        return _make_plan(request, plugins, store)


def _make_plan(request: Request, plugins: Plugins, store: Store | None) -> Plan:
    settings = parse_settings(request.settings)
    dataset_class = plugins.get("dataset", request.dataset)
    declared = [(text, read_protocol(text)) for text in request.protocols]
    methods = plugins.chosen("method", request.methods)
    names = dict.fromkeys(protocol.name for _, protocol in declared)
    check_owners(settings, [*methods, *names, request.dataset, "recipe"])
    dataset_changes = settings.get(request.dataset, {})
    dataset_params = check(dataset_class.Params, dataset_changes, f"--set {request.dataset}")
    if dataset_changes:
        settings[request.dataset] = settled(dataset_changes, dataset_params.model_dump())
    dataset = plugins.dataset(request.dataset, request.data, dataset_params)
    if for_all := settings.get("recipe"):
        _, recipe = read_recipe(dataset.declared_as, request.recipe, "", for_all)
        settings["recipe"] = settled(for_all, recipe.values_that_train())
    protocols = _protocols(declared, settings, dataset)
    cases = _cases(protocols, request, dataset.declared_as)
    for protocol, case in cases:
        for classes in ((*case.normal, *anomaly) for anomaly in case.anomalies.values()):
            try:
                with plugins.blame("dataset", request.dataset, "check_classes"):
                    dataset.check_classes(classes)
            except HarnessError as error:
                raise HarnessError(f"protocol {protocol.name}, dataset.{dataset.declared_as}: {error}") from None

    for seed in request.seeds:
        if not 0 <= seed < 2**32:
            raise HarnessError(f"--seed {seed}: random generators take whole numbers from 0 to {2**32 - 1}")

    plan = Plan()
    with plugins.blame("dataset", request.dataset, "revision"):
        revision = dataset_digest(dataset)
    scores, metrics = plugins.chosen("score", request.scores), plugins.chosen("metric", request.metrics)
    if scores and not any(extras.has_logits(plugins.get("method", name)) for name in methods):
        raise HarnessError(
            f"--score {','.join(scores)}: made of logits, and there are none in {', '.join(methods)}; try subcluster"
        )
    for name in methods:
        resolved = _Resolved(name, request, settings, plugins, dataset, revision, scores, metrics)
        for protocol, case in cases:
            reason = resolved.skip(protocol, case)
            for anomaly_set in case.anomalies:
                for evaluation in resolved.evaluations(protocol, case, anomaly_set):
                    plan.planned.append(_compare(evaluation, plugins, reason, store))
    return plan


@dataclass
class _Resolved:
    """A method with its parameters, recipe and data set, ready to be combined with cases."""

    name: str
    request: Request
    settings: dict[str, dict[str, Any]]
    plugins: Plugins
    dataset: Dataset
    revision: str
    scores: list[str]
    metrics: list[str]
    depends: dict[str, tuple[dict[str, Any], dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self):
        self.cls: type[Method] = self.plugins.get("method", self.name)
        changes = self.settings.get(self.name, {})
        own, trains = list(self.cls.Params.model_fields), sorted(Recipe.model_fields.keys() - COMMENTARY)
        for key in changes:
            if key not in (*own, *trains):
                raise HarnessError(
                    f"--set {self.name}.{key}: {self.name} has no such parameter; {guess(key, [*own, *trains])}"
                    f"its own: {', '.join(own) or 'none'}; of the recipe: {', '.join(trains)}"
                )
        self.changes = {key: value for key, value in changes.items() if key in self.cls.Params.model_fields}
        self.for_recipe = self.settings.get("recipe", {}) | {k: v for k, v in changes.items() if k not in self.changes}
        self.recipe_name, self.recipe = self._recipe_of(self.name)
        checked = self.recipe | check(self.cls.Params, self.changes, f"--set {self.name}").model_dump()
        if changes:
            self.settings = self.settings | {self.name: settled(changes, checked)}
        self.digests = {"dataset": self.revision}
        twice = set(self.scores) & set(self.cls.scores)
        if twice:
            raise HarnessError(f"--score {', '.join(sorted(twice))}: {self.name} has a score of that name already")
        self.digests |= extras.asked(self.plugins, self.scores if extras.has_logits(self.cls) else (), self.metrics)

    def _recipe_of(self, method: str) -> tuple[str, dict[str, Any]]:
        """The recipe's name, and its values for this method, or for one that it has fitted for itself."""
        name, recipe = read_recipe(self.dataset.declared_as, self.request.recipe, method, self.for_recipe)
        network, networks = recipe.network, [*kit.NETWORKS, *self.plugins.names("network")]
        if not is_bundled(network) and network not in networks:
            raise HarnessError(f"recipe {name}, network {network!r}: {suggest(network, networks)}")
        return name, recipe.values_that_train()

    def _depends_on(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The recipe of a fit, and the digests of that and of the code; most cases have the same parameters, and files
        are read once for all of these."""
        key = repr(params)
        if key not in self.depends:
            others = {
                name: own
                for name in named_methods(self.plugins, params)
                if (own := {k: v for k, v in self._recipe_of(name)[1].items() if v != self.recipe[k]})
            }
            recipe = self.recipe | ({"methods": others} if others else {})
            sources = source_digests(self.plugins, self.name, recipe, params)
            self.depends[key] = recipe, {"recipe": digest(recipe), **sources}
        return self.depends[key]

    def params(self, case: Case):
        declared = case.params.get(self.name, {})
        where = f"case {case.name!r}, {self.name} parameters" if declared else f"--set {self.name}"
        return check(self.cls.Params, declared | self.changes, where)

    def skip(self, protocol: Protocol, case: Case) -> str | None:
        """Why the method does not apply to a case, or None."""
        n_clusters = len(case.clusters) if protocol.labels == "visible" else None
        with self.plugins.blame("method", self.name, "skip"):
            reason = self.cls.skip(n_clusters, self.params(case))
            if not isinstance(reason, str | None):
                raise TypeError(f"a reason is a text, not {type(reason).__name__}")
        return reason and one_line(reason)

    def evaluations(self, protocol: Protocol, case: Case, anomaly_set: str) -> Iterator[Evaluation]:
        """One for each seed; but for the seed they are alike, so that nothing else is made anew."""
        first = self.evaluation(protocol, case, anomaly_set, 0)
        for seed in dict.fromkeys(self.request.seeds):
            yield replace(first, fit=first.fit.model_copy(update={"seed": seed}))

    def evaluation(self, protocol: Protocol, case: Case, anomaly_set: str, seed: int) -> Evaluation:
        labels = self.cls.uses_labels and protocol.labels == "visible"
        clusters = case.clusters if labels else (case.normal,)
        params = self.params(case).model_dump(mode="json")
        params_of_fit = {key: value for key, value in params.items() if key not in self.cls.scoring}
        recipe, digests = self._depends_on(params_of_fit)
        fit = Fit(
            method=self.name,
            params=params_of_fit,
            recipe=recipe,
            dataset=self.request.dataset,
            dataset_params=self.dataset.params.model_dump(mode="json"),
            clusters=tuple(sorted(tuple(sorted(cluster)) for cluster in clusters)),
            labels=labels,
            seed=seed,
        )
        owners = (self.name, protocol.name, self.request.dataset, "recipe")
        return Evaluation(
            protocol=protocol.name,
            case=case.name,
            declared_as=self.dataset.declared_as,
            anomaly_set=anomaly_set,
            recipe=self.recipe_name,
            settings={owner: self.settings[owner] for owner in owners if owner in self.settings},
            fit=fit,
            scoring={key: params[key] for key in self.cls.scoring},
            clusters=case.clusters,
            anomaly=case.anomalies[anomaly_set],
            digests={"protocol": protocol.digest(case), **digests, **self.digests},
        )


def _compare(evaluation: Evaluation, plugins: Plugins, reason: str | None, store: Store | None) -> Planned:
    """What is to be done about an evaluation; the reason is why it is skipped, if it is."""
    record = store.find(evaluation.key) if store else None
    evaluation = extras.with_recorded(evaluation, record, plugins)
    if reason:
        return Planned(evaluation, "skipped", reason, recorded=record is not None and not changes(record, evaluation))
    if record is None or record.status == "skipped":
        return Planned(evaluation, "to run")
    if record.status == "failed":
        return Planned(replace(evaluation, failed=record.finished), "failed", record.reason)
    changed = changes(record, evaluation)
    new = [part for part in extras.asked_for(changed) if part not in record.digests]
    if new and new == changed:
        return Planned(evaluation, "to run", f"{' and '.join(new)} asked for")
    return Planned(evaluation, "stale", f"{' and '.join(changed)} changed") if changed else Planned(evaluation, "done")


def _protocols(
    declared: Iterable[tuple[str, Protocol]], settings: dict[str, dict[str, Any]], dataset: Dataset
) -> list[Protocol]:
    """The protocols, each with the text that asks for it, with what was set of them."""
    found: dict[str, Protocol] = {}
    name = dataset.declared_as
    for text, protocol in declared:
        if protocol.name in settings:
            protocol = read_protocol(text, name, settings[protocol.name])
            section, changes = protocol.section(name), settings[protocol.name]
            for key in changes:  # names as they were understood, however they were typed
                value = getattr(section, key)
                if value and isinstance(value, tuple) and all(isinstance(one, str) for one in value):
                    changes[key] = ",".join(value)
        if protocol.name in found:
            raise HarnessError(f"--protocol {text}: a protocol named {protocol.name!r} is already asked for")
        if name not in protocol.dataset and "stands_for" in type(dataset.params).model_fields:
            raise HarnessError(
                f"protocol {protocol.name}: not declared for {name!r}; name the data set that it stands for, of "
                f"{', '.join(protocol.dataset)}: --set {dataset.name}.stands_for=NAME; or write [dataset.{name}] into "
                "a protocol of your own"
            )
        protocol.section(name)
        found[protocol.name] = protocol
    return list(found.values())


def _cases(protocols: Iterable[Protocol], request: Request, dataset: str) -> list[tuple[Protocol, Case]]:
    every = [(protocol, case) for protocol in protocols for case in protocol.cases(dataset)]
    known = dict.fromkeys(case.name for _, case in every)
    for name in request.cases:
        if name not in known:
            raise HarnessError(f"--case {name}: no such case in {', '.join(request.protocols)}; {suggest(name, known)}")
    return [(protocol, case) for protocol, case in every if not request.cases or case.name in request.cases]
