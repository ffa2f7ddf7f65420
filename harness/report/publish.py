"""A folder that can be published: tables, figures, and the records and per-image scores that they are made from.

The folder is a results folder, and its tables are made from all that it holds: a row that is added to it stands beside
those that were there. `harness.report.verify` derives everything in it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.arrays import npz
from harness.errors import HarnessError
from harness.files import sha256, write_whole
from harness.plugins import Plugins
from harness.protocol import carried
from harness.ranks import to_ranks
from harness.records import Record, Store
from harness.report.leaderboard import Leaderboard, leaderboards, not_bundled, own_protocols
from harness.report.published import read_published
from harness.report.table import FORMATS, render_all
from harness.report.tidy import tidy

if TYPE_CHECKING:
    import numpy as np

PAGE = "index.html"


def publish(
    records: Iterable[Record],
    store: Store,
    out: Path,
    form: str,
    protocols: Sequence[str] = (),
    plugins: Plugins | None = None,
    data: Path = Path("data"),
    tell: Callable[[Path], None] = lambda path: None,
) -> Counter[str]:
    """Add records and their scores to a folder, and write the tables and figures that they belong to.

    Scores are kept as ranks (`harness.ranks`), which every number of a table derives from just as well. What the folder
    has as plain scores stays so. Where the folder is that of the results, its tables alone are written.

    Protocols that are not bundled are copied to `protocols/`, where readers of the folder find them.

    As html, the tables are those of one page, `index.html`. Where a folder has it already, it is always written anew,
    and so is a table that is there in another form. A record that says what the one in its place does, of the same
    scores, is left out, so that nothing changes where there is nothing new. Scores that no record names any more after
    this go with the records that are replaced.

    Args:
        records: of `store`.
        form: of the tables: md, html, tex or csv.
        protocols: files of protocols that are not bundled.
        plugins, data: where the page finds the test images that it shows.
        tell: is told of each file of a table, figure or page once it is written, which takes seconds each.

    Returns:
        how many records were "added", "replaced", "there already", or left out, since the folder has a number where
        they are of a failure.

    Raises:
        HarnessError: the records can't share a table with those of the folder, or it can't be written to.
    """
    there = Store(out, "--out")
    before = {record.key: record for record in there.records()}
    whole = {key: record for key, record in before.items() if all(path.exists() for path in there.files(record))}
    offered = {record.key: record for record in records}
    given = {key: record for key, record in offered.items() if not _failed_again(record, before.get(key))}
    new = {} if out.resolve() == store.root.resolve() else given
    added = {key: _small(record, store) for key, record in new.items() if not _same(record, whole.get(key))}
    for key in [key for key in added if key in whole and _same(added[key], _small(whole[key], there))]:
        del added[key]
    replaced = {key: before[key].scores_sha256 for key in added if key in before}

    def scores(record: Record):
        return store.scores(given[record.key]) if record.key in added else there.scores(record)

    names = not_bundled(given.values())
    brought = carried(store.root, names) | own_protocols(protocols)
    boards = leaderboards((before | added).values(), brought.values(), scores, folder=out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in brought.keys() & names:
            write_whole(out / "protocols" / f"{name}.toml", Path(brought[name]).read_bytes())
        try:
            for key, record in added.items():
                there.write(record, _ranks(given[key], store), supersede=False)
        finally:
            there.drop_scores(set(replaced.values()))
        for board in boards:
            if any(record.key in given for record in board.records):
                for path in _write(board, Store(out), form):
                    tell(path)
        if form == "html" or has_page(out):
            tell(_write_page(boards, Store(out), plugins or Plugins(), data))
        counts = {"added": len(added) - len(replaced), "replaced": len(replaced)}
        counts["there already"] = len(given) - len(added)
        counts["left out, which failed where the folder has a number"] = len(offered) - len(given)
        return Counter(counts)
    except OSError as error:
        raise HarnessError(f"--out {out}: can't write there: {error}") from None


def _same(record: Record, there: Record | None) -> bool:
    """Whether a record holds what another one does, be it of another run."""
    parts = ("status", "reason", "scores_sha256", "scores", "digests", "params", "metrics", "knn_accuracy", "accuracy")
    return there is not None and all(getattr(record, part) == getattr(there, part) for part in parts)


def _failed_again(record: Record, there: Record | None) -> bool:
    """Whether a record is of a failure to measure what another one holds the numbers of."""
    if there is None or (record.status, there.status) != ("failed", "ok"):
        return False
    # Scores and metrics that are asked for beside the method's own have digests, too.
    return record.params == there.params and there.digests.items() <= record.digests.items()


def text_of(boards: Sequence[Leaderboard], form: str) -> str:
    """The tables as md, html or tex; their numbers, one a line, as csv."""
    return tidy(boards) if form == "csv" else render_all([board.table for board in boards], form)


def _small(record: Record, store: Store) -> Record:
    """A record as it is published: of the same scores as ranks."""
    scores = _ranks(record, store)
    return record.model_copy(update={"scores_sha256": sha256(npz(scores))}) if scores else record


def _ranks(record: Record, store: Store) -> dict[str, np.ndarray] | None:
    return to_ranks(store.scores(record)) if record.scores_sha256 else None


def _write(board: Leaderboard, store: Store, form: str) -> Iterator[Path]:
    from harness.report.figures import draw

    for each in FORMATS:
        path = store.root / f"{board.name}.{each}"
        if each != "html" and (each == form or path.exists()):
            path.write_text(text_of([board], each), encoding="utf-8")
            yield path
    paper, label = read_published(), board.protocol.table.figure
    yield from draw(board.name, board.records, board.protocol, store.scores, store.root, label, paper)


def _write_page(boards: Sequence[Leaderboard], store: Store, plugins: Plugins, data: Path) -> Path:
    from harness.report.page import page

    path = store.root / PAGE
    more = {"before": content(path), "readme": readme_of(store.root)}
    text = page(boards, store.scores, read_published(), plugins, data, **more)
    path.write_text(text, encoding="utf-8")
    return path


def readme_of(folder: Path) -> str:
    """What the page links to, if a folder says what its numbers mean."""
    return "README.md" if (folder / "README.md").exists() else ""


def has_page(folder: Path) -> bool:
    """Whether there is a page of ours, and not someone's own."""
    from harness.report.page import SIGN

    return SIGN in content(folder / PAGE)


def content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
