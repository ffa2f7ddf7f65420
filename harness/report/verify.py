"""Derives what a published folder holds again: numbers from the scores, tables and page from the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.files import files_below
from harness.metrics import Metrics, measure
from harness.plugins import Plugins
from harness.records import Record, Store
from harness.report.current import not_current
from harness.report.figures import numbers_of
from harness.report.leaderboard import Leaderboard, leaderboards, not_bundled
from harness.report.look import source_of
from harness.report.names import declared_as
from harness.report.publish import PAGE, content, has_page, readme_of, text_of
from harness.report.published import read_published
from harness.report.table import FORMATS
from harness.spec import digest

NEGLIGIBLE = 1e-9
"""By how much a number that is computed again, on another machine, may differ."""


def problems(folder: Path, protocols: Sequence[str] = (), plugins: Plugins | None = None) -> list[str]:
    """Everything in a published folder that does not follow from the rest of it, one line each; none if all is well.

    Each record is read strictly, its numbers are measured again from its per-image scores, and its recipe and its
    method's code are compared with those of that name here. Every table is made again from the records and compared
    letter by letter. So is the page. Figures, and the curves, histograms and pictures of the page, are not, since they
    depend on the libraries that draw them: a line chart only says of which numbers it is. Nor can accuracies and the
    metrics of plugins be derived from scores.

    Args:
        protocols: files of protocols that the folder does not carry.
        plugins: whose methods are compared; the bundled ones, if it is left out.
    """
    store, plugins = Store(folder, "--out"), plugins or Plugins()
    files = sorted(map(Path, files_below(folder / "records")))
    found = [f"{path}: no record" for path in files if path.suffix != ".json"]
    records: list[Record] = []
    for path in (file for file in files if file.suffix == ".json"):
        try:
            record = Record.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            found.append(f"{path}: not a readable record: {str(error).splitlines()[0]}")
            continue
        records.append(record)
        wrong = (
            f"holds the record of another evaluation, {store.files(record)[0]}"
            if path not in store.files(record)
            else ""
        )
        found += [f"{path}: {problem}" for problem in ([wrong] if wrong else _wrong_record(record, store, plugins))]
    found += _same_fit(records, store)
    found += [f"{path}: the scores of no record" for path in store.unused_scores()]
    needed = not_bundled(records)
    for path in sorted((folder / "protocols").glob("[!.]*")):
        if path.suffix != ".toml" or path.stem not in needed:
            found.append(f"{path}: the protocol of no record, or of a bundled one's name")
    if not records:
        return [*found, f"{folder}: no records; publish some with harness leaderboard --out {folder}"]
    try:
        boards = leaderboards(records, protocols, store.scores, folder=folder)
    except HarnessError as error:
        known_already = any(line.endswith(str(error)) for line in found)
        return [*found, *([] if known_already else [str(error)]), f"{folder}: its tables can't be compared until then"]
    return found + _wrong_classes(boards, store) + _wrong_tables(boards, folder) + _wrong_page(boards, store)


def _wrong_record(record: Record, store: Store, plugins: Plugins) -> list[str]:
    if record.status != "ok":
        numbers = record.scores or record.metrics or record.knn_accuracy or record.accuracy is not None
        return [f"{record.status}, and has numbers all the same"] if numbers else []
    if missing := [
        part for part in ("protocol", "dataset", "recipe", "method", "engine") if part not in record.digests
    ]:
        return [f"digests: lacks {', '.join(missing)}, so that nothing tells what it can be compared with"]
    if record.digests["recipe"] != digest(record.recipe_values):
        return ["recipe_values: not those that its digest of the recipe is of"]
    return [*not_current(record, plugins), *_wrong_numbers(record, store)]


def _wrong_numbers(record: Record, store: Store) -> list[str]:
    try:
        scores = store.scores(record)
    except HarnessError as error:
        return [str(error)]
    found = []
    for name, claimed in record.scores.items():
        true = measure(scores[f"normal.{name}"], scores[f"anomaly.{name}"])
        for field in Metrics.model_fields:
            a, b = getattr(claimed, field), getattr(true, field)
            if abs(a - b) > NEGLIGIBLE:
                found.append(f"{name}: the record says {field} {a:.6f}, its scores say {b:.6f}")
    return found


def _same_fit(records: Sequence[Record], store: Store) -> list[str]:
    """Records of one training that say it was of two seeds, and would be taken for two."""
    firsts: dict[str, Record] = {}
    found = []
    for record in records:
        first = firsts.setdefault(record.fit, record) if record.status == "ok" else record
        if first.seed != record.seed:
            found.append(f"{store.files(record)[0]}: fit {record.fit} is that of seed {first.seed}, too")
    return found


def _wrong_classes(boards: Sequence[Leaderboard], store: Store) -> list[str]:
    """Records that say of other classes than those that their protocol declares."""
    found = []
    for board in boards:
        cases = {case.name: case for case in board.protocol.cases(declared_as(board.records[0]))}
        for record in board.records:
            case = cases[record.case]
            if (record.clusters, record.anomaly) != (case.clusters, case.anomalies.get(record.anomaly_set)):
                path = store.files(record)[0]
                found.append(f"{path}: clusters, anomaly_set or anomaly: not what {record.protocol} declares")
    return found


def _wrong_tables(boards: Sequence[Leaderboard], folder: Path) -> list[str]:
    files = {board.name: {folder / f"{board.name}.{form}": form for form in FORMATS} for board in boards}
    known = {path for tables in files.values() for path in tables}
    found = []
    for board in boards:
        tables = files[board.name]
        present = [path for path in tables if path.exists()]
        if not present and not has_page(folder):
            found.append(f"{folder / board.name}.md: missing, though there are records of it; write it with --out")
        for path in present:
            if path.read_bytes() != text_of([board], tables[path]).encode():
                found.append(f"{path}: not the table that its records make; write it again with --out")
        found += _wrong_lines(board, folder)
    found += [
        f"{path}: there are no records of this figure"
        for path in sorted(folder.glob("*-lines.png"))
        if path.name.removesuffix("-lines.png") not in files
    ]
    own = {"README.md", PAGE}
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.removeprefix(".") in FORMATS and path not in known and path.name not in own:
            found.append(f"{path}: there are no records of this table")
    return found


def _wrong_lines(board: Leaderboard, folder: Path) -> list[str]:
    path = folder / f"{board.name}-lines.png"
    same = not path.exists() or source_of(path) == numbers_of(board.records)
    return [] if same else [f"{path}: not drawn from the numbers of its records; write it again with --out"]


def _wrong_page(boards: Sequence[Leaderboard], store: Store) -> list[str]:
    from harness.report.page import claims, page

    path = store.root / PAGE
    if not has_page(store.root):
        return [f"{path}: no page of ours, so that nothing vouches for it; keep it elsewhere"] if path.exists() else []
    true = page(boards, None, read_published(), readme=readme_of(store.root))
    same = claims(content(path)) == claims(true)
    return [] if same else [f"{path}: not the page that its records make; write it again with --format html --out"]
