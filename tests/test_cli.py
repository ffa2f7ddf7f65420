"""The command line: exit codes, and one line for whatever the user got wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import case, fits, harness, named, plugin, records, scorings, spy, write_toml

from harness.fits import Fits

RUN = {"--protocol": "test2", "--method": "mean-image", "--case": "1", "--plugins": "mean-image.py"}


def words(command: str, **changes: str) -> list[str]:
    options = RUN | {f"--{name}": value for name, value in changes.items()}
    return [command, *(part for option in options.items() for part in option)]


REFUSED = {
    "protocol": ({"protocol": "tset2"}, ["'tset2'", "did you mean 'test2'?"]),
    "protocol file": ({"protocol": "./nowhere.toml"}, ["nowhere.toml", "no such file"]),
    "protocol without a path's ending": ({"protocol": "./mine"}, ["./mine", ".toml"]),
    "method": ({"method": "mean-imag"}, ["'mean-imag'", "did you mean 'mean-image'?"]),
    "method file": ({"method": "./nowhere.py"}, ["nowhere.py", "no such plugin file"]),
    "data set": ({"dataset": "digit"}, ["'digit'", "did you mean 'digits'?"]),
    "data set of another protocol": ({"dataset": "imagenet"}, ["test2", "imagenet", "known: cifar10, digits, mnist"]),
    "case": ({"case": "6"}, ["6", "test2", "known: 1, 2, 3, 4, 5"]),
    "recipe": ({"recipe": "papr"}, ["'papr'", "did you mean 'paper'?"]),
    "nothing": ({"method": ","}, ["--method"]),
    "parameter": (
        {"set": "mean-image.colour=1"},
        ["mean-image.colour", "no such parameter", "its own: none; of the recipe: batch, crop, "],
    ),
    "parameter in capitals": ({"set": "mean-image.EPOCHS=1"}, ["mean-image.EPOCHS", "did you mean 'epochs'?"]),
    "commentary": ({"set": "mean-image.note=x"}, ["mean-image.note", "no such parameter"]),
    "value of a method's own": ({"method": "lof", "set": "lof.neighbours=x"}, ["--set lof: neighbours: "]),
    "scores without logits": ({"score": "Energy"}, ["--score Energy", "logits, and there are none in mean-image"]),
    "parameter of what is not run": ({"set": "rotnet.epochs=1"}, ["rotnet", "no part of this run"]),
    "value": ({"set": "mean-image.epochs=-1"}, ["--set", "epochs", "greater than or equal to 1"]),
    "no value": ({"set": "mean-image.epochs"}, ["--set", "NAME.KEY=VALUE"]),
    "no name": ({"set": "epochs=3"}, ["--set", "NAME.KEY=VALUE"]),
    "protocol's key": ({"set": "test2.ordre=1,2"}, ["ordre", "unknown key", "'order'"]),
    "protocol's class": ({"set": "test2.order=1,ten", "case": "2"}, ["digits", "'ten'", "known: 0, 1"]),
    "data set's parameter": ({"set": "digits.size=3"}, ["digits", "size", "unknown key"]),
    "plugins": ({"plugins": "nowhere"}, ["nowhere", "no such plugin"]),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(("changes", "parts"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_there_is_refused_in_one_line(here, command, changes, parts):
    plugin()
    found = harness(*words(command, **changes), code=2)
    assert found.out == ""
    for part in parts:
        assert part in found.line
    assert not Path("results").exists()


@pytest.mark.parametrize("command", ["run", "plan", "results", "leaderboard"])
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_results_folder_that_is_none_is_refused(here, command, place):
    plugin()
    Path("file").touch()
    more = words(command) if command in ("run", "plan") else [command]
    line = harness(*more, "--results", place, code=2).line
    assert "--results" in line
    assert place in line


@pytest.mark.parametrize("option", ["protocol", "method", "case", "seed", "score", "metric", "recipe", "reporter"])
def test_an_option_that_names_nothing_is_refused(here, option):
    plugin()
    assert f"--{option}: names nothing" in harness(*words("run", **{option: ""}), code=2).line
    assert not Path("results").exists()


def test_training_may_be_made_faster_by_nothing(here):
    plugin()
    harness(*words("run", **{"faster-by": ""}))


@pytest.mark.parametrize("option", ["results", "data", "plugins"])
def test_a_place_without_a_name_is_not_the_current_folder(here, option):
    plugin()
    assert f"--{option}: names nothing" in harness(*words("run", **{option: ""}), code=2).line
    assert "--out: names nothing" in harness("leaderboard", "--out", "", code=2).line
    assert [path.name for path in here.iterdir()] == ["mean-image.py"]


def test_a_tilde_is_the_home_folder_wherever_it_is_written(here, monkeypatch):
    home = here / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    plugin(file="home/mean-image.py")
    named({"1": case(["0"], "5")}).rename(home / "mine.toml")
    write_toml(home / "quick.toml", {"network": "two-conv", "lr": 0.01, "epochs": 1, "batch": 32})
    mine = {"protocol": "test2,~/mine.toml", "method": "~/mean-image.py", "plugins": "~/mean-image.py"}
    harness(*words("run", **mine, recipe="~/quick.toml", results="~/found", data="~/data"))
    out = harness("leaderboard", "--protocol", "~/mine.toml", "--results", "~/found", "--out", "~/shown").err
    assert f"{home}/shown: 1 record(s) added" in out
    assert {path.name for path in home.iterdir()} > {"found", "shown"}
    assert [path.name for path in here.iterdir()] == ["home"]
    assert f"{home}/data/MNIST" in harness("data", "verify", "mnist", "--data", "~/data", code=2).line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(here, device):
    plugin()
    line = harness(*words("run", device=device), code=2).line
    assert device in line
    assert "try cpu" in line


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", ""])
@pytest.mark.parametrize("done", [False, True])
def test_an_unknown_device_is_refused(here, device, done):
    plugin()
    if done:
        harness(*words("run"))
    assert "auto, cpu, cuda or cuda:N" in harness(*words("run", device=device), code=2).line


def test_missing_data_are_asked_for_with_what_to_put_where(here):
    plugin()
    for data in ("data", "elsewhere"):
        line = harness(*words("run", dataset="mnist", data=data), code=2).line
        for part in (f"harness data fetch mnist --data {data}", "train-images-idx3-ubyte", f"{data}/MNIST/raw"):
            assert part in line
        assert "elsewhere" in harness("data", "verify", "mnist", "--data", "elsewhere", code=2).line
    # What would be done can be told without them.
    assert harness(*words("plan", dataset="mnist")).statuses == ["to run"]


@pytest.mark.parametrize("seed", ["99999999999999999999999", "-1"])
def test_a_seed_is_a_number_that_generators_take(here, seed):
    plugin()
    line = harness(*words("run", seed=seed), code=2).err
    assert "seed" in line
    assert seed in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "--protocol", "test2"],
        ["run", "--protocol", "test2", "--method", "ssl", "--executor", "cloud"],
        ["run", "--protocol", "test2", "--method", "ssl", "--seed", "one"],
        ["run", "--protocol", "test2", "--method", "ssl", "--colour"],
        ["results", "--format", "xml"],
        ["list", "nonsense"],
    ],
    ids=" ".join,
)
def test_a_command_that_is_none_is_a_usage_error(here, arguments):
    err = harness(*arguments, code=2).err
    assert "Usage: harness" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["", "run", "plan", "list", "results", "leaderboard", "data", "data fetch"])
def test_every_command_has_help(command):
    out = harness(*command.split(), "--help").out
    assert out.startswith("Usage: harness")
    assert len(out) > 150


def test_the_version_and_the_module_are_there():
    done = subprocess.run([sys.executable, "-m", "harness", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("harness, version ")


@pytest.mark.parametrize("what", ["protocols", "methods", "datasets", "plugins"])
def test_lists_are_for_people_and_for_scripts(what):
    rows = json.loads(harness("list", what, "--json").out)
    text = harness("list", what).out
    assert rows
    for row in rows:
        name = row.get("name") or row["file"]
        assert f"{name}\n" in text


def test_what_is_done_or_skipped_is_a_success_and_a_failure_is_none(here):
    plugin()
    harness(*words("run"))
    again = harness(*words("run"))
    assert "1 evaluations (1 done); nothing to train" in again.err
    harness(*words("run", method="subcluster"))
    plugin("bad", fit="raise RuntimeError")
    harness(*words("run", method="bad", plugins="bad.py"), code=1)
    harness(*words("plan", method="bad", plugins="bad.py"))
    harness("results")
    harness("leaderboard")


def test_options_with_spaces_and_several_of_a_kind(here):
    plugin()
    own = named({"1": case(["0"], "5"), "with space": case(["1"], "5")})
    options = {"protocol": f"test2, {own}", "case": "1, with space", "seed": " 0 , 1 ", "method": "mean-image,"}
    assert len(harness(*words("plan", **options)).plan) == 6


def test_tables_go_to_the_output_and_everything_else_beside_it(here):
    plugin()
    found = harness(*words("run"))
    assert found.out.startswith("### Table 8")
    assert "1 evaluations (1 to run); 1 fit(s)" in found.err
    assert "AUROC L2" in found.err


def test_a_reader_that_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "harness", "list", "plugins"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_rescore_never_trains(here):
    method = spy(body="scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 1.0\n")
    cases = ("--protocol", "test2", "--case", "1,2", "--method", method)
    assert "no fit of what is asked for is kept" in harness("rescore", *cases, code=2).line
    harness("run", *cases[:3], "1", *cases[4:])
    found = harness("rescore", *cases, "--set", "spy.power=2")
    assert "1 evaluation(s) left out: their fits are not kept; harness run trains them" in found.err
    assert "already trained" in found.err
    assert len(fits(method)) == 1
    assert len(scorings(method)) == 2
    # An edited method's fit is not the one that would be trained today.
    spy(head="# edited", body="scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 1.0\n")
    assert "no fit of what" in harness("rescore", *cases, "--set", "spy.power=3", code=2).line
    assert len(fits(method)) == 1


POWER = "scoring = ('power',)\n    class Params(harness.Params):\n        power: float = 1.0\n"


def test_rescore_reads_what_was_learnt_once_and_leaves_out_what_can_not_be_read(here, monkeypatch):
    method = spy(body=POWER)
    cases = ("--protocol", "test2", "--case", "1,2", "--method", method)
    harness("run", *cases)
    damaged, _ = sorted(Path("results/fits").glob("*.safetensors"))
    damaged.write_bytes(b"no tensors")
    read, find = [], Fits.find
    monkeypatch.setattr(
        Fits, "find", lambda fits, identity, digests: read.append(identity) or find(fits, identity, digests)
    )
    for value in ("2", "3"):
        err = harness("rescore", *cases, "--set", f"spy.power={value}").err
        assert "1 evaluation(s) left out: what their fits learnt can't be read; harness run trains them anew" in err
        assert "failed" not in err
    assert len(read) == len(set(read)) * 2 == 4
    assert (len(fits(method)), len(scorings(method))) == (2, 4)
    assert [one.status for one in records()] == ["ok"] * 4
    harness("run", *cases, "--set", "spy.power=2")
    assert len(fits(method)) == 3


def test_rescore_leaves_what_is_done_in_the_table_whether_or_not_its_fit_is_kept(here):
    cases = ("--protocol", "test2", "--case", "1,2", "--method", plugin())
    harness("run", *cases[:3], "1", *cases[4:])
    shutil.rmtree("results/fits")
    found = harness("rescore", *cases)
    assert "1 evaluation(s) left out" in found.err
    assert re.search(r"^\| 1 \| \d\.\d{3} \|", found.out, re.MULTILINE), found.out
