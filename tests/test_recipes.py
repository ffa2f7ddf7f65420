"""Recipes: the bundled ones are sound, what they inherit and what --set changes, and what is refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from tiny import MEAN, case, harness, named, plugin, write_toml

from harness import Recipe
from harness.kit.networks import network
from harness.paths import PROTOCOLS
from harness.recipe import read_recipe
from harness.records import Store
from harness.settings import parse_settings

DECLARED = tomllib.loads((PROTOCOLS / "recipes.toml").read_text(encoding="utf-8"))
BUNDLED = [(dataset, name) for dataset, recipes in DECLARED.items() for name in recipes]
SIDES = {"digits": 8, "mnist": 28, "cifar10": 32, "cifar100": 32}
TINY = {"network": "two-conv", "lr": 0.01, "epochs": 3, "batch": 32}


def recipe(dataset: str, name: str | None, method: str = "any", **changes) -> Recipe:
    return read_recipe(dataset, name, method, changes)[1]


@pytest.mark.parametrize(("dataset", "name"), BUNDLED)
def test_bundled_recipes_are_sound(dataset, name):
    methods = DECLARED[dataset][name].get("methods", {})
    for method in ("any", *methods):
        found = recipe(dataset, name, method)
        assert set(found.stated) <= set(Recipe.model_fields)
        side = SIDES.get(dataset, 224)
        with torch.device("meta"):  # the network is declared, not allocated
            built = network(found.network, 3, side, 2, mean=(0.5,) * 3, std=(0.2,) * 3)
        assert sum(parameter.numel() for parameter in built.parameters()) > 1000


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10"])
def test_paper_and_fast_are_there_for_every_data_set_of_test2(dataset):
    paper, fast = recipe(dataset, "paper"), recipe(dataset, "fast")
    assert fast.epochs < paper.epochs


DEFAULTS = {"nesterov": True, "weight_decay": 5e-4, "schedule": "cosine", "lr_end": 1e-6, "step_epochs": 10}
DEFAULTS |= {"step_factor": 0.8, "pad": 0, "flip": False, "crop": 1, "precision": "bfloat16"}
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "epochs": 200}
ADAM = {"optimizer": "adam", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0, "epochs": 20, "batch": 250}
STEPS = {"schedule": "step", "step_epochs": 10, "step_factor": 0.8}
BATCH = {"batch": 250}  # in all, or on each of two GPUs
CROPS = BATCH | {"crop": 224 / 256}  # the 256 is ours


@pytest.mark.parametrize(
    ("dataset", "name", "printed", "chosen"),
    [
        ("cifar10", "paper", SGD | {"network": "wrn-28-10", "schedule": "cosine"}, BATCH | {"pad": 4, "flip": True}),
        ("imagenet", "paper", SGD | STEPS | {"network": "resnet18-cbam", "flip": True}, CROPS),
        ("mnist", "paper", {"network": "two-conv"}, ADAM),
        ("mnist", "residual", {}, SGD | BATCH | {"network": "wrn-10-1", "epochs": 5}),
    ],
)
def test_a_recipe_does_what_the_paper_prints_and_the_rest_is_our_choice(dataset, name, printed, chosen):
    found = recipe(dataset, name)
    assert found.values_that_train() == DEFAULTS | chosen | printed
    assert found.flip == (dataset != "mnist")  # mirrored digits are other signs
    assert set(found.stated) == printed.keys()


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("name", ["small", "fast", "paper"])
def test_no_border_tells_a_method_what_it_is_to_find_out(dataset, name):
    methods = ("subcluster", "rotnet", "jigsaw", "isif", "ssl")
    padded = {method for method in methods if recipe(dataset, name, method).pad}
    published = {"ssl"} if (dataset, name) == ("cifar10", "fast") else set()
    assert padded == {"subcluster", "rotnet"} | published


def test_a_recipe_like_another_has_its_values_but_for_its_own():
    assert recipe("digits", "paper").values_that_train() == recipe("mnist", "paper").values_that_train()
    small, fast = recipe("digits", "small"), recipe("digits", "fast")
    assert fast.values_that_train() == small.values_that_train() | {"epochs": fast.epochs}


def test_the_first_recipe_is_the_default():
    name, found = read_recipe("digits", None, "any", {})
    assert name == next(iter(DECLARED["digits"]))
    assert found == recipe("digits", name)


def test_the_record_keeps_every_value_that_was_used(here):
    method = plugin(body="class Params(harness.Params):\n        power: float = 2.0\n")
    sets = ("--set", "recipe.lr=0.5", "--set", "mean-image.epochs=7", "--set", "mean-image.power=3")
    harness("run", "--protocol", "test2", "--case", "1", "--method", method, *sets)
    (path,) = Path("results/records").rglob("*.json")
    record = json.loads(path.read_text())
    default = recipe("digits", None)
    assert record["recipe"] == "small"
    assert record["recipe_values"] == default.values_that_train() | {"lr": 0.5, "epochs": 7}
    assert record["params"] == {"power": 3.0}
    assert record["settings"] == {"recipe": {"lr": 0.5}, "mean-image": {"epochs": 7, "power": 3}}


def test_a_recipe_of_one_s_own_is_a_file(here):
    path = write_toml("mine.toml", TINY)
    harness("run", "--protocol", "test2", "--case", "1", "--method", plugin(), "--recipe", path)
    (record,) = (json.loads(path.read_text()) for path in Path("results/records").rglob("*.json"))
    assert record["recipe"] == "mine"
    assert record["recipe_values"] == Recipe(**TINY).values_that_train()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"epoch": 3}, ["epoch", "unknown key", "did you mean 'epochs'?"]),
        ({"lr": 0}, ["lr", "greater than 0"]),
        ({"lr": "fast"}, ["lr", "number"]),
        ({"batch": 1}, ["batch", "greater than or equal to 2"]),
        ({"schedule": "steps"}, ["schedule", "'cosine', 'step' or 'constant'"]),
        ({"stated": 5}, ["stated"]),
        ({"methods": 5}, ["methods"]),
        ({"methods": {"mean-image": 5}}, ["methods"]),
        ({"methods": {"mean-image": {"network": "wrn-4-1"}}}, ["methods.mean-image: network: 'wrn-4-1': the depth"]),
        ({"methods": {"mean-image": {"epoch": 5}}}, ["epoch", "did you mean 'epochs'?"]),
        ({"lr": None}, ["lr", "required"]),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(here, changes, parts):
    values = {key: value for key, value in (TINY | changes).items() if value is not None}
    path = write_toml("mine.toml", values)
    line = harness("plan", "--protocol", "test2", "--method", plugin(), "--recipe", path, code=2).line
    for part in ("mine.toml", *parts):
        assert part in line


def test_a_recipe_of_one_s_own_is_not_taken_for_a_bundled_one(here):
    path = write_toml("small.toml", TINY)
    words = ("plan", "--protocol", "test2", "--method", plugin(), "--recipe", path)
    assert "digits has a recipe 'small' already, whose numbers" in harness(*words, code=2).line
    Path("residual.toml").write_text(path.read_text())  # which digits do not have
    harness(*words[:-1], "residual.toml")


def test_values_for_a_method_that_is_not_there_are_pointed_out(here):
    words = ("plan", "--protocol", "test2", "--method", plugin(), "--recipe")
    path = write_toml("mine.toml", TINY | {"methods": {"mean-imag": {"epochs": 5}, "rotnet": {"epochs": 5}}})
    assert "methods.mean-imag: no such method here; did you mean 'mean-image'?" in harness(*words, path).err
    assert not harness(*words, write_toml("mine.toml", TINY | {"methods": {"mean-image": {"epochs": 5}}})).err


def test_so_are_those_of_a_protocol(here):
    cases = {name: case(["0"], "8") | {"params": {"mean-imag": {"power": 3}}} for name in ("a", "b")}
    said = harness("plan", "--protocol", named(cases), "--method", plugin()).err
    assert said.count("mine.toml: params.mean-imag: no such method here; did you mean 'mean-image'?") == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--recipe", "papr"], ["digits", "did you mean 'paper'?", "fast"]),
        (["--recipe", "nowhere.toml"], ["nowhere.toml", "no such file"]),
        (["--set", "recipe.epoch=3"], ["epoch", "did you mean 'epochs'?"]),
        (["--set", "recipe.epochs=many"], ["--set", "epochs", "integer"]),
        (["--set", "recipe.epochs=0"], ["--set", "epochs", "greater than or equal to 1"]),
        (["--set", "mean-image.epoch=3"], ["mean-image.epoch", "did you mean 'epochs'?"]),
        (["--set", "mean-image.inner.lr=3"], ["write all of it: --set 'mean-image.inner={…}'"]),
        (["--set", "recipe.lr=nan"], ["--set", "lr"]),
        (["--set", "recipe.network=two-cnv"], ["two-cnv", "two-conv"]),
        (["--set", "recipe.network=wrn-27-1"], ["--set: network: 'wrn-27-1': the depth must be 6n + 4"]),
        (["--set", "recipe.network=wrn-10-0"], ["--set: network: 'wrn-10-0'", "the width 1 or more"]),
        (["--set", "recipe.network=wrn-100000-1"], ["'wrn-100000-1'", "wrn-DEPTH-WIDTH"]),
        (["--set", "recipe.batch=99999999999999999999999"], ["--set: batch", "less than or equal to"]),
        (["--set", "recipe.epochs=99999999999999999999999"], ["--set: epochs", "less than or equal to"]),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(here, words, parts):
    line = harness("run", "--protocol", "test2", "--method", plugin(), *words, code=2).line
    for part in parts:
        assert part in line
    assert not list(Path("results").rglob("*.json"))


def test_true_is_a_word_or_a_truth_value_as_the_parameter_has_it(here):
    params = "class Params(harness.Params):\n        word: str = 'max'\n        yes: bool = False\n"
    sets = ("--set", "mean-image.word=true", "--set", "mean-image.yes=true", "--set", "recipe.flip=true")
    harness("run", "--protocol", "test2", "--case", "1", "--method", plugin(body=params), *sets)
    (path,) = Path("results/records").rglob("*.json")
    record = json.loads(path.read_text())
    assert record["params"] == {"word": "true", "yes": True}
    assert record["recipe_values"]["flip"] is True
    words = ["a.word=2024.10", "a.path=0x10", "a.year=1e3", "a.count=1_2", "a.lr=0.5", "a.n=10"]
    assert parse_settings(words) == {
        "a": {"word": "2024.10", "path": "0x10", "year": "1e3", "count": "1_2", "lr": 0.5, "n": 10}
    }
    line = harness("plan", "--protocol", "test2", "--method", plugin(), "--set", "recipe.flip=maybe", code=2).line
    assert "flip" in line


def test_a_setting_is_one_however_it_is_typed(here):
    """Neither another record, nor out of reach of a filter."""
    words = ("--protocol", "test2", "--case", "2", "--method", plugin("rate"), "--set")
    harness("run", *words, "recipe.lr=.1", "--set", "rate.epochs=1_0", "--set", "recipe.flip=false")
    again = ("recipe.lr=1e-1", "--set", "rate.epochs=10.0", "--set", "recipe.flip=False")
    assert harness("plan", *words, *again).statuses == ["done"]
    assert len(harness("results", "--set", "recipe.lr=0.100").out.splitlines()) == 3
    (record,) = Store(Path("results")).records()
    assert record.settings == {"rate": {"epochs": 10}, "recipe": {"lr": 0.1, "flip": "false"}}
    harness("run", *words, "test2.order=1,2, 3,4,0", "--set", "recipe.lr=1.0")
    assert harness("plan", *words, 'test2.order=["1", "2", "3", "4", "0"]', "--set", "recipe.lr=1").statuses == ["done"]
    assert harness("plan", *words, 'test2.notes=[{status="inferred", text="no name"}]').statuses == ["to run"]


def test_what_is_set_for_all_methods_is_recorded_as_that_whatever_one_of_them_has(here):
    both = ("--method", f"{plugin('one')},{plugin('other')}", "--set", "recipe.lr=.05", "--set", "one.lr=.1")
    harness("run", "--protocol", "test2", "--case", "1", *both)
    one, other = Store(Path("results")).records()
    assert one.settings == {"recipe": {"lr": 0.05}, "one": {"lr": 0.1}}
    assert other.settings == {"recipe": {"lr": 0.05}}
    assert (one.recipe_values["lr"], other.recipe_values["lr"]) == (0.1, 0.05)


INNER = """class Params(harness.Params):
        size: int = 1

    def build(self, task, run):
        self.recipe, self.seed = run.recipe, run.seed
