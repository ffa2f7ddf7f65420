"""Where a command writes: it goes on, in silence, when nobody can read that any more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any


class Forgiving:
    """A text file such as stderr. After the first error in writing, what is written to it is lost; errors that are
    forgiven are no more than that: a reader that has gone, a terminal that was logged out or a full disk ends no work
    of hours."""

    def __init__(self, file: IO[str], *forgiven: type[OSError]):
        self._file, self._forgiven = file, forgiven

    def write(self, text: str) -> int:
        with self._forgiving():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiving():
            self._file.flush()

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Also for what the file still holds back, which Python would write at its end, and for all else there.
            with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._file.fileno())
            if not isinstance(error, self._forgiven):
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
