"""TOML -> a validated protocol -> its cases on one data set.

A protocol says which classes are normal (and how they fall into sub-clusters), which are anomalous, whether a method
may see the labels, and how the table is laid out. It has one section per data set that it is declared for.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.errors import HarnessError, guess, suggest
from harness.paths import protocol_files
from harness.spec import Spec, check, digest, read_toml

NAME = "[a-z0-9][a-z0-9_-]*"
"""Of a protocol."""


def _names(value: Any) -> Any:
    """As `--set` gives them: `cat, dog`, or a single name, be it a number."""
    single = isinstance(value, str | int | float) and not isinstance(value, bool)
    return [part.strip() for part in str(value).split(",")] if single else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


@dataclass(frozen=True)
class Case:
    """What is normal, and what is anomalous: as a rule one row of a protocol's table."""

    name: str
    clusters: tuple[tuple[str, ...], ...]
    """The normal classes, grouped into sub-clusters."""
    anomalies: dict[str, tuple[str, ...]]
    """Named sets of anomalous classes."""
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Method parameters that belong to this case, by method."""
    row: str = ""
    """The row of the table that it belongs to, where several cases are averaged in one; else its name."""

    @property
    def normal(self) -> tuple[str, ...]:
        return tuple(name for cluster in self.clusters for name in cluster)

    averaged: bool = True
    """Whether the table's average counts it."""

    def __post_init__(self):
        object.__setattr__(self, "row", self.row or self.name)
        if not self.clusters or not all(self.clusters) or not self.anomalies or not all(self.anomalies.values()):
            raise ValueError(f"case {self.name!r}: needs normal classes and anomalous classes")
        if len(set(self.normal)) < len(self.normal):
            raise ValueError(f"case {self.name!r}: a normal class is named twice")
        for anomaly_set, classes in self.anomalies.items():
            both = set(self.normal) & set(classes)
            if both:
                raise ValueError(f"case {self.name!r}: {', '.join(sorted(both))} is both normal and in {anomaly_set!r}")
            if len(set(classes)) < len(classes):
                raise ValueError(f"case {self.name!r}: {anomaly_set!r} names a class twice")


class Note(Spec):
    """What the paper leaves open, and how it was resolved; the leaderboard prints it under the table."""

    status: Literal["paper", "inferred", "proposed"]
    text: str


class Section(Spec):
    """What a protocol declares for one data set; each form has its own."""

    table: str = ""
    """What the paper calls the table of this data set, such as "Table 8 (a)"."""
    notes: tuple[Note, ...] = ()

    def cases(self) -> list[Case]:
        raise NotImplementedError

    @model_validator(mode="after")
    def _is_sound(self):
        names = [case.name for case in self.cases()]
        if not names:
            raise ValueError("declares no case")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"declares the case {min(twice)!r} twice")
        return self


class Growing(Section):
    """A normal set that grows by one class a case, against fixed anomalies."""

    order: Names
    anomaly: Names

    def cases(self) -> list[Case]:
        counts = range(1, len(self.order) + 1)
        return [Case(str(k), _each(self.order[:k]), {"anomaly": self.anomaly}) for k in counts]


class OneNormal(Section):
    """Each class in turn is normal, all the others are anomalous."""

    classes: Names

    def cases(self) -> list[Case]:
        return [Case(name, ((name,),), {"anomaly": _without(self.classes, name)}) for name in self.classes]


class OneAnomaly(Section):
    """Each class in turn is anomalous, all the others are normal."""

    classes: Names

    def cases(self) -> list[Case]:
        return [Case(name, _each(_without(self.classes, name)), {"anomaly": (name,)}) for name in self.classes]


class NamedCase(Spec):
    """A case in full: classes, or clusters of classes, and its anomaly sets."""

    normal: tuple[str | tuple[str, ...], ...]
    anomaly: dict[str, Names]
    params: dict[str, dict[str, Any]] = {}
    averaged: bool = True


