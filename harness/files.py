"""Files that are written whole or not at all, and locks that are given back, whatever ends the process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.errors import Unwritable

ABANDONED = 3600.0
"""Seconds after which a half-written file belongs to no process any more."""
HALF_WRITTEN = re.compile(r"\.[a-z0-9_]{8}\.part")
"""The names of such files, as `tempfile` draws them: a download that is not done may be called `.thesis.pdf.part`."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write beside the place; in the end it is flushed to disk, and moved there in one step.

    Raises:
        OSError: the disk is full, say; what was there before still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # a Ctrl-C can come when it has just been moved
                os.unlink(file.name)
            raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a results file in one step: see `whole_file`.

    Raises:
        Unwritable: the disk is full, say; what was there before still is.
    """
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise Unwritable(
            f"{path.parent}: can't write there: {error.strerror}; make room, then run the same command to go on"
        ) from error


def files_below(folder: str | Path) -> Iterator[str]:
    """The files below a folder, also by links to folders, but for hidden ones: macOS writes a `._x.json` beside each
    `x.json` on a disk that is not its own."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link leads to where it is, say
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in names if not name.startswith("."))


def sha256(data: bytes) -> str:
    """What tells a whole file from a damaged one: 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether a lock is ours: False while another process holds it. The system holds it, so a death gives it back.

    Raises:
        Unwritable: the folder takes no locks.
    """
    from filelock import FileLock, Timeout

    try:
        # Where the system has no locks a mere file would stand for one, and stay when its process dies.
        lock = FileLock(path, fallback_to_soft=False)
    except TypeError:  # an older filelock, which never does that
        lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise Unwritable(
            f"{path.parent}: can't keep locks there: {error}; make room, or choose another --results"
        ) from None
    try:
        yield True
    finally:
        lock.release()


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half-written, long ago enough, in a folder of our own."""
    # Not by rglob, which raises where another process has just removed a folder.
    for place, _, names in os.walk(folder):
        for part in (Path(place, name) for name in names if HALF_WRITTEN.fullmatch(name)):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Hold a Ctrl-C back until what is inside is done. Only the main thread is told of one: elsewhere, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