"""
OUTER = """class Params(harness.Params):
        on: str = "inner"
"""
NOTED = """other = run.fitted(self.params.on, train.images)
        run.note(epochs=run.recipe.epochs, inner_epochs=other.recipe.epochs, inner_seed=other.seed)
        run.note(lr=run.recipe.lr, inner_lr=other.recipe.lr)
        """


def test_a_method_within_another_one_has_its_seed_and_what_the_recipe_has_for_it(here):
    inner, outer = plugin("inner", body=INNER), plugin("outer", NOTED + MEAN, body=OUTER)
    path = write_toml("mine.toml", TINY | {"methods": {"inner": {"epochs": 5}, "outer": {"lr": 0.5}}})
    words = ("--protocol", "test2", "--case", "1", "--seed", "3", "--method", outer, "--plugins", inner)
    words += ("--recipe", path)
    harness("run", *words)
    (record,) = Store(Path("results")).records()
    assert record.diagnostics == {"epochs": 3, "inner_epochs": 5, "inner_seed": 3, "lr": 0.5, "inner_lr": 0.01}
    alone = Recipe(**TINY | {"lr": 0.5}).values_that_train()
    assert record.recipe_values == alone | {"methods": {"inner": {"epochs": 5, "lr": 0.01}}}
    assert harness("plan", *words).statuses == ["done"]

    harness("run", *words, "--set", "outer.epochs=2")  # what is typed counts for both
    (typed,) = (one for one in Store(Path("results")).records() if one.settings)
    assert (typed.diagnostics["epochs"], typed.diagnostics["inner_epochs"]) == (2, 2)

    write_toml("mine.toml", TINY | {"methods": {"inner": {"epochs": 6}, "outer": {"lr": 0.5}}})
    assert harness("plan", *words).statuses == ["stale: recipe changed"]
    write_toml("mine.toml", TINY | {"methods": {"inner": {"network": "two-cnv"}}})
    assert "did you mean 'two-conv'?" in harness("plan", *words, code=2).line