class NamedCases(Section):
    """Cases that are written out one by one."""

    case: dict[str, NamedCase]

    def cases(self) -> list[Case]:
        return [
            Case(
                name,
                tuple((c,) if isinstance(c, str) else c for c in case.normal),
                case.anomaly,
                case.params,
                averaged=case.averaged,
            )
            for name, case in self.case.items()
        ]


class Study(Spec):
    """One normal set, merged into ever more clusters: blocks of `order`, or partitions that are written out."""

    anomaly: Names
    order: Names = ()
    clusters: tuple[int, ...] = ()
    """Into how many nearly equal blocks `order` is cut, the larger ones first."""
    random: int = Field(0, ge=0)
    """Beside each cut, so many other random partitions into blocks of the same sizes, no two of them the same,
    averaged in a row of their own."""
    partitions: tuple[tuple[tuple[str, ...], ...], ...] = ()

    def cases(self, name: str) -> list[Case]:
        made = [Case(f"{name} {len(one)}", one, {"anomaly": self.anomaly}) for one in self.partitions]
        for count in self.clusters:
            if not 1 <= count <= len(self.order):
                raise ValueError(f"{name!r}: {len(self.order)} classes can't be cut into {count} clusters")
            cut = _blocks(self.order, count)
            made.append(Case(f"{name} {count}", cut, {"anomaly": self.anomaly}))
            wanted = self.random if 1 < count < len(self.order) else 0
            if wanted > _others(cut):
                raise ValueError(
                    f"{name!r}: random: there are only {_others(cut)} other partitions into {count} clusters"
                )
            for place, blocks in enumerate(islice(_random_partitions(self.order, count), wanted)):
                row = f"{name} {count}, random partitions"
                made.append(Case(f"{name} {count} random {place}", blocks, {"anomaly": self.anomaly}, row=row))
        return sorted(made, key=lambda case: (case.row != case.name, len(case.clusters)))


class Merging(Section):
    """The same normal data in a growing number of clusters."""

    study: dict[str, Study]

    def cases(self) -> list[Case]:
        return [case for name, study in self.study.items() for case in study.cases(name)]


class Column(Spec):
    """One column of the table, as the paper has it: a method's score under a heading."""

    method: str
    score: str
    head: str


class Layout(Spec):
    """How the paper prints the table."""

    title: str
    corner: str = "case"
    """The heading of the first column."""
    rows: Literal["cases", "methods"] = "cases"
    """What the rows are; the columns are the other."""
    columns: tuple[Column, ...] = ()
    figure: str = ""
    """What the cases are, as the label of an axis, where a chart of the numbers against the cases makes sense."""
    average: bool = False
    """The mean over the cases, as a last row, or column where the rows are methods."""


class Protocol(Spec):
    """One evaluation, declared in a TOML file."""

    name: str = Field(pattern=f"^{NAME}$")
    """As in file names; the same as the spec's own file, for the bundled ones."""
    title: str
    source: str
    labels: Literal["visible", "withheld"] = "visible"
    """Whether a method may see which sub-cluster a normal training image belongs to."""
    table: Layout
    dataset: dict[str, Section]

    def section(self, dataset: str) -> Section:
        if dataset not in self.dataset:
            raise HarnessError(f"protocol {self.name}: not declared for {dataset!r}; {suggest(dataset, self.dataset)}")
        return self.dataset[dataset]

    def cases(self, dataset: str) -> list[Case]:
        """The rows of the table on one data set, in order."""
        return self.section(dataset).cases()

    def digest(self, case: Case) -> str:
        """Changes with whatever decides the numbers of a case, and with nothing else (not with notes or layout)."""
        return digest(
            [self.labels, sorted(map(sorted, case.clusters)), {k: sorted(v) for k, v in case.anomalies.items()}]
        )


class GrowingProtocol(Protocol):
    form: Literal["growing"]
    dataset: dict[str, Growing]


class OneNormalProtocol(Protocol):
    form: Literal["one-normal"]
    dataset: dict[str, OneNormal]


class OneAnomalyProtocol(Protocol):
    form: Literal["one-anomaly"]
    dataset: dict[str, OneAnomaly]


class NamedProtocol(Protocol):
    form: Literal["named"]
    dataset: dict[str, NamedCases]


