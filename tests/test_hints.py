"""What a person is told beside the tables: where a failure is, what looks wrong, what is still to be trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from tiny import DISTANCE, MEAN, case, harness, named, plugin

from harness.progress import Bars

TEST2 = ("--protocol", "test2")
UPSIDE_DOWN = DISTANCE.replace("(images", "-(images")


def test_a_failure_names_its_line_and_the_file_of_its_traceback(here):
    bad = plugin("bad", score="1 / 0")
    err = harness("run", *TEST2, "--case", "1,2", "--method", bad, code=1).err
    line = 1 + bad.read_text().splitlines().index("        1 / 0")
    assert err.count(f"FAILED: ZeroDivisionError: division by zero (bad.py, line {line})\n") == 2
    said, _, more = err.splitlines()[-1].removeprefix("2 evaluation(s) failed; the traceback is in ").partition(" and ")
    assert more == "1 more there"
    assert f'File "{bad}", line {line}, in score' in Path(said).read_text()


def test_the_errors_of_our_own_need_no_line(here):
    bad = plugin("bad", fit="raise harness.HarnessError('only squares')")
    err = harness("run", *TEST2, "--case", "1", "--method", bad, code=1).err
    assert "FAILED: HarnessError: only squares\n" in err


@pytest.mark.parametrize(("score", "hinted"), [(DISTANCE, False), (UPSIDE_DOWN, True)])
def test_a_score_that_is_below_chance_everywhere_is_pointed_out(here, score, hinted):
    method = plugin(score=score)
    words = ("run", *TEST2, "--case", "1,2,3", "--method", method)
    for _ in range(2):  # what is on record already, too
        hint = "mean-image: every AUROC of L2 is below 0.5; does a higher score mean more anomalous? harness check"
        hint += f" {method} tells\n"
        assert (hint in harness(*words).err) == hinted


def test_a_protocol_that_takes_the_name_of_a_bundled_one_is_pointed_out(here):
    plugin()
    more = ("--method", "mean-image", "--plugins", "mean-image.py")
    mine = named({"1": case(["0"], "5")}, name="test2")
    for command in ("plan", "run"):
        assert f"{mine}: test2 is the name of a bundled protocol" in harness(command, "--protocol", mine, *more).err
    assert harness("plan", "--protocol", named({"1": case(["0"], "5")}), *more).err == ""


def test_a_plan_tells_training_from_scoring_by_method(here):
    method = plugin(body="scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 1.0\n")
    words = (*TEST2, "--case", "1,2,3", "--method")
    harness("run", *TEST2, "--case", "1", "--method", method)
    out = harness("plan", *words, f"{method},lof", "--set", "mean-image.power=2").out
    assert "6 evaluations (6 to run); 5 fit(s) to train, 1 to score only\n" in out
    assert "    mean-image: 3 evaluations (3 to run); 2 fit(s) to train, 1 to score only\n" in out
    assert "    lof: 3 evaluations (3 to run); 3 fit(s) to train, 0 to score only\n" in out
    # A fit of the method as it was before is none of this one.
    plugin(
        head="# edited", body="scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 1.0\n"
    )
    assert "3 fit(s) to train, 0 to score only" in harness("plan", *words, method).out


@pytest.mark.parametrize(
    ("begun", "said"), [(1, ""), (13, "mean-image on digits 0, seed 0: goes on from epoch 13 of 20\n")]
)
def test_a_training_that_goes_on_says_from_where(here, begun, said):
    fit = f"for epoch in range({begun}, 21): run.progress(epoch, 20, 0.5)\n        {MEAN}"
    err = harness("run", *TEST2, "--case", "1", "--method", plugin(fit=fit)).err
    assert err.count("goes on") == bool(said)
    assert said in err


def test_bars_leave_room_for_what_the_terminal_writes_on_ctrl_c():
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    bars = Bars(TextColumn("{task.description}"), BarColumn(), console=console)
    bars.add_task("many words " * 20, total=3)
    lines = console.render_lines(bars.get_renderable(), pad=False)
    assert 50 < max(sum(segment.cell_length for segment in line) for line in lines) <= 58
