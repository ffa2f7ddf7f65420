"""A folder that can be published: tables, figures, and the records and per-image scores that they are made from."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard import Leaderboard
from harness.records import Store
from harness.table import render


def publish(boards: Iterable[Leaderboard], store: Store, out: Path, form: str) -> list[Path]:
    """Write each table and its figures as files, and copy its records and scores beside it; the files written.

    Raises:
        HarnessError: the folder can't be written to.
    """
    from harness.figures import draw
    from harness.published import read_published

    written, published = [], read_published()
    try:
        for board in boards:
            path = out / f"{board.name}.{form}"
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(render(board.table, form), encoding="utf-8")
            figures = draw(
                board.name, board.records, board.protocol, store.scores, out, board.protocol.table.figure, published
            )
            written += [path, *figures]
            if out.resolve() != store.root.resolve():
                for record in board.records:
                    for file in store.files(record):
                        copy = out / file.relative_to(store.root)
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, copy)
    except OSError as error:
        raise HarnessError(f"--out {out}: can't write there: {error}") from None
    return written
