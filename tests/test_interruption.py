"""Killed, interrupted, or two at once: the same results as if nothing had happened. `campaigns/kill.py` does more."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import victim
from kept import differences, kept
from tiny import MEAN, harness, plugin

from harness.executors import local
from harness.files import sweep, whole_file, write_whole
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.records import Store
from harness.reporter import Reporter
from harness.run import Worker

TRAINING = ("run", "--protocol", "test2", "--case", "2", "--method", "subcluster", "--set", "recipe.epochs=3")
SEEDS = ("--seed", "0,1,2")


@pytest.fixture(autouse=True)
def _heeds_ctrl_c():
    """A shell that puts the tests into the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def left(folder: str) -> dict[str, bytes]:
    """What a folder keeps, without what kills have left half-written, and its leaderboard."""
    table = harness("leaderboard", "--results", folder, "--format", "csv").out
    return {name: file for name, file in kept(folder).items() if not name.endswith(".part")} | {"": table.encode()}


def waiting(condition: str) -> str:
    """The `fit` of a method: it says that it has begun, and waits while the condition holds, until there is a file `go`
    (or, lest a test never ends, for a minute)."""
    return f"""
        import os, time
        from pathlib import Path
        place = Path(__file__).parent
        (place / f"begun-{{run.seed}}-{{os.getpid()}}").touch()
        for _ in range(6000):
            if (place / "go").exists() or not ({condition}):
                break
            time.sleep(0.01)
        {MEAN}"""


def meet(process) -> None:
    """Wait until the process is in its first fit."""
    while process.is_alive() and not list(Path().glob("begun-*")):
        time.sleep(0.01)


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_whatever_write_a_run_is_killed_in_it_ends_as_if_it_had_not_been(here):
    harness(*TRAINING, "--results", "whole")
    # A run writes three checkpoints, what was learnt, its description, the scores, and the record.
    deaths = [("replace", 2), ("fsync", 1), ("replace", 1), ("unlink", 0), ("fsync", 0), ("replace", 1)]
    codes = [victim.run(*TRAINING, deaths=dict([death])) for death in deaths]
    assert codes == [-signal.SIGKILL] * len(deaths)
    assert victim.run(*TRAINING) == 0
    assert differences(left("whole"), left("results")) == []
    log = Path("log").read_text()
    assert "resumed after epoch 2" in log
    assert "already trained" in log
    assert "Traceback" not in log


def half_written(folder: str, monkeypatch) -> Path:
    """A file as a process leaves it that is killed while it writes."""
    before = set(Path(folder).glob(".*"))
    with monkeypatch.context() as patched, contextlib.suppress(KeyError), whole_file(Path(folder, "whole")):
        patched.setattr(os, "unlink", lambda path: None)
        raise KeyError
    (left,) = set(Path(folder).glob(".*")) - before
    return left


def test_what_was_half_written_when_a_process_was_killed_is_cleared_away_in_time(here, monkeypatch):
    write_whole(Path("results/fits/whole"), b"data")
    old, new, deep = (half_written(f"results/{place}", monkeypatch) for place in ("fits", "fits", "checkpoints/some"))
    for path in (old, deep):
        os.utime(path, (0, 0))
    Store(Path("results")).prepare()
    assert {path.name for path in Path("results").rglob("*") if path.is_file()} == {new.name, "whole"}


def test_what_others_have_half_written_is_theirs(here, monkeypatch):
    theirs = [Path("Downloads/.thesis.pdf.part"), Path("fits/.thesis.pdf.part"), Path("fits/mine.part")]
    theirs += [half_written(place, monkeypatch) for place in (".", "Downloads", "Downloads/fits")]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    Store(Path()).prepare()
    assert all(path.exists() for path in theirs)


