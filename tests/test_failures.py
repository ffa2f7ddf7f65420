"""What goes wrong outside a method's own code: memory, disk, data, and what is on disk already. One clear line each."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
from pathlib import Path

import pytest
from fake_data import make
from kept import differences, kept
from tiny import MEAN, case, harness, named, plugin, records, write_toml

from harness.cli import main
from harness.records import Store

ONE = ("run", "--protocol", "test2", "--case", "2")
SEEDS = ("--seed", "0,1,2")


# --- memory ----------------------------------------------------------------------------------------------------------

MEMORY = {
    "of the GPU": (
        "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')",
        "CUDA out of",
    ),
    "of torch": ("import torch; torch.empty(1 << 60)", "can't allocate memory"),
    "of Python": ("bytearray(1 << 60)", "MemoryError"),
}


@pytest.mark.parametrize(("fit", "reason"), MEMORY.values(), ids=MEMORY)
def test_a_fit_that_runs_out_of_memory_is_recorded_as_failed(here, fit, reason):
    method = plugin(fit=f"if run.seed == 1: {fit}\n        {MEAN}")
    found = harness(*ONE, "--method", method, *SEEDS, code=1)
    assert [record.status for record in records()] == ["ok", "failed", "ok"]
    (line,) = (line for line in found.err.splitlines() if "FAILED" in line)
    assert reason in line
    assert reason in found.out
    (trace,) = Path("results/failures").iterdir()
    assert trace.read_text().startswith("Traceback")
    plugin()
    assert "3 to run" not in harness(*ONE, "--method", method, *SEEDS).err
    assert [record.status for record in records()] == ["ok", "ok", "ok"]


# --- disk ------------------------------------------------------------------------------------------------------------


def full(monkeypatch, call: str, when) -> list:
    """From now on, the disk is full at those calls for which `when(number of the call, its arguments)` says so."""
    function, calls = getattr(os, call), []

    def fail(*args, **kwargs):
        calls.append(args)
        if when(len(calls) - 1, args):
            raise OSError(28, "No space left on device")
        return function(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)
    return calls


def test_a_note_that_is_no_number_is_named(here):
    method = plugin(fit=f"run.note(n=1, layers=[3, 4]); {MEAN}")
    err = harness("run", "--protocol", "test2", "--case", "1", "--method", method, code=1).err
    assert "FAILED: TypeError: note(layers=…): list is no number (mean-image.py, line" in err


def test_a_fit_that_can_not_be_kept_is_recorded_before_the_run_ends(here, monkeypatch):
    """The other fits would fare no better."""
    words = (*ONE, "--method", plugin(), *SEEDS)
    harness(*words, "--results", "whole")
    with monkeypatch.context() as patched:
        full(patched, "replace", lambda number, args: str(args[1]).endswith(".safetensors"))
        line = harness(*words, code=1).err.splitlines()[-1]
    assert line.startswith("harness: results/fits: can't write there: No space left on device; make room, then run")
    (done,) = records()
    assert (done.seed, done.status) == (0, "ok")
    harness(*words)
    assert all(name.startswith(f"fits/{done.fit}.") for name in differences(kept("whole"), kept("results")))


@pytest.mark.parametrize(("call", "at"), [("fsync", 0), ("replace", 2), ("fsync", 5)])
def test_where_a_record_can_not_be_written_the_run_ends_in_one_line(here, monkeypatch, call, at):
    words = (*ONE, "--method", plugin(), *SEEDS)
    harness(*words, "--results", "whole")
    with monkeypatch.context() as patched:
        full(patched, call, lambda number, args: number >= at)
        found = harness(*words, code=1)
    assert "Traceback" not in found.err
    line = found.err.splitlines()[-1]
    assert line.startswith("harness: results/scores/")
    assert "can't write there: No space left on device" in line
    assert line.endswith("make room, then run the same command to go on")
    assert not list(Path("results").rglob("*.part"))
    assert [record.status for record in records()] == ["ok"] * (at // 4)
    harness(*words)
    assert differences(kept("whole"), kept("results")) == []


def test_a_skip_that_can_not_be_recorded(here, monkeypatch):
    full(monkeypatch, "fsync", lambda number, args: True)
    words = ("run", "--protocol", "test2", "--case", "1", "--method", "subcluster")
    assert "No space left on device; make room" in harness(*words, code=1).line


def unread() -> int:
    """A pipe that nobody reads any more, as in `harness run … 2>&1 | less`, left by q."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def no_room() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def logged_out() -> int:
    ours, its = os.openpty()
    os.close(ours)
    return its


@pytest.mark.parametrize("place", [unread, no_room, logged_out])
def test_a_run_goes_on_when_its_log_can_not_be_written(here, place):
    method = plugin(fit=f"print('a word'); assert run.seed; {MEAN}")
    table = io.StringIO()
    with (
        os.fdopen(place(), "w", buffering=1) as log,  # which Python closes without an error, too
        contextlib.redirect_stderr(log),
        contextlib.redirect_stdout(table),
        pytest.raises(SystemExit) as end,
    ):
        main.main(args=[*ONE, *SEEDS, "--method", str(method)], prog_name="harness")
    assert end.value.code == 1
    assert [(record.seed, record.status) for record in records()] == [(0, "failed"), (1, "ok"), (2, "ok")]
    assert "AssertionError" in records()[0].reason
    assert "mean-image L2" in table.getvalue()


