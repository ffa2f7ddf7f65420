"""Several fits at once, each in a process: the same records as one after the other, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import victim
from kept import differences, kept
from tiny import MEAN, case, fits, harness, named, plugin, spy

from harness import HarnessError, machine
from harness.executors import processes
from harness.planning import Request, make_plan
from harness.plugins import Plugins
from harness.records import Store
from harness.reporter import Reporter
from harness.run import Worker

MEET = """
        import os, time
        from pathlib import Path
        (Path(__file__).parent / f"begun-{run.seed}-{os.getpid()}").touch()"""
"""Begins the `fit` of a method that tells where it is."""


def begun() -> dict[int, list[int]]:
    """The processes that fits of the methods above have been begun in, by seed."""
    found: dict[int, list[int]] = {}
    for path in sorted(Path().glob("begun-*")):
        _, seed, process = path.name.split("-")
        found.setdefault(int(seed), []).append(int(process))
    return found


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def within_a_minute(condition) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def without_jobs(files: dict[str, bytes]) -> dict[str, bytes]:
    """What is kept, apart from how many fits were carried out at once."""
    kept = {}
    for name, content in files.items():
        values = json.loads(content) if name.endswith(".json") else None
        if values and "numerics" in values:
            values["numerics"].pop("jobs", None)
            values["numerics"].pop("threads", None)
        kept[name] = json.dumps(values).encode() if values else content
    return kept


def test_the_records_are_those_of_one_fit_after_the_other(here, monkeypatch):
    protocol = named({"a": case(["0", "1"], near=["2"], far=["patches"]), "b": case(["4"], "5")})
    methods = f"{spy()},{plugin('sad', fit='raise ValueError(run.seed)')},subcluster"
    words = ("run", "--protocol", protocol, "--method", methods, "--set", "subcluster.epochs=2")
    harness(*words, "--results", "alone", "--jobs", "1", code=1)
    trained = len(fits(spy()))
    monkeypatch.setattr(processes, "cores", lambda: 2)
    seen = harness(*words, "--results", "together", code=1)
    assert seen.err.count("] training spy on digits") == 2
    assert seen.err.count("FAILED: ValueError: 0") == 3
    assert "Traceback" not in seen.err
    assert len(fits(spy())) == 2 * trained
    alone, together = kept("alone"), kept("together")
    traces = {name for name in alone if name.startswith("failures/")}  # these name the places they were raised in
    assert len(traces) == 2
    assert set(differences(without_jobs(alone), without_jobs(together))) <= traces
    record = next(value for name, value in together.items() if "/subcluster/" in name and name.endswith(".json"))
    assert json.loads(record)["numerics"]["jobs"] == 2
    assert "nothing to train" in harness(*words[:3], "--method", spy(), "--results", "together").err


def test_a_plugin_that_is_edited_while_a_run_goes_on_means_the_next_run(here, monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 2)
    edit = f"""
        from pathlib import Path
        if run.seed == 2:
            place = Path(__file__)
            place.with_suffix(".new").write_text(place.read_text() + "# edited")
            place.with_suffix(".new").replace(place)
        {MEAN}"""
    words = ("run", "--protocol", "test2", "--case", "2", "--seed", "0,1,2,3,4,5,6,7", "--method", plugin(fit=edit))
    assert harness(*words).code == 0
    assert set(harness("plan", *words[1:]).statuses) == {"stale: method changed"}


def test_a_plugin_that_is_edited_before_its_turn_has_come_is_run_as_it_was(here, monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 2)
    edit = f"from pathlib import Path; Path(__file__).with_name('later.py').open('a').write('# edited'); {MEAN}"
    both = f"{plugin('first', fit=edit)},{plugin('later')}"
    words = ("run", "--protocol", "test2", "--case", "2", "--seed", "0,1,2", "--method", both)
    assert harness(*words, "--jobs", "2").code == 0
    assert harness("plan", *words[1:]).statuses == ["done"] * 3 + ["stale: method changed"] * 3


def test_a_process_that_heeds_no_first_ctrl_c_is_told_again(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.05)
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal, time\nheard = []\nsignal.signal(2, lambda *_: heard.append(1))\n"
         "print(flush=True)\nwhile len(heard) < 2: time.sleep(.01)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    child.stdout.readline()
    over = threading.Event()
    told = SimpleNamespace(pid=child.pid, is_alive=lambda: child.poll() is None)
    thread = threading.Thread(target=processes._interrupt, args=([told], over))
    thread.start()
    assert child.wait(timeout=60) == 0
    over.set()
    thread.join()


def test_a_process_that_hears_nothing_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.05)
    deaf = "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    child.stdout.readline()
    told, over = SimpleNamespace(pid=child.pid, is_alive=lambda: child.poll() is None), threading.Event()
    thread = threading.Thread(target=processes._interrupt, args=([told], over))
    thread.start()
    assert child.wait(timeout=60) == -signal.SIGKILL
    over.set()
    thread.join()


def test_a_process_that_died_while_it_had_nothing_to_do_is_replaced(monkeypatch):
    opened = []

    def opens(slot):
        opened.append(slot)
        slot.pool = SimpleNamespace(submit=broken if len(opened) == 1 else lambda *task: "begun", shutdown=lambda: None)

    def broken(*task):
        raise BrokenProcessPool

    monkeypatch.setattr(processes._Slot, "_open", opens)
    assert processes._Slot(None, 1).submit(None, [], False, None) == "begun"
    assert len(opened) == 2


def test_so_many_at_once_as_there_are_cores_and_memory_for(monkeypatch):
    plan = make_plan(Request(protocols=("test2",), methods=("rotnet",), cases=("1", "2"), seeds=(0, 1)), Plugins())
    monkeypatch.setattr(processes, "cores", lambda: 3)
    monkeypatch.setattr(processes, "memory", lambda: 100 << 30)
    assert processes.at_once(plan, ["cpu"]) == 3
    assert processes.at_once(plan, ["cuda:0"]) == 1
    assert processes.at_once(plan, ["cuda:0", "cuda:1"]) == 2
    monkeypatch.setattr(processes, "cores", lambda: 64)
    assert processes.at_once(plan, ["cpu"]) == 4  # fits
    monkeypatch.setattr(processes, "memory", lambda: 11 << 30)
    assert processes.at_once(plan, ["cpu"]) == 2
    monkeypatch.setattr(processes, "memory", lambda: 1 << 30)
    assert processes.at_once(plan, ["cpu"]) == 1


def test_any_gpu_means_all_of_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.every_device("auto") == machine.every_device("cuda") == ["cuda:0", "cuda:1"]
    assert machine.every_device("cuda:1") == ["cuda:1"]
    assert machine.every_device("cpu") == ["cpu"]
    with pytest.raises(HarnessError, match=r"cuda:2: there is no such GPU here \(2 found\)"):
        machine.every_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.every_device("auto") == ["cpu"]


def test_processes_take_the_devices_in_turn(monkeypatch):
    given = []
    monkeypatch.setattr(processes, "_Slot", lambda setup, threads: given.append((setup.device, setup.jobs, threads)))
    monkeypatch.setattr(processes, "cores", lambda: 16)
    worker = Worker(Plugins(), Store(Path("results")), Path("data"), "cpu", Reporter())
    processes._Pool(worker, 5, 5, ["cuda:0", "cuda:1"])
    assert given == [(f"cuda:{place}", 3, 3) for place in (0, 1, 0, 1, 0)]


WHOLE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
JOB, JOB_OF_V1 = "0::/a/job_1/step\n", "4:memory:/a/job_1/step\n3:cpuacct,cpu:/a/job_1\n2:cpuset:/\n0::/\n"
LIMITS = {
    "no limit": ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 8, WHOLE),
    "a container's": ("0::/\n", {"cpu.max": "250000 100000", "memory.max": "9000000"}, 2, 9000000),
    "half a core": ("0::/\n", {"cpu.max": "50000 100000"}, 1, WHOLE),
    "more than there is": ("0::/\n", {"cpu.max": "9900000 100000", "memory.max": f"{2 * WHOLE}"}, 8, WHOLE),
    "the least of a job's cores": (JOB, {"a/cpu.max": "500000 100000", "a/job_1/cpu.max": "300000 100000"}, 3, WHOLE),
    "the least of its memory": (JOB, {"a/memory.max": "9000000", "a/job_1/memory.max": "max"}, 8, 9000000),
    "another job's": (JOB, {"a/job_2/cpu.max": "100000 100000", "a/job_2/memory.max": "7"}, 8, WHOLE),
    "memory of v1": (JOB_OF_V1, {"memory/a/job_1/memory.limit_in_bytes": "9000000"}, 8, 9000000),
    "no limit of v1": (JOB_OF_V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, 8, WHOLE),
    "cores of v1": (JOB_OF_V1, {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, 4, WHOLE),
    "all cores of v1": (JOB_OF_V1, {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8, WHOLE),
    "no such thing": (None, {"memory.max": "7"}, 8, WHOLE),
}


@pytest.mark.parametrize(("groups", "files", "cores", "memory"), LIMITS.values(), ids=LIMITS)
def test_a_container_or_a_job_has_what_it_is_allowed(monkeypatch, tmp_path, groups, files, cores, memory):
    own, told = tmp_path / "own", tmp_path / "told"
    if groups:
        own.write_text(groups)
    for name, text in files.items():
        (told / name).parent.mkdir(parents=True, exist_ok=True)
        (told / name).write_text(text + "\n")
    monkeypatch.setattr(machine, "OWN_GROUPS", own)
    monkeypatch.setattr(machine, "GROUPS", told)
    monkeypatch.setattr(machine, "threads", lambda: 8)
    assert (machine.cores(), machine.memory()) == (cores, memory)


def test_a_process_that_dies_takes_only_its_own_fit_with_it(here):
    # Seed 1 dies whenever it is begun: at first beside seed 0, which waits for that, then when all others are done.
    dies = f"""{MEET}
        if run.seed == 1:
            (Path(__file__).parent / ("saw-%d" % len(list(Path(__file__).parent.glob("begun-*"))))).touch()
            os.kill(os.getpid(), 9)
        while run.seed == 0 and not list(Path(__file__).parent.glob("begun-2-*")):
            time.sleep(0.01)
        {MEAN}"""
    seen = harness("run", "--protocol", "test2", "--case", "1", "--method", plugin("mortal", fit=dies),
                   "--seed", "0,1,2,3", "--jobs", "2", code=1)  # fmt: skip
    assert seen.err.count("FAILED: Lost: the process that carried it out died") == 1
    assert "seed 1: FAILED" in seen.err
    assert {seed: len(each) for seed, each in begun().items()} == {0: 1, 1: 2, 2: 1, 3: 1}
    assert Path("saw-5").exists()
    assert seen.err.count("AUROC L2") == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_command(here, number):
    slow = plugin(
        "slow",
        fit=f"""{MEET}
        while not (Path(__file__).parent / "go").exists():
            time.sleep(0.01)
        {MEAN}""",
    )
    words = ("run", "--protocol", "test2", "--case", "1", "--method", slow, "--seed", "0,1,2", "--jobs", "2")
    command = victim.start(*words)
    assert within_a_minute(lambda: len(begun()) == 2)
    workers = [process for each in begun().values() for process in each]
    os.kill(command.pid, number)
    command.join()
    assert command.exitcode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert within_a_minute(lambda: not any(map(is_there, workers)))
    assert "Traceback" not in Path("log").read_text()
    if number == signal.SIGINT:
        assert "interrupted: 0 of 3 evaluations are on record" in Path("log").read_text()
    Path("go").touch()
    assert "3 fits," in harness(*words[:-2]).out  # in this process: another two would take seconds to start


def test_what_is_no_number_of_fits_is_refused(here):
    words = ("run", "--protocol", "test2", "--method", "subcluster")
    assert "--jobs" in harness(*words, "--jobs", "0", code=2).err
    assert "only with" in harness(*words, "--jobs", "2", "--executor", "ray", code=2).err
