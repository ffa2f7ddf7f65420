"""What a check finds: nothing, a note, or a broken promise with its mend."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Broken(AssertionError):
    """A plugin does not keep to its contract."""

    def __init__(self, reason: str, mend: str):
        self.reason, self.mend = " ".join(reason.split()), mend
        super().__init__(f"{self.reason}\n  mend: {mend}")


def require(kept: Any, reason: str, mend: str) -> None:
    """Raise `Broken` unless the promise is kept."""
    if not kept:
        raise Broken(reason, mend)


@dataclass(frozen=True)
class Check:
    """One promise of a contract, of one plugin. Call it: it raises `Broken`, or returns a note, mostly an empty one."""

    name: str
    promise: str
    function: Callable[[], str | None]

    def __call__(self) -> str:
        return self.function() or ""


def bound(functions: tuple[Callable, ...], trial: Any) -> list[Check]:
    """The checks of one plugin. A function's name is the check's, and its docstring what is promised."""
    return [Check(f.__name__.strip("_"), f.__doc__.split("\n")[0], functools.partial(f, trial)) for f in functions]


@contextmanager
def calling(
    what: str, file: Path, mend: str = "see the line that is named; `pytest` shows the whole traceback"
) -> Iterator:
    """Turn whatever a plugin raises into `Broken`, with its line in the plugin's file."""
    try:
        yield
    except Broken:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        where = f" ({file.name}, line {lines[-1]})" if lines else ""
        raise Broken(f"{what} raised {type(error).__name__}: {error}{where}", mend) from error
