"""The command line in a process of its own, which can be killed: forked from one that has torch imported already."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["harness.cli", "harness.executors.local", "harness.kit.train", "harness.run", "harness.report.leaderboard",
     "pandas", "scipy.stats", "sklearn.datasets", "sklearn.metrics", "torchvision"]
)  # fmt: skip


def start(*words: Any, log: str | Path = "log", deaths: dict[str, int] | None = None) -> multiprocessing.Process:
    """Begin a command in the current folder; a checkpoint is kept after every epoch.

    Args:
        log: what it prints is added to this file, and "resumed after epoch N" where a training goes on.
        deaths: functions of `os` by their names: kill -9 at that call of each, from 0.
    """
    arguments = ([str(word) for word in words], os.getcwd(), str(log), deaths or {})
    process = CONTEXT.Process(target=_command, args=arguments)
    process.start()
    atexit.register(process.kill)  # else a test that fails before its end would be waited for
    return process


def run(*words: Any, **more: Any) -> int:
    """Likewise, until it ends; the exit code, or minus the number of the signal that killed it."""
    process = start(*words, **more)
    process.join()
    return process.exitcode


def _command(words: list[str], folder: str, log: str, deaths: dict[str, int]) -> None:
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))

    import harness.fitting
    from harness.cli import main
    from harness.kit import checkpoint

    harness.fitting.Run = functools.partial(harness.fitting.Run, checkpoint_seconds=0)
    load = checkpoint.load

    def loud(*args):
        found = load(*args)
        if found:
            print(f"resumed after epoch {found['epochs']}", flush=True)
        return found

    checkpoint.load = loud
    for name, at in deaths.items():
        _die(name, at)
    main.main(args=words, prog_name="harness")


def _die(name: str, at: int) -> None:
    function, calls = getattr(os, name), []

    def deadly(*args, **kwargs):
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(args)
        return function(*args, **kwargs)

    setattr(os, name, deadly)