def test_a_folder_that_goes_while_it_is_swept_is_no_error(here, monkeypatch):
    """As another run's checkpoints do, between the look at their folder and the look into it."""
    scan = os.scandir
    for name in ("a", "b"):
        Path("results/checkpoints", name).mkdir(parents=True)

    def goes(place):
        if os.path.basename(place) in ("a", "b"):
            os.rmdir(place)
        return scan(place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", goes)
        sweep(Path("results"))
    assert list(Path("results/checkpoints").iterdir()) == []


# --- two at once -----------------------------------------------------------------------------------------------------


def test_two_processes_share_the_work(here):
    # Each waits in its first fit until the other is in one, too.
    method = plugin(fit=waiting('len({path.name.split("-")[2] for path in place.glob("begun-*")}) < 2'))
    words = ("run", "--protocol", "test2", "--case", "2", "--method", method, "--seed", "0,1,2,3,4,5")
    both = [victim.start(*words, log=f"log{number}") for number in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    begun = [path.name.split("-")[1:] for path in here.glob("begun-*")]
    assert sorted(seed for seed, _ in begun) == list("012345")
    assert len({process for _, process in begun}) == 2
    Path("go").touch()
    harness(*words, "--results", "alone")
    assert differences(left("alone"), left("results")) == []
    # Both show the whole table.
    one, other = (Path(f"log{number}").read_text().partition("### ")[2] for number in range(2))
    assert one == other != ""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_run_that_waits_for_another_one_says_so_once(here, jobs):
    method = plugin()
    words = ("run", "--protocol", "test2", "--case", "2", "--method", method, "--seed", "0,1", "--jobs", jobs)
    request = Request(protocols=("test2",), methods=(str(method),), cases=("2",))
    store = Store(Path("results"))
    (job,) = make_plan(request, Plugins(), store).jobs()
    with store.fits.claim(job[0].id) as ours:
        assert ours
        process = victim.start(*words)
        while process.is_alive() and "waiting" not in log():
            time.sleep(0.01)
        process.join(timeout=2)  # in which it looks again
        assert process.is_alive()
        assert len(list(store.records())) == 1
    process.join()
    assert process.exitcode == 0
    assert log().count("waiting for 1 fit(s) that another run on this results folder is at") == 1
    assert len(list(store.records())) == 2


def log() -> str:
    return Path("log").read_text() if Path("log").exists() else ""


def test_what_another_process_has_tried_and_failed_is_not_tried_again(here):
    method = plugin(fit="from pathlib import Path; Path(__file__).with_name('log').open('a').write('x'); 1 / 0")
    words = {"protocols": ("test2",), "methods": (str(method),), "cases": ("2",)}
    store, plugins = Store(Path("results")), Plugins()

    def carry_out(plan):
        local.execute(plan, Worker(plugins, store, Path("data"), "cpu", Reporter()))
        return len(Path("log").read_text())

    store.prepare()
    both = [make_plan(Request(**words), plugins, store) for _ in range(2)]
    assert [carry_out(plan) for plan in both] == [1, 1]
    (record,) = store.records()
    # A second is as fine as records tell the time.
    store.write(record.model_copy(update={"provenance": record.provenance | {"finished": "2020-01-01T00:00:00"}}))
    again = [make_plan(Request(**words), plugins, store) for _ in range(2)]
    assert [carry_out(plan) for plan in again] == [2, 2]


def test_a_ctrl_c_that_comes_when_a_file_has_just_been_moved_is_one(here, monkeypatch):
    move = os.replace

    def moved(*names):
        move(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", moved)
    with pytest.raises(KeyboardInterrupt):
        write_whole(here / "a", b"content")
    assert (here / "a").read_bytes() == b"content"


def test_checkpoints_of_an_earlier_version_go_with_those_of_this_one(here):
    words = ("run", "--protocol", "test2", "--case", "2", "--method", plugin())
    harness(*words)
    (record,) = Store(Path("results")).records()
    for name in (f"{record.fit}-01234567", "another-01234567"):
        Path("results/checkpoints", name).mkdir(parents=True)
    plugin(fit=f"{MEAN}  # edited")
    harness(*words)
    assert [path.name for path in Path("results/checkpoints").iterdir()] == ["another-01234567"]


def test_the_claim_of_a_process_that_died_is_taken_over(here):
    words = ("run", "--protocol", "test2", "--case", "2", "--method", plugin(fit=waiting("True")))
    process = victim.start(*words)
    meet(process)
    (claim,) = Path("results/claims").iterdir()
    with Store(Path("results")).fits.claim(claim.stem) as ours:
        assert not ours
    process.kill()
    process.join()
    Path("go").touch()
    harness(*words)
    assert [record.status for record in Store(Path("results")).records()] == ["ok"]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "at"), [("fsync", 0), ("replace", 1), ("fsync", 2), ("replace", 3)])
def test_ctrl_c_finishes_the_write_in_hand(here, monkeypatch, call, at):
    words = ("run", "--protocol", "test2", "--case", "2", "--method", plugin(), *SEEDS)
    harness(*words, "--results", "whole")
    function, calls = getattr(os, call), []

    def press(*args, **kwargs):
        calls.append(args)
        if len(calls) == at + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, press)
        line = harness(*words, code=130).err.splitlines()[-1]
    # A fit's files are two writes, and so are scores and record: each two are finished together.
    done = 1 if at >= 2 else 0
    assert line == f"harness: interrupted: {done} of 3 evaluations are on record; run the same command to go on"
    assert len(list(Path("results/records").rglob("*.json"))) == done
    assert len(list(Path("results/fits").iterdir())) == 2
    harness(*words)
    assert differences(left("whole"), left("results")) == []


