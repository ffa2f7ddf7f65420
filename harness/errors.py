"""What the user can mend: always one clear line that names the place and the mend."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

MOST = 500
"""Characters of what an error says."""


def one_line(text: str) -> str:
    """The text on one line, without characters that do not show (controls, writing directions, half surrogates)."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def told(error: BaseException) -> str:
    """An error of someone else's code on one line: `ValueError: what it says`."""
    try:
        said = one_line(str(error))[:MOST]
    except Exception:  # its own words raise
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def line_in(error: BaseException, files: Iterable[Path]) -> str:
    """The last line of some files on the way to an error, as " (mine.py, line 12)"; nothing if it passed by none."""
    names = {str(file) for file in files}
    passed = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in names]
    return f" ({Path(passed[-1].filename).name}, line {passed[-1].lineno})" if passed else ""


def guess(name: str, known: Iterable[str]) -> str:
    """The likely meaning of a misspelt name, in whatever case, as a question; nothing if there is none."""
    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    if not close:
        return ""
    found = lower[close[0]]
    return f"did you mean {quoted(found) if ',' in found else repr(found)}? "


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error line: the likely meaning of a misspelt name, and what there is."""
    known = sorted(known)
    return f"{guess(name, known)}known: {', '.join(map(quoted, known))}" if known else "none is known here"


def quoted(name: str) -> str:
    """A name as options that take several want it (`commands.options.Comma`): in double quotes if need be."""
    return '"' + name.replace('"', '""') + '"' if "," in name or name.startswith('"') else name


class HarnessError(Exception):
    """A bad command, spec or plugin. The command line prints its one line and exits with 2."""

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(one_line(message))


class EndsTheRun(HarnessError):
    """The other fits would fare no better: a run ends with it, and it is no failure of the fit that met it."""


class DataMissing(EndsTheRun):
    """A data set's files are not where they should be; the message says what to put where."""


class Unwritable(EndsTheRun):
    """The results folder takes no more, as when its disk is full. What is there is whole. Exit code 1."""

    exit_code = 1


class DeviceLost(EndsTheRun):
    """A GPU answers this process no more, since something failed there. Exit code 1."""

    exit_code = 1


class DataDamaged(HarnessError):
    """A file of a data set is there, but can't be read. Fits that need it fail, with this as their reason."""


class Interrupted(HarnessError):
    """Ctrl-C. The exit code is that of shells: 128 + SIGINT."""

    exit_code = 130


class Diverged(Exception):
    """Training left the finite numbers. The fit is recorded as failed, with this as its reason."""
