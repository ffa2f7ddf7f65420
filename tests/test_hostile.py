"""Malformed input of every kind, and files that are not to be trusted. `campaigns/hostile.py` throws thousands more."""

from __future__ import annotations

import ast
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hostile import attacks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny import DISTANCE, MEAN, case, harness, named, plugin
from world import World

from harness import HarnessError, paths
from harness.records import Record, Store

RUN = ("run", "--protocol", "test2", "--case", "2", "--method")
PICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("hostile") / "world")


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
def test_one_line_says_what_is_wrong_and_nothing_is_lost(world, data):
    world.suffer(data.draw(attacks(world)))


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*Path(paths.__file__).parent.rglob("*.py"), *paths.PLUGINS.rglob("*.py")], ids=lambda path: path.name
)
def test_no_file_of_ours_reads_a_pickle(path):
    """The data set CIFAR, whose files are pickles, is left to torchvision, which looks at their checksums first: see
    `test_a_foreign_pickle_is_named_and_never_opened`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {module.partition(".")[0] for module in modules} & PICKLE, path
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.jit.load", "pandas.read_pickle", "pd.read_pickle"), path
            if called in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in ast.unparse(node), path


@pytest.fixture
def record(here) -> Record:
    harness(*RUN, plugin())
    (record,) = Store(Path("results")).records()
    return record


def sealed(record: Record, **arrays: np.ndarray) -> HarnessError:
    """What is said of scores that are not what they should be, in a file of the digest that the record names."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, **arrays)
    store = Store(Path("results"))
    record = record.model_copy(update={"scores_sha256": hashlib.sha256(out.getvalue()).hexdigest()})
    path = store.files(record)[1]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(out.getvalue())
    with pytest.raises(HarnessError, match=r"\.npz: not 2 arrays of finite scores of \d+ normal images") as refused:
        store.scores(record)
    return refused.value


def test_scores_are_seen_to_be_what_the_record_says_whatever_their_digest(record):
    good = Store(Path("results")).scores(record)
    normal, anomaly = good["normal.L2"], good["anomaly.L2"]
    for values in (
        anomaly[:-1],
        anomaly[None],
        anomaly * np.nan,
        anomaly.astype("U5"),
        np.array([Path()], dtype=object),
    ):
        sealed(record, **{"normal.L2": normal, "anomaly.L2": values})
    sealed(record, **{"normal.L2": normal})
    sealed(record, **good, more=anomaly)


def test_a_fit_that_is_no_safetensors_file_is_trained_again_whatever_its_digest(here):
    method = plugin()
    harness(*RUN, method)
    (about,) = Path("results/fits").glob("*.json")
    about.with_suffix(".safetensors").write_bytes(b"no tensors")
    values = json.loads(about.read_text()) | {"sha256": hashlib.sha256(b"no tensors").hexdigest()}
    about.write_text(json.dumps(values))
    again = harness("run", "--protocol", named({"a": case(["0", "1"], "9")}), "--method", method)
    assert "] training mean-image" in again.err


# --- plugins ---------------------------------------------------------------------------------------------------------

UNSPEAKABLE = "class Bad(Exception):\n    def __str__(self): raise ValueError\n\n"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("SystemExit(3)", "SystemExit: 3"),
        ("Bad()", "Bad"),
        ("ValueError('a\\nb\\x1b[31m' + chr(0xdcff))", "ValueError: a b [31m"),
    ],
)
def test_a_fit_that_ends_the_process_or_says_the_unspeakable_is_recorded_as_failed(here, error, reason):
    found = harness(*RUN, plugin(fit=f"raise {error}", head=UNSPEAKABLE), code=1)
    assert f"FAILED: {reason}" in found.err
    assert [one.reason.startswith(reason) for one in Store(Path("results")).records()] == [True]
    line = harness("plan", *RUN[1:], plugin(head=f"{UNSPEAKABLE}raise {error}"), code=2).line
    assert line.endswith(f"raised {reason} (mean-image.py, line 4)")


@pytest.mark.parametrize("text", ["(" * 300, "-" * 99999 + "1"])
def test_a_plugin_that_is_nested_too_deeply_is_one_line(here, text):
    Path("deep.py").write_text(text)
    assert "deep.py: not readable as Python" in harness("plan", *RUN[1:], "deep.py", code=2).line


