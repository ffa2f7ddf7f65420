"""What a person at a terminal sees of a run: bars, and the time that is left."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading

import pytest
from rich.console import Console
from tiny import MEAN, plugin, records

from harness.cli import main
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.progress import Live
from harness.records import Record
from harness.reporter import EVENTS

UNKNOWN = "-:--:--"


class Display(Live):
    """At a terminal of its own, with four fits to do; its clock goes as it is told."""

    def __init__(self):
        self.time = 0.0
        super().__init__(Console(file=io.StringIO(), force_terminal=True, width=160, get_time=lambda: self.time))
        request = Request(protocols=("test2",), methods=("rotnet",), cases=("1", "2"), seeds=(0, 1))
        self.plan = make_plan(request, Plugins())
        self.fits = [fit for fit, _ in self.plan.jobs()]
        self.begin(self.plan)

    @property
    def text(self) -> str:
        self.bars.refresh()
        return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", self.console.file.getvalue())

    @property
    def left(self) -> list[str]:
        """Of all fits, and of each running one."""
        return re.findall(r"ETA +(\S+)", self.text)[-len(self.bars.tasks) :]


@pytest.fixture
def display():
    made = Display()
    yield made
    made.end()


def test_every_event_is_shown(display):
    fit, evaluation = display.fits[0], display.plan.planned[0].evaluation
    record = Record(
        **dict.fromkeys(("protocol", "dataset", "case", "anomaly_set", "method", "recipe"), "x"),
        seed=0,
        status="ok",
        fit_seconds=1.5,
        numerics={"left_out": "compile, for a reason"},
    )
    shown = {
        "begin": ((display.plan,), "4 evaluations (4 to run)"),
        "fit_started": ((fit,), "rotnet on digits 0, seed 0 "),
        "epoch": ((fit, 7, 9, 0.125), "rotnet on digits 0, seed 0: goes on from epoch 7 of 9"),
        "scoring": ((fit,), "7/9 scoring"),
        "evaluated": ((evaluation, record), "left out: compile, for a reason"),
        "failed": ((evaluation, "no luck"), "test2 digits 1, rotnet, seed 0: FAILED: no luck"),
        "fit_reused": ((fit,), "fits"),
        "fit_finished": ((fit,), "1/4"),
        "waiting": ((display.fits[1:],), "waiting for 3 fit(s) that another run on this results folder is at"),
        "end": ((), "waiting for another run"),
    }
    assert set(shown) == set(EVENTS)
    for event, (what, text) in shown.items():
        if event != "begin":  # which it was told of
            getattr(display, event)(*what)
        assert text in display.text, event
    assert "trained in 1.5 s" in display.text


def test_the_time_that_is_left_is_judged_by_what_was_trained_here(display):
    first, second, *_ = display.fits
    assert display.left == [UNKNOWN]
    display.fit_finished(first)  # by another run
    assert display.left == [UNKNOWN]
    display.fit_started(second)
    display.time = 3600
    display.epoch(second, 1, 2, 0.5)
    assert display.left == ["5:00:00", "1:00:00"]
    display.time += 60
    assert display.left == ["4:59:00", "0:59:00"]
    display.time = 7200
    display.epoch(second, 2, 2, 0.5)
    display.fit_finished(second)
    assert display.left == ["4:00:00"]


def test_fits_at_once_share_the_time(display):
    for fit in display.fits[:2]:
        display.fit_started(fit)
    display.time = 3600
    for fit in display.fits[:2]:
        display.fit_finished(fit)
    assert display.left == ["1:00:00"]


def test_a_fit_that_is_only_scored_tells_nothing_of_those_that_are_trained(display):
    first, second, *_ = display.fits
    display.fit_reused(first)
    display.time = 60
    display.fit_finished(first)
    assert display.left == ["0:03:00"]  # all may be so
    display.fit_started(second)
    display.time = 3600
    display.fit_finished(second)
    assert display.left == ["2:00:00"]


def test_epochs_from_before_a_checkpoint_took_no_time(display):
    fit = display.fits[0]
    display.fit_started(fit)
    display.time = 100
    display.epoch(fit, 50, 60, 0.5)
    assert display.left == [UNKNOWN, UNKNOWN]
    display.time = 220
    display.epoch(fit, 51, 60, 0.5)
    assert display.left == ["11:33:00", "0:18:00"]
    display.epoch(fit, 1, 60, 0.5)  # of another training of the same fit
    assert display.left[1] == UNKNOWN


def test_a_run_at_a_terminal(here):
    ours, its = os.openpty()
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: _read(ours), b"")))
    reader.start()
    method = plugin(fit=f"{MEAN}\n        for epoch in (1, 2): run.progress(epoch, 2, 0.5)")
    words = ["run", "--protocol", "test2", "--case", "2", "--method", str(method), "--seed", "0,1"]
    table = io.StringIO()
    with (
        os.fdopen(its, "w", buffering=1) as terminal,
        contextlib.redirect_stderr(terminal),
        contextlib.redirect_stdout(table),
        pytest.raises(SystemExit) as end,
    ):
        main.main(args=words, prog_name="harness")
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert end.value.code == 0, text
    assert [record.status for record in records()] == ["ok", "ok"]
    assert "ETA" in text
    assert text.count("AUROC L2") == 2
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") > 0  # the cursor is back
    assert table.getvalue().startswith("### Table 8")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody writes to it any more
        return b""
