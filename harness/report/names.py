"""What a table calls things: methods with what was changed of them, data sets, and what stands where no number is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.paths import protocol_files
from harness.protocol import Column, Protocol, read_protocol
from harness.records import Record, Store
from harness.spec import digest

NOT_RUN, SKIPPED, FAILED, INCOMPLETE = "not run", "–", "failed", "incomplete"
KNN = "kNN accuracy"
"""The name of a column that shows no AUROC, but how well a method's embedding tells the normal classes apart."""


@dataclass(frozen=True)
class Variant:
    """A method as one or more columns show it: its name, and what --set changed of it."""

    method: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, record: Record) -> Variant:
        changes = record.settings.get(record.method)
        return cls(record.method, tuple(sorted((k, repr(v)) for k, v in changes.items())) if changes else ())

    def __str__(self) -> str:
        return self.method + (f" ({', '.join(f'{k}={v}' for k, v in self.settings)})" if self.settings else "")


def headings(protocol: Protocol) -> dict[str, str]:
    """What the table calls a method: its columns' heading, or else as another table of the paper spells its name."""
    # "Proposed" is one method here and another one there, so no table lends it to the next.
    spelt = {column.method: column.head for column in bundled_columns() if column.head.lower() == column.method}
    return spelt | {column.method: column.head for column in protocol.table.columns}


@cache
def bundled_columns() -> tuple[Column, ...]:
    """The columns of every table of the paper."""
    return tuple(column for name in protocol_files() for column in read_protocol(name).table.columns)


def declared_as(record: Record) -> str:
    """The data set under which the record's protocol declares its cases."""
    return record.declared_as or record.dataset


def settings_text(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """What --set changed, as on the command line: `rotnet.epochs=20 test2.order=1,2`."""
    changed = [(owner, key, value) for owner, each in sorted(settings.items()) for key, value in each.items()]
    return " ".join(f"{owner}.{key}={value}" for owner, key, value in changed)


def reading_of(record: Record) -> str:
    """What --set changed of the protocol, and so of which classes the numbers are; mostly nothing."""
    return settings_text({record.protocol: record.settings.get(record.protocol, {})})


def told_apart(files: Sequence[str], of: Sequence[Sequence[str]]) -> list[str]:
    """Names of files; those that come to the same have some letters of a digest of what each is made `of`."""
    times = Counter(files)
    return [f"{file}-{digest(parts)[:6]}" if times[file] > 1 else file for file, parts in zip(files, of, strict=True)]


def place_of(record: Record) -> str:
    """Where a record is in its folder."""
    return Store(Path()).path(record.key) + ".json"


def data_of(record: Record) -> str:
    """The data set, and which one it stands for."""
    return f"{record.dataset} for {record.declared_as}" if record.declared_as else record.dataset


def label(record: Record) -> str:
    """What a record is of, in an error message."""
    return f"{record.protocol} {record.dataset} case {record.case}, {record.method}, seed {record.seed}"
