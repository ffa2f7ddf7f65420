"""`harness new`: what it writes works as it is, and passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny import harness, plugin


def own_tests(file: str, *more: str) -> None:
    """Run the tests that were written, as their author would."""
    apart = ("-q", "-p", "no:cacheprovider", "--import-mode", "importlib", "-c", os.devnull, "--rootdir", ".")
    assert pytest.main([file, *apart, *more]) == 0


@pytest.mark.parametrize("name", ["mine", "knn-pixels", "3d_images", "class"])
def test_a_new_method_gives_a_row_at_once(here, name):
    out = harness("new", "method", name).out
    assert f"wrote {name}.py" in out
    assert f"harness run --protocol test2 --method ./{name}.py" in out
    run = harness("run", "--protocol", "test2", "--case", "1,2", "--method", f"./{name}.py")
    assert f"{name} Distance".replace("_", r"\_") in run.out
    assert harness("results", "--format", "csv").out.count(f",{name},Distance,0,ok,0.") == 2


def test_a_new_method_s_own_tests_pass(here):
    harness("new", "method", "knn-pixels")
    own_tests("test_knn_pixels.py")
    harness("run", "--protocol", "test2", "--case", "1", "--method", "./knn-pixels.py", "--set", "knn-pixels.norm=l1")


def test_a_new_data_set_s_own_tests_pass(here):
    harness("new", "dataset", "shapes")
    own_tests("test_shapes.py", "--deselect", "test_shapes.py::test_contract[shapes-imports]")


def test_a_new_data_set_has_a_protocol_and_a_recipe_and_is_run_by_the_command_that_is_told(here):
    out = harness("new", "dataset", "shapes").out
    (command,) = (line.split() for line in out.splitlines() if line.strip().startswith("harness run"))
    found = harness(*command[1:], "--set", "subcluster.epochs=2", "--case", "disc,ring")
    assert "### shapes, shapes, recipe shapes-recipe: One class is anomalous" in found.out
    assert "subcluster (epochs=2) MAX" in found.out


def test_a_new_data_set_s_parameter_is_set_as_its_file_says(here):
    harness("new", "dataset", "shapes")
    words = "--recipe ./shapes-recipe.toml --plugins ./shapes.py --dataset shapes --method kde --set shapes.noise=0.5"
    run = harness("run", "--protocol", "./shapes-protocol.toml", *words.split(), "--case", "disc")
    assert "shapes.noise=0.5" in run.out
    protocol = Path("shapes-protocol.toml")
    protocol.write_text(protocol.read_text().replace('"shapes-protocol"', '"shapes"'))
    line = harness("plan", "--protocol", "./shapes-protocol.toml", *words.split(), code=2).line
    assert "--set shapes.…: 2 parts of this run are called 'shapes'; rename one" in line


def test_a_new_package_is_found_by_its_entry_point(here):
    out = harness("new", "package", "my-knn").out
    assert "uv pip install -e ./my-knn" in out
    project = tomllib.loads(Path("my-knn/pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["my_knn.py"]
    # As pip leaves it behind.
    info = Path("my-knn/my_knn-0.1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['project']['name']}\nVersion: 0.1.0\n")
    points = "".join(f"{name} = {where}\n" for name, where in project["project"]["entry-points"]["harness"].items())
    (info / "entry_points.txt").write_text(f"[harness]\n{points}")
    env = os.environ | {"PYTHONPATH": str(here / "my-knn")}
    words = ["-m", "harness", "list", "plugins", "--json"]
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True)
    (row,) = (row for row in json.loads(done.stdout) if row["origin"] == "package my-knn")
    assert (row["registers"], row["problem"]) == ("method my-knn", "")
    own_tests("my-knn/test_my_knn.py", "-k", "image or sign")


REFUSED = {
    "a name with capitals": ("method", "Mine", ["'Mine'", "my-method"]),
    "a path": ("method", "./mine.py", ["./mine.py", "my-method"]),
    "a name that is taken": ("method", "subcluster", ["subcluster.py", "choose another"]),
    "a data set's that is taken": ("dataset", "digits", ["digits.py", "choose another"]),
    "a module that is there": ("package", "torch", ["'torch'", "installed already"]),
    "a word for no method": ("method", "pca", ["pca", "takes a method", "choose another"]),
    "a package of that name": ("package", "kmeans", ["kmeans", "takes a method", "choose another"]),
}


@pytest.mark.parametrize(("kind", "name", "parts"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_a_name_is_refused(here, kind, name, parts):
    line = harness("new", kind, name, code=2).line
    assert all(part in line for part in parts)
    assert not list(here.iterdir())


@pytest.mark.parametrize("kind", ["method", "dataset", "package"])
def test_a_file_that_would_stand_in_for_a_package_is_refused(here, kind):
    assert "a module 'torch' is installed already" in harness("new", kind, "torch", code=2).line
    assert not list(here.iterdir())


def test_a_mere_folder_of_that_name_is_no_package(here):
    Path("mine").mkdir()
    harness("new", "method", "mine")


def test_a_name_may_have_the_template_s_own_in_it(here):
    harness("new", "method", "a-my_method")
    assert 'name = "a-my_method"' in Path("a-my_method.py").read_text()


def test_nothing_is_overwritten(here):
    path = plugin("mine")
    before = path.read_text()
    assert "mine.py is there already" in harness("new", "method", "mine", code=2).line
    assert path.read_text() == before
    assert not Path("test_mine.py").exists()
