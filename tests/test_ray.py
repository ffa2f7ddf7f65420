"""Ray: the same records as in one process, from several nodes, with or without a shared folder, and when one dies."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from kept import differences, kept
from tiny import MEAN, case, fits, harness, named, plugin, spy

from harness import HarnessError
from harness.executors import ray as executor
from harness.executors import remote
from harness.executors.remote import Setup

ray = pytest.importorskip("ray")

PATIENT = {"health_check_period_ms": 1000, "health_check_failure_threshold": 10}
SMALL = {"object_store_memory": 80 << 20}
SEEDS = ("--seed", "0,1,2")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one processor each, and a driver's connection to them."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": PATIENT, **SMALL})
    try:
        made.add_node(num_cpus=1, **SMALL)
        with executor._connected(made.address):
            yield made
    finally:
        made.shutdown()


def on_ray(cluster, *words, **more):
    return harness("run", *words, "--executor", "ray", "--ray-address", cluster.address, **more)


@pytest.fixture(params=["shared", "apart"])
def folder(request, monkeypatch):
    """Whether the workers see the driver's results folder."""
    if request.param == "apart":
        monkeypatch.setattr(executor, "_token", lambda results: contextlib.nullcontext("a file that is not there"))
    return request.param


@pytest.mark.parametrize(
    ("address", "said"),
    [(None, "Ray does not start here: too slow; it may be too busy"), ("a:1", "no Ray cluster answers there")],
)
def test_ray_that_does_not_start_is_one_line(monkeypatch, address, said):
    def init(*args, **more):
        raise Exception("too slow\nand so on")  # which Ray raises as it is

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(HarnessError, match=said), executor._connected(address):
        pass


def test_records_and_fits_are_the_same_as_in_one_process(here, cluster, folder):
    first = named({"a": case(["0", "1"], near=["2"], far=["patches"]), "b": case(["4"], "5")}, "first")
    again = named({"c": case(["0", "1"], "3"), "d": case(["7"], "3")}, "again")
    methods = f"{spy()},{plugin('sad', fit='raise ValueError(run.seed)')},subcluster"
    words = ("--method", methods, "--set", "subcluster.epochs=2")
    for protocol in (first, again):
        harness("run", "--protocol", protocol, *words, "--results", "local", code=1)
    trained = len(fits(spy()))
    seen = on_ray(cluster, "--protocol", first, *words, "--results", "ray", code=1)
    assert seen.err.count("] training spy on digits") == 2
    assert seen.err.count("FAILED: ValueError: 0") == 3
    assert "[6/5]" not in seen.err
    assert "Traceback" not in seen.err
    seen = on_ray(cluster, "--protocol", again, *words, "--results", "ray", code=1)
    assert "] already trained: spy on digits 0,1" in seen.err
    assert len(fits(spy())) == 2 * trained
    local, remote = kept("local"), kept("ray")
    traces = {name for name in local if name.startswith("failures/")}
    assert len(traces) == 3
    # A traceback names the places in which it was raised.
    assert set(differences(local, remote)) <= traces
    assert all(b"ValueError: 0" in remote[name] for name in traces)


WAIT = """
        import os, time
        from pathlib import Path
        place = Path(__file__).parent
        (place / f"begun-{run.seed}-{os.getpid()}").touch()
        for _ in range(3000):
            if (place / "go").exists():
                break
            time.sleep(0.02)
"""


