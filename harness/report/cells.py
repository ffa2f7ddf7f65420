"""Records -> the text and the number of one cell."""

from __future__ import annotations

from statistics import fmean

from harness.metrics import Summary, over_seeds
from harness.records import Record
from harness.report.names import FAILED, INCOMPLETE, KNN, NOT_RUN, SKIPPED
from harness.report.table import Cell


def table_cell(cases: list[list[Record]], score: str, seeds: list[int]) -> Cell:
    """One cell: the mean over seeds, and over cases where several share a row."""
    records = [record for case in cases for record in case]
    failed = sum(record.status == "failed" for record in records)
    if failed:
        return Cell(FAILED if failed == len(records) else f"{failed} of {len(records)} {FAILED}")
    if any(record.status == "skipped" for record in records):
        return Cell(SKIPPED)
    number = summary(cases, score)
    if number is None:
        return Cell(INCOMPLETE if any(shown_value(record, score) is not None for record in records) else NOT_RUN)
    spread = f" ± {number.std:.3f}" if number.std is not None else ""
    return Cell(f"{number.mean:.3f}{spread}{_part(number.n, cases, seeds)}", number.mean)


def summary(cases: list[list[Record]], score: str) -> Summary | None:
    """The mean over cases of their means over seeds, the deviation over seeds of their means over cases, and of how
    many runs it is; None if a case has none. A deviation takes two seeds that all cases have."""
    found = [{r.seed: value for r in case if (value := shown_value(r, score)) is not None} for case in cases]
    if not all(found):
        return None
    common = sorted(set.intersection(*map(set, found)))
    std = over_seeds([fmean([one[seed] for one in found]) for seed in common]).std if common else None
    return Summary(mean=fmean([fmean(one.values()) for one in found]), std=std, n=sum(map(len, found)))


def shown_value(record: Record, score: str) -> float | None:
    """A record's number in a column: the AUROC of a score, or an accuracy among neighbours."""
    if score == KNN:
        return record.knn_accuracy.get(str(record.params.get("k")))
    return record.scores[score].auroc if score in record.scores else None


def _part(n: int, cases: list[list[Record]], seeds: list[int]) -> str:
    """Of how many runs a number is, where some are missing."""
    whole = len(seeds) * len(cases)
    return f" ({n}/{whole})" if n < whole else ""


def average_cell(cells: list[Cell], cases: list[list[Record]], score: str, seeds: list[int]) -> Cell:
    """The mean over the rows; only where every row has a number."""
    values = [cell.value for cell in cells if cell.value is not None]
    if not values or len(values) < len(cells):
        texts = {cell.text for cell in cells}
        return Cell(texts.pop() if texts in ({SKIPPED}, {NOT_RUN}) else INCOMPLETE)
    mean = sum(values) / len(values)
    n = sum(shown_value(record, score) is not None for case in cases for record in case)
    return Cell(f"{mean:.3f}{_part(n, cases, seeds)}", mean)