class MergingProtocol(Protocol):
    form: Literal["merging"]
    dataset: dict[str, Merging]

    @field_validator("table")
    @classmethod
    def _no_average(cls, table: Layout) -> Layout:
        if table.average:  # some of its rows are means of several cases themselves
            raise ValueError("average: there is none over numbers of clusters; leave it out")
        return table


FORMS: dict[str, type[Protocol]] = {
    "growing": GrowingProtocol,
    "one-normal": OneNormalProtocol,
    "one-anomaly": OneAnomalyProtocol,
    "named": NamedProtocol,
    "merging": MergingProtocol,
}


def read_protocol(name_or_path: str, dataset: str | None = None, changes: dict[str, Any] | None = None) -> Protocol:
    """A protocol by bundled name or path, with `--set` changes to the section of one data set.

    Raises:
        HarnessError: no such protocol, not TOML, or an unknown or unsound key.
    """
    files = protocol_files()
    path = Path(name_or_path) if name_or_path.endswith(".toml") else files.get(name_or_path)
    if path is None:
        raise HarnessError(
            f"no protocol is called {name_or_path!r}; {suggest(name_or_path, files)}; or give the path of a .toml file"
        )
    data = read_toml(path)
    where = str(path)
    form = data.get("form")
    if not isinstance(form, str) or form not in FORMS:
        # A key that is not known may be this one, misspelt.
        if form is None and (close := [key for key in data if guess(key, ["form"])]):
            raise HarnessError(f"{where}: {close[0]}: unknown key; {guess(close[0], ['form'])}".rstrip())
        raise HarnessError(f"{where}: form: {form!r} is not a form; {suggest(str(form), FORMS)}")
    if changes:
        section = data.get("dataset", {}).get(dataset)
        if not isinstance(section, dict):
            raise HarnessError(
                f"{where}: not declared for {dataset!r}; {suggest(str(dataset), data.get('dataset', {}))}"
            )
        section.update(changes)
        where = f"{where} with --set"
    return check(FORMS[form], data, where)


def carried(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Files `protocols/NAME.toml` that a folder has for protocols of these names, by name.

    Raises:
        HarnessError: a file names another protocol, or is not sound.
    """
    paths = {name: root / "protocols" / f"{name}.toml" for name in sorted(names) if re.fullmatch(NAME, name)}
    found = {name: str(path) for name, path in paths.items() if path.exists()}
    for name, path in found.items():
        if read_protocol(path).name != name:
            raise HarnessError(f"{path}: name: {read_protocol(path).name!r} is not the protocol that belongs there")
    return found


def _blocks(classes: tuple[Any, ...], count: int) -> tuple[tuple[Any, ...], ...]:
    size, larger = divmod(len(classes), count)
    ends = [size * k + min(k, larger) for k in range(count + 1)]
    return tuple(classes[a:b] for a, b in pairwise(ends))


def _others(cut: tuple[tuple[str, ...], ...]) -> int:
    """How many other partitions there are into blocks of the same sizes."""
    alike = Counter(map(len, cut))
    same = math.prod(math.factorial(size) ** blocks * math.factorial(blocks) for size, blocks in alike.items())
    return math.factorial(sum(map(len, cut))) // same - 1


def _random_partitions(classes: tuple[str, ...], count: int) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Other partitions than the classes' own order makes, at random, each once; to ask for more than there are never
    ends."""
    import numpy as np

    seen = {_as_sets(_blocks(tuple(range(len(classes))), count))}
    for seed in itertools.count():
        # This generator's stream is frozen: the partitions stay what they are.
        blocks = _blocks(tuple(np.random.RandomState(seed).permutation(len(classes)).tolist()), count)
        if _as_sets(blocks) not in seen:
            seen.add(_as_sets(blocks))
            yield tuple(tuple(classes[place] for place in block) for block in blocks)


def _as_sets(blocks: tuple[tuple[int, ...], ...]) -> frozenset[frozenset[int]]:
    return frozenset(map(frozenset, blocks))


def _each(classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in classes)


def _without(classes: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in classes if other != name)
