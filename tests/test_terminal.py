"""Tables at a terminal: drawn to its width, and Markdown where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console
from tiny import harness, plugin

from harness.report.table import Cell, Table
from harness.report.terminal import draw

WIDE = Table(
    "A title",
    [["", *(f"group {i // 2}" for i in range(12))], ["normal", *(f"score {i}" for i in range(12))]],
    [
        [f"[bold]{row}[/]", *(Cell(f"0.{row}{i:02d}", row + i / 100, bold=i == 3) for i in range(12))]
        for row in range(4)
    ],
    notes=["a note [red]of colours[/] *and* stars"],
    rule_before_last=True,
)


def drawn(table: Table, width: int, **options) -> str:
    file = io.StringIO()
    draw(table, Console(file=file, width=width, highlight=False, **options))
    return file.getvalue()


@pytest.mark.parametrize("width", [24, 40, 80, 300])
def test_a_table_fits_the_width_and_loses_nothing(width):
    lines = drawn(WIDE, width).splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert [words.count(f"0.{row}{i:02d}") for row in range(4) for i in range(12)] == [1] * 48
    parts = sum(line.split()[:1] == ["normal"] for line in lines)
    assert sum("[bold]2[/]" in line for line in lines) == parts  # each part has the headings of the rows
    assert parts == 1 if width == 300 else parts > 1
    assert "a note [red]of colours[/] *and* stars" in " ".join(words)


def test_bold_is_bold():
    text = drawn(WIDE, 300, force_terminal=True, color_system="standard")
    for row in range(4):
        assert re.search(rf"\x1b\[1m *0\.{row}03\x1b\[0m", text)
        assert not re.search(rf"\x1b\[1m *0\.{row}04", text)


def test_a_terminal_gets_it_drawn_and_a_pipe_markdown(here):
    harness("run", "--protocol", "test2", "--case", "1", "--method", plugin())
    words = [sys.executable, "-m", "harness", "leaderboard"]
    ours, its = pty.openpty()
    with subprocess.Popen(words, stdout=its, env=os.environ | {"COLUMNS": "70"}):
        os.close(its)
        text = "".join(iter(lambda: _read(ours), ""))
    os.close(ours)
    assert "─" * 20 in text
    assert "mean-image" in text
    assert "|" not in text
    piped = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert piped == harness("leaderboard", "--format", "md").out
    assert "| --- |" in piped


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # nobody writes to it any more
        return ""
