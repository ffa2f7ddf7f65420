"""What a plan will take, against numbers worked out by hand; and what a record says of time and memory."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pytest
import torch
from tiny import MEAN, case, harness, named, plugin

from harness.estimate import Estimate, duration
from harness.fitting import per_second
from harness.kit import memory
from harness.machine import processor
from harness.peak import Peak

METHOD, OTHER = "mean-image", "other"
ELSEWHERE = "a machine, not this machine"


def record_files(method: str) -> list[Path]:
    return sorted(Path("results/records").rglob(f"{method}/*.json"))


def took(path: Path, **values) -> None:
    """Let a record say that it took another time; what is in a dict is changed in it.

    It was trained where it was scored, unless `numerics` says otherwise.
    """
    record = json.loads(path.read_text())
    if machine := values.get("provenance", {}).get("processor"):
        record["numerics"]["processor"] = machine
    for key, value in values.items():
        record[key] = record[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(record))


def last_line(*words: str) -> str:
    return harness("plan", *words).out.splitlines()[-1]


CORE = """processor : {turn}
model name\t: AMD EPYC
flags\t\t: fpu sse2 avx{wide}

"""


@pytest.mark.parametrize(
    ("wide", "told"),
    [("", "AMD EPYC"), (" avx2", "AMD EPYC (AVX2)"), (" avx2 avx512f amx_bf16 avx512_bf16", "AMD EPYC (AMX)")],
)
def test_two_processors_of_one_name_are_told_apart(tmp_path, monkeypatch, wide, told):
    path = tmp_path / "cpuinfo"
    path.write_text("".join(CORE.format(turn=turn, wide=wide) for turn in range(2)))
    monkeypatch.setattr("harness.machine.PROCESSOR", path)
    assert processor("cpu") == f"{told}, {os.cpu_count()} cores"


def test_a_plan_is_judged_by_the_fits_on_record(here):
    first, second = plugin(METHOD), plugin(OTHER)
    protocol = named({"one": case(["0"], "6"), "two": case(["0", "1"], "6", "7"), "three": case(["2", "3", "4"], "6")})
    ask = ["--protocol", protocol, "--method", f"{first},{second}", "--recipe", "fast"]
    assert last_line(*ask) == f"no fit on record tells how long this takes (3 of {METHOD}, 3 of {OTHER})"
    harness("run", *ask[:3], first, *ask[4:], "--case", "one,two")
    (one, two), epochs = (
        record_files(METHOD),
        json.loads(record_files(METHOD)[0].read_text())["recipe_values"]["epochs"],
    )
    # A class and epoch of training: 2 s and 4 s, so 3 s at the median. A tested class: 5 s and 2 s, so 3.5 s.
    took(one, fit_seconds=2.0 * epochs, score_seconds=10.0, provenance={"processor": "a machine"})
    took(two, fit_seconds=8.0 * epochs, score_seconds=8.0, provenance={"processor": "a machine"})
    seconds = 3 * epochs * 3.0 + 4 * 3.5
    told = f"judged by 2 fit(s) on record ({ELSEWHERE}); without precedent, and not counted: 3 of {OTHER}"
    assert last_line(*ask) == f"about {duration(seconds)}, {told}"
    # Another seed of a case that is on record is judged by that case alone: 2 s an epoch, 2 classes of 5 s.
    line = last_line(*ask[:3], first, *ask[4:], "--case", "one", "--seed", "1,2,3")
    assert line == f"about {duration(3 * (2.0 * epochs + 10))}, judged by 1 fit(s) on record ({ELSEWHERE})"
    # Twice the epochs, twice the training.
    line = last_line(*ask[:3], first, *ask[4:], "--case", "one", "--seed", "1", "--set", f"recipe.epochs={2 * epochs}")
    assert line == f"about {duration(4.0 * epochs + 10)}, judged by 1 fit(s) on record ({ELSEWHERE})"


def test_what_was_trained_elsewhere_and_scored_here_tells_nothing(here):
    method = plugin(METHOD)
    ask = ["--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast"]
    harness("run", *ask)
    (path,) = record_files(METHOD)
    assert json.loads(path.read_text())["numerics"]["processor"] == processor("cpu")
    took(path, numerics={"processor": "a GPU"})
    assert "no fit on record tells how long this takes" in last_line(*ask, "--seed", "1")


def test_elsewhere_the_machine_of_the_newest_record_counts_and_what_ran_beside_it_took_a_part(here):
    method = plugin(METHOD)
    ask = ["--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast"]
    harness("run", *ask, "--seed", "0,1,2")
    for path, (machine, finished, jobs) in zip(
        record_files(METHOD),
        [("slow", "2026-01-01", 1), ("fast", "2026-01-02", 4), ("fast", "2026-01-03", 2)],
        strict=True,
    ):
        seconds = 4000.0 if machine == "slow" else 40.0
        where = {"processor": machine, "finished": finished}
        took(path, fit_seconds=seconds, score_seconds=0.0, provenance=where, numerics={"jobs": jobs})
    # Of the two fast ones, a quarter and a half of 40 s: 15 s at the median.
    assert last_line(*ask, "--seed", "3,4") == "about 30 s, judged by 2 fit(s) on record (fast, not this machine)"


def test_this_machine_counts_before_a_newer_record_of_another(here):
    method = plugin(METHOD)
    ask = ["--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast"]
    harness("run", *ask, "--seed", "0,1")
    elsewhere, ours = record_files(METHOD)
    where = {"processor": "another", "finished": "2999-01-01"}
    took(elsewhere, fit_seconds=1.0, score_seconds=0.0, provenance=where, numerics={"jobs": 1})
    took(ours, fit_seconds=4000.0, score_seconds=0.0, numerics={"jobs": 1})
    # Tests see no GPU, so that what `--device auto` means is the processor.
    told = f"about {duration(4000)}, judged by 1 fit(s) on record ({processor('cpu')})"
    assert last_line(*ask, "--seed", "2") == told


def test_a_finished_fit_is_only_scored_and_a_finished_plan_takes_nothing(here):
    method = plugin(METHOD)
    first, second = named({"one": case(["0"], "6")}), named({"one": case(["0"], "6", "7")}, name="second")
    ask = ["--method", method, "--recipe", "fast"]
    harness("run", "--protocol", first, *ask)
    took(*record_files(METHOD), fit_seconds=5000.0, score_seconds=20.0, provenance={"processor": "a machine"})
    assert last_line("--protocol", first, *ask) == "1 evaluations (1 done); nothing to train"
    told = f"about 30 s, judged by 1 fit(s) on record ({ELSEWHERE})"
    assert last_line("--protocol", second, *ask) == told  # 3 classes at 10 s
    # What an earlier version of the method has learnt is learnt again.
    Path(method).write_text(Path(method).read_text() + "# another version\n")
    told = f"about {duration(5030)}, judged by 1 fit(s) on record ({ELSEWHERE})"
    assert last_line("--protocol", second, *ask) == told


def test_records_from_before_are_as_good_as_ever(here):
    method = plugin(METHOD)
    ask = ["--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast"]
    harness("run", *ask)
    (path,) = record_files(METHOD)
    record = json.loads(path.read_text())
    for name in ("n_train", "train_images_per_second", "score_images_per_second", "peak_memory_mib"):
        del record[name]
    path.write_text(json.dumps(record))
    assert harness("plan", *ask).statuses == ["done"]
    assert "judged by 1 fit(s)" in last_line(*ask, "--seed", "1")


def test_the_record_tells_time_and_memory(here):
    method = plugin(METHOD, fit=f"{MEAN}\n        [run.progress(epoch, 3, 0.0) for epoch in (1, 2, 3)]")
    ask = ["--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast"]
    harness("run", *ask)
    (path,) = record_files(METHOD)
    record = json.loads(path.read_text())
    assert record["n_train"] > 0
    (fit,) = (json.loads(file.read_text()) for file in Path("results/fits").glob("*.json"))
    assert record["train_images_per_second"] * fit["seconds"] == pytest.approx(3 * record["n_train"], rel=1e-3)
    assert record["score_images_per_second"] > 0
    # What a finished fit took is known when it is scored again.
    path.unlink()
    harness("run", *ask)
    again = json.loads(path.read_text())
    for name in ("n_train", "fit_seconds", "train_images_per_second", "peak_memory_mib"):
        assert again[name] == record[name]


@pytest.mark.parametrize(
    ("told", "epochs"), [([], 1), ([1, 2], 2), ([1, 2, 1, 2, 3], 5), ([7, 8], 8), ([2, 1, 2, 3], 5)]
)
def test_the_epochs_of_all_trainings_are_counted_from_wherever_they_go_on(here, told, epochs):
    method = plugin(METHOD, fit=f"{MEAN}\n        [run.progress(epoch, 9, 0.0) for epoch in {told}]")
    harness("run", "--protocol", named({"one": case(["0"], "6")}), "--method", method, "--recipe", "fast")
    (record,) = (json.loads(path.read_text()) for path in record_files(METHOD))
    (fit,) = (json.loads(file.read_text()) for file in Path("results/fits").glob("*.json"))
    assert record["train_images_per_second"] * fit["seconds"] == pytest.approx(epochs * record["n_train"], rel=1e-3)


def test_images_per_second():
    assert per_second(12345, 2.0) == 6172
    assert per_second(1, 3.0) == 0.3333


def test_a_peak_is_of_what_came_after_it_was_asked_for():
    if not Peak("cpu").watches:
        pytest.skip("this system does not begin anew")

    def most(mib: int) -> float:
        peak = Peak("cpu")
        with mmap.mmap(-1, mib * 2**20) as area:  # given back when it is closed, whatever keeps freed memory
            for _ in range(mib):
                area.write(b"x" * 2**20)
        return peak.mib

    large, small = most(300), most(10)
    assert 250 < large - small < 350


def test_a_peak_does_not_tell_what_an_earlier_fit_has_freed():
    if not (memory.keep() and Peak("cpu").watches):
        pytest.skip("this system does not keep what is freed, or does not begin anew")
    before = Peak("cpu").mib
    torch.ones(300 * 2**18)  # MiB, of which the process keeps most
    assert Peak("cpu").mib < before + 100


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *[(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (89 * 60, "89 min"), (90 * 60, "1 h 30 min"), (7200, "2 h")],
        *[(47.4 * 3600, "47 h 24 min"), (48 * 3600, "2 d"), (52 * 3600, "2 d 4 h")],
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_an_estimate_without_any_precedent_says_so():
    unknown = Estimate(0.0, 0, 0, "", True, {"a": 2, "b": 1})
    assert str(unknown) == "no fit on record tells how long this takes (2 of a, 1 of b)"