@pytest.mark.parametrize("skip", ["True", "['a']", "object()"])
def test_a_reason_that_is_no_text_is_one_line(here, skip):
    method = plugin(body=f"@classmethod\n    def skip(cls, n_clusters, params): return {skip}\n")
    assert "mean-image.py: mean-image.skip() raised TypeError: a reason is a text" in harness(*RUN, method, code=2).line


def test_a_method_that_goes_elsewhere_takes_no_result_with_it(here):
    Path("elsewhere").mkdir()
    go = "import os; os.chdir('elsewhere')"
    harness(*RUN, plugin(fit=f"{MEAN}; {go}", score=f"{go}; {DISTANCE}"))
    assert not list(Path("elsewhere").iterdir())
    assert [one.status for one in Store(Path("results")).records()] == ["ok"]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1979-05-27", "nan", "[inf]", "{a=1979-05-27}", f"0x{'f' * 5000}"])
def test_a_value_that_is_no_plain_data_is_a_word(here, value):
    method = plugin(body="class Params(harness.Params):\n        word: object = ''\n")
    harness(*RUN, method, "--set", f"mean-image.word={value}")
    assert [one.params["word"] for one in Store(Path("results")).records()] == [value]


@pytest.mark.parametrize("value", ["1979-05-27", "nan", f"0x{'f' * 5000}"])
def test_a_spec_that_is_no_plain_data_is_refused(here, value):
    spec = named({"a": case(["0"], "9") | {"params": {"mean-image": {"word": 12345}}}})
    spec.write_text(spec.read_text().replace("12345", value))
    line = harness("plan", "--protocol", spec, "--method", plugin(), code=2).line
    assert "mine.toml: not readable as TOML: no plain data" in line


@pytest.mark.parametrize("words", [("--set", "mean-image.word=\udcff"), ("--recipe", "\udcff.toml")])
def test_a_word_that_no_record_can_hold_is_refused(here, words):
    assert "not UTF-8" in harness(*RUN, plugin(), *words, code=2).err
    assert not Path("results").exists()


def test_a_line_shows_all_that_it_says(here):
    line = harness("run", "--protocol", "\x1b[31m\u202ea\nb", "--method", "mean", code=2).line
    assert line.startswith("harness: no protocol is called")
    assert line.isprintable()
    assert harness("results", "\x1b\na", code=2).err.endswith("\nError: Got unexpected extra argument ( a)\n")


# --- names -----------------------------------------------------------------------------------------------------------


def test_no_table_is_written_outside_of_the_folder_whatever_its_record_says(record):
    store = Store(Path("results"))
    scores = store.scores(record)
    for recipe in ("../../up", "a/b", "a-b"):
        store.write(record.model_copy(update={"recipe": recipe}), scores)
    before = set(Path().iterdir())
    written = harness("leaderboard", "--out", "out/deep", "--format", "csv").out.splitlines()
    assert set(Path().iterdir()) == before | {Path("out")}
    assert [path.name for path in Path("out").iterdir()] == ["deep"]
    assert len({path for path in written if path.endswith(".csv")}) == 4
    assert "everything derives" in harness("leaderboard", "--check", "--out", "out/deep").out


@pytest.mark.parametrize(
    "values", [{"seed": -1}, {"seed": 10**30}, {"scores_sha256": "/../../a"}, {"scores_sha256": "a" * 63 + "\n"}]
)
def test_what_a_record_puts_into_file_names_is_checked(record, values):
    with pytest.raises(ValidationError):
        Record.model_validate(record.model_dump() | values)


def test_a_name_with_dollars_is_drawn_as_it_is(here):
    spec = named({"$\\frac{$": case(["0", "1"], **{"x_{$": ["9"]})}, table={"title": "T", "figure": "$\\alpha{"})
    harness("run", "--protocol", spec, "--method", plugin())
    written = harness("leaderboard", "--protocol", spec, "--out", "out").out.splitlines()
    assert [Path(path).suffix for path in written] == [".md", *[".svg", ".png"] * 2]


def test_rows_of_other_images_are_refused(record):
    other = record.model_copy(update={"method": "other", "n_anomaly": record.n_anomaly - 1})
    Store(Path("results")).write(
        other, {k: v[: len(v) - (k[0] == "a")] for k, v in Store(Path("results")).scores(record).items()}
    )
    assert "not of the same number of images" in harness("leaderboard", code=2).line
