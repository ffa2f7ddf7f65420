"""Which records may stand in one table."""

from __future__ import annotations

from typing import NoReturn

from harness.errors import HarnessError
from harness.paths import protocol_files
from harness.protocol import Case, Protocol
from harness.records import Record
from harness.report.names import Variant, declared_as, label, place_of


def check_comparable(records: list[Record], protocol: Protocol) -> None:
    """Refuse numbers that do not belong into one table, or into one column, row or cell of it.

    Raises:
        HarnessError: so it is; the line names records, what differs, and what to do.
    """
    cases = {case.name: case for case in protocol.cases(declared_as(records[0]))}
    versions = {name: protocol.digest(case) for name, case in cases.items()}
    firsts: dict[tuple, Record] = {}
    for record in records:
        if record.case not in versions or versions[record.case] != record.digests.get("protocol"):
            mend = "" if protocol.name in protocol_files() else "give its file with --protocol, "
            raise HarnessError(
                f"{label(record)}: made under another version of {protocol.name}; {mend}"
                f"run it again, or put it away with harness forget: {place_of(record)}"
            )
        if record.status != "ok":
            continue  # there is no number that could be mixed
        _check_parameters(record, cases[record.case])
        variant, row = Variant.of(record), (record.case, record.anomaly_set)
        for part in record.digests:
            if part != "protocol" and not part.startswith("metric "):  # these are in no table
                column = () if part == "dataset" else (variant,)
                _check_column(firsts.setdefault((part, *column), record), record, part)
        _check_cell(firsts.setdefault((*row, variant), record), record)
        _check_row(firsts.setdefault(row, record), record)


def _check_parameters(record: Record, case: Case) -> None:
    """Those that the protocol declares for a case; what was set for all cases is beside them in the method's name."""
    own = record.settings.get(record.method, {})
    for name, value in case.params.get(record.method, {}).items():
        used = record.params.get(name)
        if name not in own and used != value:
            raise HarnessError(
                f"{label(record)}: made with {name} = {used}, where {record.protocol} has {value}; "
                f"run it again, or put it away with harness forget: {place_of(record)}"
            )


def _check_column(one: Record, other: Record, part: str) -> None:
    if one.digests[part] != other.digests[part]:
        older = min(one, other, key=lambda record: record.finished)
        _refuse(
            one, other, f"differ in their {part} and can't share a column; harness plan tells which is stale: run it "
            f"again, or put it away with harness forget; the older one is {place_of(older)}",
        )  # fmt: skip


def _check_cell(one: Record, other: Record) -> None:
    if one.params != other.params:  # which a protocol may declare for one of its cases
        changed = ", ".join(name for name in one.params if one.params[name] != other.params.get(name))
        _refuse(
            one, other, f"have other parameters ({changed}) and can't share a cell; harness plan tells which is stale: "
            f"run it again, or put it away with harness forget: {place_of(one)}, {place_of(other)}",
        )  # fmt: skip


def _check_row(one: Record, other: Record) -> None:
    if (one.n_normal, one.n_anomaly) != (other.n_normal, other.n_anomaly):
        _refuse(
            one, other, "are not of the same number of images and can't share a row; run one of them again, or put it "
            f"away with harness forget: {place_of(one)}, {place_of(other)}",
        )  # fmt: skip
    if one.order != other.order:
        older = one if other.normal else other
        _refuse(
            one, other, "have the scores of their images in different orders and can't be compared image by image; put "
            f"this one away with harness forget, and run it again: {place_of(older)}",
        )  # fmt: skip


def _refuse(one: Record, other: Record, why: str) -> NoReturn:
    raise HarnessError(f"{label(one)} and {label(other)} {why}")