def test_a_run_goes_on_when_its_terminal_goes_away(here):
    ours, its = os.openpty()
    method = plugin(fit=f"if run.seed == 1:\n            import os; os.close({ours})\n        {MEAN}")
    with (
        os.fdopen(its, "w", buffering=1) as terminal,
        contextlib.redirect_stderr(terminal),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit) as end,
    ):
        main.main(args=[*ONE, *SEEDS, "--method", str(method)], prog_name="harness")
    assert end.value.code == 0
    assert [record.status for record in records()] == ["ok"] * 3


@pytest.mark.parametrize(("place", "code", "said"), [(unread, 1, "evaluation(s) failed"), (no_room, 2, "No space")])
def test_what_failed_is_told_when_the_table_can_not_be_written(here, place, code, said):
    err = io.StringIO()
    with (
        os.fdopen(place(), "w") as table,
        contextlib.redirect_stderr(err),
        contextlib.redirect_stdout(table),
        pytest.raises(SystemExit) as end,
    ):
        main.main(args=[*ONE, "--method", str(plugin(fit="1 / 0"))], prog_name="harness")
    assert end.value.code == code
    assert said in err.getvalue().splitlines()[-1]


def test_claims_that_can_not_be_made(here, monkeypatch):
    import filelock

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    line = harness(*ONE, "--method", plugin(), code=1).err.splitlines()[-1]
    assert line.startswith(
        "harness: results/claims: can't keep locks there: [Errno 28] No space left on device; make room"
    )


def test_a_file_system_without_locks_is_told_rather_than_that_a_claim_stays_for_ever(here, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(file, what):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    line = harness(*ONE, "--method", plugin(), code=1).err.splitlines()[-1]
    assert line.startswith("harness: results/claims: can't keep locks there: ")


def test_a_disk_that_is_really_full(here):
    """On a file system of its own, where one can be mounted."""
    Path("results").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "results"], capture_output=True).returncode:
        pytest.skip("mounting takes more rights")
    try:
        words = (*ONE, "--method", plugin(), "--seed", ",".join(map(str, range(12))))
        found = harness(*words, code=1)
        assert found.err.splitlines()[-1].startswith("harness: results/")
        assert "No space left on device" in found.err.splitlines()[-1]
        good = [record for record in records() if record.status == "ok"]
        assert 0 < len(good) < 12
        assert all(Store(Path("results")).scores(record) for record in good)
        subprocess.run(["mount", "-o", "remount,size=10m", "results"], check=True)
        harness(*words)
        harness(*words, "--results", "whole")
        assert [record.status for record in records()] == ["ok"] * 12
        table = harness("leaderboard", "--format", "csv").out
        assert table == harness("leaderboard", "--format", "csv", "--results", "whole").out
    finally:
        subprocess.run(["umount", "results"], check=True)


# --- data ------------------------------------------------------------------------------------------------------------


def pictures() -> Path:
    """A folder of two classes, some pictures each."""
    from PIL import Image

    images, labels = make("digits").load("train", ("0", "1", "2"))
    for split, start in (("train", 0), ("val", 20)):
        for label, name in enumerate(("0", "1", "2")):
            folder = Path("pictures", split, name)
            folder.mkdir(parents=True)
            for number, image in enumerate(images[labels == label][start : start + 20]):
                Image.fromarray(image[0].numpy()).save(folder / f"{number:02}.png")
    return Path("pictures").absolute()


@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_a_damaged_picture_fails_the_fits_that_need_it(here, content):
    folder = pictures()
    protocol = named({"a": case(["0"], "2"), "b": case(["1"], "2")}, dataset="folder")
    words = (
        "run",
        "--protocol",
        protocol,
        "--method",
        plugin(),
        "--dataset",
        "folder",
        "--set",
        f"folder.path={folder}",
    )
    recipe = write_toml("recipe.toml", {"network": "two-conv", "lr": 0.1, "epochs": 1, "batch": 10})
    words += ("--recipe", recipe)
    broken = folder / "train/1/03.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    found = harness(*words, code=1)
    a, b = records()
    assert (a.case, a.status, b.case, b.status) == ("a", "ok", "b", "failed")
    assert b.reason.startswith(f"DataDamaged: {broken}: not readable as a picture: ")
    assert b.reason.endswith("put a whole copy there")
    assert f"FAILED: {b.reason}" in found.err
    broken.write_bytes(whole)
    harness(*words)
    assert [record.status for record in records()] == ["ok", "ok"]


def test_a_truncated_data_file_is_told_before_anything_trains(here):
    raw = Path("data/MNIST/raw")
    raw.mkdir(parents=True)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (raw / f"{name}-idx{1 if 'labels' in name else 3}-ubyte.gz").write_bytes(b"\x1f\x8b\x08\x00 half a file")
    line = harness(*ONE, "--method", plugin(), "--dataset", "mnist", code=2).line
    assert "train-images-idx3-ubyte.gz not as published: delete, then run `harness data fetch mnist" in line
    assert not records()


# --- what is on record -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"\x00" * 900, b"{}", b'{"protocol": 1', "another cell's"])
def test_a_damaged_record_is_named_and_made_again(here, damage):
    words = (*ONE, "--method", plugin(), *SEEDS)
    harness(*words, "--results", "whole")
    harness(*words)
    first, second, _ = sorted(Path("results/records").rglob("*.json"))
    first.write_bytes(second.read_bytes() if damage == "another cell's" else damage)
    for command in (["results"], ["results", "--format", "csv"], ["leaderboard"], ["compare"]):
        line = harness(*command, code=2).line
        assert str(first) in line
        assert "move it away and run again" in line
    assert "1 to run" in harness("plan", *words[1:]).out
    assert "1 to run" in harness(*words).err
    assert differences(kept("whole"), kept("results")) == []
