"""What stands under a table: what its numbers are, and how they were made."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from harness.protocol import Protocol
from harness.records import Record
from harness.report.names import FAILED, SKIPPED, Variant, declared_as, headings, label
from harness.spec import check

ORIGINS = {"paper": "The paper", "inferred": "Inferred from the paper", "proposed": "Not in the paper"}
"""What is said of where a note's choice comes from."""
TOGETHER = "The mean of several cases: {rows}. Its ± is over seeds, and says nothing of how far these cases are apart."
"""What is said of rows of a table that are of more than one case."""
PART = "(n/m): the mean of n runs, where m would be one for each seed and case."


def notes_of(
    records: list[Record], protocol: Protocol, seeds: list[int], settings: dict[str, dict[str, Any]]
) -> list[str]:
    ok = [record for record in records if record.status == "ok"]
    spread = "mean ± standard deviation over seeds" if len(seeds) > 1 else "seed"
    notes = [f"AUROC, anomalies positive; {spread} {', '.join(map(str, seeds))}. {protocol.source}."]
    heads = headings(protocol)
    for method in dict.fromkeys(record.method for record in records):
        if heads.get(method, method).lower() != method:
            notes.append(f"{heads[method]}: the method {method}.")
    for method, file, own in dict.fromkeys((r.method, r.provenance.get("plugin"), r.digests.get("method")) for r in ok):
        if file:
            notes.append(f"{method}: a plugin, {file}, digest {own}.")
    for variant in dict.fromkeys((Variant.of(r), r.reason) for r in records if r.status == "skipped"):
        notes.append(f"{SKIPPED} {variant[0]}: {variant[1]}.")
    failures: dict[tuple[Variant, str], dict[str, None]] = {}
    # Also what holds its numbers, but for a score, a metric or an accuracy beside them.
    for record in (record for record in records if record.status != "skipped" and record.reason):
        place = f"case {record.case}, seed {record.seed}"
        failures.setdefault((Variant.of(record), record.reason), {})[place] = None
    for (variant, reason), (first, *more) in failures.items():
        notes.append(f"{FAILED}: {variant}, {first}{f' and {len(more)} more' if more else ''}: {reason}.")
    by_recipe: dict[str, dict[str, None]] = {}
    for record in (record for record in ok if "precision" in record.numerics):  # else the engine trained nothing
        by_recipe.setdefault(_recipe_line(record), {})[record.method] = None
    for text, methods in by_recipe.items():
        notes.append(text + (f" ({', '.join(methods)})" if len(by_recipe) > 1 else "") + ".")
    sampled: dict[float, dict[Variant, None]] = {}
    for record in ok:
        if used := _images_used(record):
            sampled.setdefault(used, {})[Variant.of(record)] = None
    for used, variants in sampled.items():
        who = ", ".join(map(str, variants))
        notes.append(f"Fitted to {used:.0f} training images, drawn at random, where there were more ({who}).")
    for owner, changes in settings.items():
        notes.append("Changed with --set: " + ", ".join(f"{owner}.{k}={v}" for k, v in changes.items()) + ".")
    notes += [f"{ORIGINS[note.status]}: {note.text}" for note in protocol.section(declared_as(records[0])).notes]
    if ok:
        notes.append(_made_with(ok))
    return notes


def bold_note(place: str, seeds: set[int]) -> str:
    """What bold says.

    Args:
        place: in what a number is the best, a row or a column.
        seeds: of how many the numbers are that were compared.
    """
    test = "DeLong, and seeds" if max(seeds) > 1 else "DeLong"
    one_seed = " A number of one seed is taken as if every seed gave the same." if 1 in seeds else ""
    return (
        f"Bold: the best number of its {place}, and what follows it down to the first number that a paired test tells "
        f"from it ({test}; each test at 95 %, not corrected for their number).{one_seed}"
    )


def _images_used(record: Record) -> float | None:
    """How many training images a method was fitted to, if to a sample of them. Records of old have it among the
    parameters of bundled detectors alone."""
    limit = record.params.get("limit") if "plugin" not in record.provenance else None
    sampled = isinstance(limit, int) and record.n_train > limit
    return record.diagnostics.get("images_used", limit if sampled else None)


class _Shown(BaseModel):
    """What is said of a recipe under a table."""

    network: str
    optimizer: str
    lr: float
    schedule: str
    epochs: int
    batch: int
    precision: str


def _recipe_line(record: Record) -> str:
    # What was done, not what the recipe allows.
    values = record.recipe_values | {k: v for k, v in record.numerics.items() if k in ("network", "precision")}
    recipe = check(_Shown, values, f"{label(record)}: recipe_values")
    return (
        f"Recipe {record.recipe}: {recipe.network}, {recipe.optimizer}, learning rate {recipe.lr:g}, "
        f"{recipe.schedule}, {recipe.epochs} epochs, batch {recipe.batch}, {recipe.precision}"
    ) + "".join(
        f"; {name}: {', '.join(f'{key} {value}' for key, value in own.items())}"
        for name, own in record.recipe_values.get("methods", {}).items()
    )


def _made_with(records: list[Record]) -> str:
    """Commits and hardware of training and scoring, and hours, each fit counted once."""
    made = [one for record in records for one in (*record.fit_provenance, record.provenance)]
    commits = dict.fromkeys(
        f"{str(one.get('commit') or 'none (installed ' + str(one.get('harness')) + ')')[:40]}"
        + (" with uncommitted changes" if one.get("dirty") else "")
        for one in made
    )
    processors = dict.fromkeys(str(one.get("processor")) for one in made)
    training = {r.fit: r.fit_seconds for r in records}
    scoring = {r.fit: r.score_seconds for r in records}
    return (
        f"{len(training)} fit{'s' * (len(training) > 1)}, {_time(sum(training.values()))} of training and "
        f"{_time(sum(scoring.values()))} of scoring on {', '.join(processors)}; commit {', '.join(commits)}."
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
