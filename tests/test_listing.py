"""What `harness list` and `harness show` tell, and what the shell completes from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from tiny import harness, plugin

from harness.cli import main
from harness.kit import NETWORKS
from harness.metrics import Metrics
from harness.recipe import Recipe, read_recipe


def test_the_first_recipe_of_a_data_set_is_the_default_one():
    rows = json.loads(harness("list", "recipes", "--json").out)
    defaults = {row["name"] for row in rows if row["default"]}
    for dataset in ("digits", "mnist", "imagenet"):
        name, recipe = read_recipe(dataset, None, "", {})
        assert f"{dataset}: {name}" in defaults
        (row,) = (row for row in rows if row["name"] == f"{dataset}: {name}")
        assert f"{recipe.network}, " in row["values"]
        assert f"{recipe.epochs} epochs" in row["values"]


def test_a_recipe_is_listed_with_what_it_has_otherwise_for_some_methods():
    rows = {row["name"]: row["exceptions"] for row in json.loads(harness("list", "recipes", "--json").out)}
    assert rows["mnist: paper"] == ""
    for dataset in ("mnist", "cifar10"):
        _, plain = read_recipe(dataset, "fast", "", {})
        for method in ("rotnet", "ssl"):
            _, own = read_recipe(dataset, "fast", method, {})
            assert (own.epochs, own.batch) != (plain.epochs, plain.batch)
            told = next(told for told in rows[f"{dataset}: fast"].split("; ") if method in told.split(": ")[0])
            for key, value in own.values_that_train().items():
                assert (f"{key} {value}" in told) == (value != getattr(plain, key))
    assert rows["cifar10: fast"].count(f"ssl, rotnet: epochs {own.epochs}") == 1
    assert "note" not in rows["cifar10: paper"]


@pytest.mark.parametrize(("what", "names"), [("networks", NETWORKS), ("metrics", Metrics.model_fields)])
def test_what_no_plugin_brings_is_listed_with_a_line_on_each(what, names):
    rows = {row["name"]: row for row in json.loads(harness("list", what, "--json").out)}
    assert set(names) <= set(rows)
    assert all(rows[name]["summary"] for name in names)
    assert "\n    \n" not in harness("list", what).out


def test_a_plugin_shows_its_scores_and_parameters(here):
    body = (
        "scoring = ('k',)\n    class Params(harness.Params):\n        k: int = 5\n        loud: bool = False\n"
        "        size: int | None = None\n        sides: tuple = (1, 'a')\n        more: dict = {'on': True}\n"
    )
    path = plugin(body=body, summary="Short.\n\n    And long.")
    for words in ([path], ["mean-image", "--plugins", path]):
        out = harness("show", *words).out
        for part in (
            f"method mean-image ({path})\n    Short.\n\n    And long.\n",
            "scores: L2;",
            "--set mean-image.k=5\n        without training anew\n",
            "--set mean-image.loud=false\n",
            "--set mean-image.size=\n",
            "--set 'mean-image.sides=[1, \"a\"]'\n",
            "--set 'mean-image.more={on = true}'\n",
        ):
            assert part in out, out
    default = ("--set", 'mean-image.sides=[1, "a"]', "--set", "mean-image.more={on = true}")
    words = ("--protocol", "test2", "--case", "1", "--method", path)
    harness("run", *words)
    assert harness("plan", *words, *default).plan[0]["fit"] == harness("plan", *words).plan[0]["fit"]
    assert "every third" in harness("show", "digits").out
    assert "--set folder.path=" in harness("show", "folder").out
    assert "Energy" in harness("show", "Energy").out
    assert 'form = "growing"' in harness("show", "test2").out
    assert harness("show", "two-conv").out.startswith("network two-conv\n    ")
    assert harness("show", "wrn-16-4").out.startswith("network wrn-16-4\n    a wide ResNet")
    assert harness("show", "auroc").out.startswith("metric auroc\n    ")
    assert "did you mean 'rotnet'?" in harness("show", "rotnett", code=2).line


def test_the_values_of_a_recipe_are_shown_with_their_defaults():
    out = harness("show", "recipe").out
    values = dict(re.findall(r"--set recipe\.(\w+)=(.*)", out))
    whole = Recipe(network="two-conv", lr=0.1, epochs=1, batch=2).values_that_train()
    needed = {"network": "", "lr": "", "epochs": "", "batch": ""}
    assert values == {key: str(value).lower() for key, value in whole.items()} | needed
    assert len(out.splitlines()) == 1 + 2 * len(values)  # a line on each


def completed(*words: str) -> list[tuple[str, str]]:
    """What the shell is told for the last word of a command line, each as its kind and text."""
    *before, last = words
    found = ShellComplete(main, {}, "harness", "_HARNESS_COMPLETE").get_completions(before, last)
    return [(one.type, one.value) for one in found]


@pytest.mark.parametrize(
    ("words", "kind", "found"),
    [
        (("run", "--protocol", "test"), "plain", [f"test{k}" for k in range(1, 6)]),
        (("run", "--method", "subcluster,rot"), "plain", ["subcluster,rotnet"]),
        (("run", "--plugins", "mean-image.py", "--method", "mean"), "plain", ["mean-image"]),
        (("run", "--dataset", "mn"), "plain", ["mnist"]),
        (("run", "--dataset", "digits", "--recipe", ""), "plain", ["small", "fast", "paper"]),
        (("results", "--recipe", "sm"), "plain", ["small"]),
        (("data", "verify", "cifar10"), "plain", ["cifar10", "cifar100"]),
        (("show", "roc"), "file", ["roc"]),
        (("run", "--method", "./mean"), "file", ["./mean"]),
        (("run", "--plugins", "nowhere.py", "--method", "rot"), "file", ["rot"]),
    ],
)
def test_the_shell_completes_names_in_lists_and_else_paths(here, words, kind, found):
    plugin()
    assert completed(*words) == [(kind, one) for one in found]
    assert not Path("results").exists()


def test_to_complete_a_name_imports_nothing_heavy():
    env = os.environ | {
        "_HARNESS_COMPLETE": "bash_complete",
        "COMP_WORDS": "harness run --method rot",
        "COMP_CWORD": "3",
    }
    code = (
        "import sys; from harness.cli import main\ntry: main(prog_name='harness')\n"
        "finally: print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "plain,rotnet\nset()\n"
