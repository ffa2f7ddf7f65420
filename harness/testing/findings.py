"""What a check finds: nothing, a note, or a broken promise with its mend."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, line_in, one_line, told


class Broken(AssertionError):
    """A plugin does not keep to its contract."""

    def __init__(self, reason: str, mend: str, bug: str = ""):
        self.reason, self.mend = one_line(reason), mend
        self.bug = bug or self.reason
        """The same for all checks that fail by one bug."""
        super().__init__(f"{self.reason}\n  mend: {mend}")


def require(kept: Any, reason: str, mend: str, bug: str = "") -> None:
    """Raise `Broken` unless the promise is kept."""
    if not kept:
        raise Broken(reason, mend, bug)


@dataclass(frozen=True)
class Check:
    """One promise of a contract, of one plugin. Call it: it raises `Broken`, or returns a note, mostly an empty one."""

    name: str
    promise: str
    function: Callable[[], str | None]

    def __call__(self) -> str:
        try:
            return self.function() or ""
        except (Broken, HarnessError, KeyboardInterrupt):
            raise
        except Exception as error:  # what the plugin returns is nothing that the check can look at
            mend = (
                "return what the contract says (docs/contract.md); `harness check --traceback` shows how it got there"
            )
            raise Broken(f"this can't be seen: {told(error)}", mend, f"{self.name}: {type(error).__name__}") from error


def bound(functions: tuple[Callable, ...], trial: Any) -> list[Check]:
    """The checks of one plugin. A function's name is the check's, and its docstring what is promised."""
    return [Check(f.__name__.strip("_"), f.__doc__.split("\n")[0], functools.partial(f, trial)) for f in functions]


@contextmanager
def calling(
    what: str, file: Path, mend: str = "see the line that is named; `harness check --traceback` shows how it got there"
) -> Iterator:
    """Turn whatever a plugin raises into `Broken`, with its line in the plugin's file."""
    try:
        yield
    except (Broken, KeyboardInterrupt):
        raise
    except BaseException as error:
        line = line_in(error, [file])
        # What an error says may change with the images; its line does not.
        bug = f"{type(error).__name__}{line or told(error)}"
        raise Broken(f"{what} raised {told(error)}{line}", mend, bug) from error