def test_a_node_that_is_killed_costs_nothing(here, cluster):
    method = plugin(fit=f"{WAIT}        {MEAN}")
    words = ("--protocol", "test2", "--case", "2", "--method", method, *SEEDS)
    Path("go").touch()
    harness("run", *words, "--results", "local")
    for path in (Path("go"), *here.glob("begun-*")):
        path.unlink()

    ended = threading.Event()  # else a run that fails would be waited for for ever

    def kill():
        while len(workers := [int(path.name.split("-")[2]) for path in here.glob("begun-*")]) < 2:
            if ended.wait(0.02):
                return
        cluster.remove_node(*cluster.worker_nodes, allow_graceful=False)
        while all(Path(f"/proc/{worker}").exists() for worker in workers) and not ended.wait(0.02):
            pass
        Path("go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        seen = on_ray(cluster, *words, "--results", "ray")
    finally:
        ended.set()
        killer.join()
    assert differences(kept("local"), kept("ray")) == []
    assert seen.err.count("AUROC L2") == 3
    begun = sorted(path.name.split("-")[1] for path in here.glob("begun-*"))
    assert sorted(set(begun)) == ["0", "1", "2"]
    assert len(begun) == 4  # the one that was lost, twice


def test_a_fit_that_kills_its_worker_is_recorded_as_failed(here, cluster, monkeypatch):
    monkeypatch.setattr(executor, "RETRIES", 0)
    method = plugin("bad", fit=f"import os; os.kill(os.getpid(), 9) if run.seed == 1 else None; {MEAN}")
    words = ("--protocol", "test2", "--case", "2", "--method", method, "--seed", "0,2,1")
    out = on_ray(cluster, *words, code=1).out
    assert "1 of 3 failed" in out
    assert "WorkerCrashedError" in out


def test_what_a_cluster_can_not_do_is_said_in_one_line(here, cluster):
    words = ("--protocol", "test2", "--case", "2", "--method", plugin())
    assert "no machine of the cluster has 2 GPU(s)" in on_ray(cluster, *words, "--ray-gpus", "2", code=2).line
    assert "has 0 GPU(s) and 64 CPU(s)" in on_ray(cluster, *words, "--ray-cpus", "64", code=2).line
    assert "Ray chooses among the GPUs" in on_ray(cluster, *words, "--device", "cuda:1", code=2).line
    assert "--ray-gpus: only with" in harness("run", *words, "--ray-gpus", "1", code=2).line
    assert not [path for path in Path("results").rglob("*") if path.is_file()]


# --- without a cluster -----------------------------------------------------------------------------------------------


def setup(**values) -> Setup:
    given = {"results": Path("results"), "token": "t", "data": Path("data"), "device": "cpu", "plugins": ()}
    return Setup(**given | {"version": remote.harness.__version__, "faster_by": ()} | values)


def test_a_plugin_file_travels_where_its_path_leads_nowhere(here):
    path = plugin("mine")
    content = path.read_bytes()
    there = remote._plugins(setup(plugins=((path, content),)))
    assert there.entry("method", "mine").source.path == path
    path.write_text("raise SystemExit('another file of the same name')")
    copied = remote._plugins(setup(plugins=((path, content),), token="u")).entry("method", "mine").source
    assert copied.path != path
    assert copied.path.read_bytes() == content


def test_a_machine_with_another_method_or_harness_is_refused(here):
    from harness.planning import Request, make_plan
    from harness.plugins import Plugins

    path = plugin("mine")
    request = Request(protocols=["test2"], methods=[str(path)], cases=["2"])
    ((fit, evaluations),) = make_plan(request, Plugins()).jobs()
    path.write_text(path.read_text() + "# edited\n")

    def check(**values):
        its = setup(**{"plugins": ((path, path.read_bytes()),)} | values)
        remote._check_alike(its, remote._plugins(its), fit, evaluations)

    with pytest.raises(HarnessError, match="another version of method; give all machines the same"):
        check()
    path.write_text(path.read_text().removesuffix("# edited\n"))
    check()
    with pytest.raises(HarnessError, match="this machine has harness"):
        check(version="0.0.1")


@pytest.mark.parametrize(
    ("machines", "asked", "expected"),
    [
        ([{"CPU": 4}], {}, 0),
        ([{"CPU": 4}, {"CPU": 4, "GPU": 2}], {}, 1),
        ([{"CPU": 4, "GPU": 2}], {"gpus": 0.25}, 0.25),
        ([{"CPU": 4, "GPU": 2}], {"device": "cpu"}, 0),
        ([{"CPU": 4, "GPU": 2}], {"gpus": 0}, 0),
        ([{"CPU": 4}], {"device": "cuda"}, None),
        ([{"CPU": 0, "GPU": 1}, {"CPU": 4}], {"gpus": 1}, None),
        ([{"CPU": 4}], {"cpus": 5}, None),
    ],
)
def test_a_fit_asks_for_a_gpu_where_there_is_one(monkeypatch, machines, asked, expected):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": one} for one in machines])
    if expected is None:
        with pytest.raises(HarnessError, match="no machine of the cluster"):
            executor._gpus(executor.Cluster(**asked))
    else:
        assert executor._gpus(executor.Cluster(**asked)) == expected


def driver(monkeypatch, **values) -> executor._Ray:
    """One whose only task is not over."""
    made = executor._Ray.__new__(executor._Ray)
    vars(made).update({"running": {"a task": None}, "gpus": 1.0, "cpus": 1.0, "able": time.monotonic()} | values)
    monkeypatch.setattr(ray, "wait", lambda tasks, **more: ([], tasks))
    return made


def test_a_run_ends_when_there_has_long_been_no_machine_for_it(monkeypatch):
    """Ray would wait for ever, and say nothing."""
    long = executor.ABSENCE + 1
    one = driver(monkeypatch, able=time.monotonic() - long)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4, "GPU": 1}}])
    assert one.finished() == []  # busy
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4}}])
    assert one.finished() == []  # it may come back
    one.able -= long
    with pytest.raises(HarnessError, match="no machine of the cluster has 1 GPU"):
        one.finished()


@pytest.mark.parametrize(
    ("cause", "said"), [(ImportError("no harness"), "same harness on every machine"), (OSError("no room"), "mend that")]
)
def test_an_error_of_a_worker_says_what_helps(monkeypatch, cause, said):
    def get(task):
        raise ray.exceptions.RayTaskError("_task", "", cause)

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(HarnessError, match=f"a worker of the cluster: .*{cause}.*; .*{said}"):
        driver(monkeypatch).outcome("a task")


def test_a_process_that_has_held_a_gpu_is_given_no_other():
    assert executor._remote_task(0.5, 1)._max_calls == 1
    assert executor._remote_task(0, 1)._max_calls == 0


def test_nothing_is_uploaded_under_uv_run():
    assert os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    from ray._private import ray_constants

    assert not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