def test_ctrl_c_while_a_fit_is_trained(here):
    method = plugin(fit=f"{MEAN}\n        if run.seed == 1: raise KeyboardInterrupt")
    words = ("run", "--protocol", "test2", "--case", "2", "--method", method, *SEEDS)
    found = harness(*words, code=130)
    assert found.err.splitlines()[-1].startswith("harness: interrupted: 1 of 3 evaluations are on record")
    assert "Traceback" not in found.err
    # What is stale or failed counts as yet to be done.
    plugin(fit="raise ValueError")
    harness(*words, code=1)
    plugin(fit="raise KeyboardInterrupt")
    assert "interrupted: 0 of 3" in harness(*words, code=130).err


def trained(output: int, stop: int = 0) -> str:
    """The `fit` of a method that trains a network to an output and tells the epochs; it is interrupted after `stop`."""
    return f"""
        import torch
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))

        def progress(epoch, epochs, loss):
            print("epoch", epoch)
            if epoch == {stop}:
                raise KeyboardInterrupt

        def loss(batch, index):
            return (network(batch) - {output}).square().mean(), torch.zeros(())

        run.progress, run.checkpoint_seconds = progress, 0
        harness.kit.train_network(network, train.images, loss, run)
        self.mean = network[1].weight.detach().reshape(1, 8, 8)"""


def test_a_method_that_was_edited_begins_its_training_anew(here):
    """Or it would go on with what another version has learnt."""

    def told(output, *words, stop=0):
        method = plugin(fit=trained(output, stop))
        code = 130 if stop else 0
        words = ("--protocol", "test2", "--case", "2", "--method", method, "--set", "recipe.epochs=4", *words)
        return [line for line in harness("run", *words, code=code).err.splitlines() if line.startswith("epoch")]

    assert told(1, stop=2) == ["epoch 1", "epoch 2"]
    assert len(list(Path("results/checkpoints").rglob("*.checkpoint"))) == 1
    assert told(2) == told(2, "--results", "whole") == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert differences(left("whole"), left("results")) == []


def test_ctrl_c_of_a_process(here):
    process = victim.start("run", "--protocol", "test2", "--case", "2", "--method", plugin(fit=waiting("True")))
    meet(process)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert "interrupted: 0 of 1 evaluations are on record; run the same command to go on" in Path("log").read_text()
    assert "Traceback" not in Path("log").read_text()
