"""Recipes: how a network is trained on one data set, as declared data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from harness import kit, paths
from harness.errors import HarnessError, suggest
from harness.spec import Spec, check, read_toml

Count = Annotated[int, Field(le=2**31 - 1)]
"""No more than PyTorch can count."""
COMMENTARY = {"stated", "note"}
"""The fields of a recipe that training does not depend on."""


class Recipe(Spec):
    """A training set-up. `stated` names the fields that the paper prints; the others are documented choices."""

    network: str = Field(description="see: harness list networks")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="sgd or adam")
    lr: float = Field(gt=0, description="the learning rate of the first step")
    momentum: float = Field(0.9, ge=0, lt=1, description="adam: its first beta")
    nesterov: bool = Field(True, description="sgd: with Nesterov's momentum")
    weight_decay: float = Field(5e-4, ge=0, description="as a penalty in the gradient")
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="cosine, step or constant")
    lr_end: float = Field(1e-6, ge=0, description="cosine: the learning rate of the last step")
    step_epochs: Count = Field(10, ge=1, description="step: multiply the learning rate every so many epochs")
    step_factor: float = Field(0.8, gt=0, le=1, description="step: by this factor")
    epochs: Count = Field(ge=1, description="how often training goes through the images")
    batch: Count = Field(ge=2, description="training images per step, before a method makes several views of each")
    pad: Count = Field(0, ge=0, description="random crop after padding by so many pixels")
    flip: bool = Field(False, description="random horizontal flip")
    crop: float = Field(1.0, gt=0, le=1, description="side of the (random, in scoring central) crop, as a share")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="float32 or bfloat16, in training")
    stated: tuple[str, ...] = ()
    note: str = ""

    @field_validator("network")
    @classmethod
    def _can_be_built(cls, network: str) -> str:
        kit.depth_and_width(network)
        return network

    def values_that_train(self) -> dict[str, Any]:
        """Every value that training depends on, without the commentary."""
        return self.model_dump(exclude=COMMENTARY)

    def __str__(self) -> str:
        return (
            f"{self.network}, {self.optimizer}, learning rate {self.lr:g}, {self.schedule}, {self.epochs} epochs, "
            f"batch {self.batch}, {self.precision}"
        )


def bundled_recipes() -> dict[str, list[str]]:
    """The names of the bundled recipes, by the data set that they are declared for; its first is its default."""
    return {dataset: list(recipes) for dataset, recipes in read_toml(paths.PROTOCOLS / "recipes.toml").items()}


def exceptions(dataset: str, name: str) -> dict[str, dict[str, Any]]:
    """The values that a bundled recipe has for some methods alone, by method."""
    methods = _inherit(read_toml(paths.PROTOCOLS / "recipes.toml"), f"{dataset}.{name}").get("methods", {})
    return {
        method: {key: value for key, value in values.items() if key not in COMMENTARY}
        for method, values in methods.items()
    }


def read_recipe(dataset: str, name: str | None, method: str, changes: dict[str, Any]) -> tuple[str, Recipe]:
    """A recipe's name and values: a bundled one of this data set (None: its first), or a TOML file of one recipe.

    Values under `methods.<method>` in the recipe are for that method alone; `changes` come last.

    Raises:
        HarnessError: there is no such recipe, a file has the name of a bundled one, or a key or value is wrong.
    """
    if name is not None and name.endswith(".toml"):
        values, where, name = read_toml(Path(name)), name, Path(name).stem
        if name in bundled_recipes().get(dataset, ()):
            raise HarnessError(
                f"{where}: {dataset} has a recipe {name!r} already, whose numbers these would be taken "
                "for; rename the file: its name is the recipe's"
            )
    else:
        path = paths.PROTOCOLS / "recipes.toml"
        declared = read_toml(path)
        if dataset not in declared:
            raise HarnessError(
                f"no recipe is declared for {dataset!r}; give --recipe the path of a .toml file with one"
            )
        name = name or next(iter(declared[dataset]))
        if name not in declared[dataset]:
            known = suggest(name, declared[dataset])
            raise HarnessError(f"{dataset} has no recipe {name!r}; {known}; or give the path of a .toml file")
        where, values = f"{path}: {dataset}.{name}", _inherit(declared, f"{dataset}.{name}")
    own = values.pop("methods", {})
    own = own.get(method, {}) if isinstance(own, dict) else own
    if not isinstance(own, dict):
        raise HarnessError(f"{where}: methods: write a table of values for each method, as in [methods.{method}]")
    recipe = check(Recipe, values, where)
    for some, origin in ((own, f"{where}: methods.{method}"), (changes, "--set")):
        recipe = check(Recipe, _changed(recipe.model_dump(), some), origin) if some else recipe
    return name, recipe


def recipe_of_fit(values: Mapping[str, Any], within: str = "") -> Recipe:
    """The recipe of a fit, from the values in its identity; or of a method `within` it, which may have some of its own
    under `methods`."""
    own = {key: value for key, value in values.items() if key != "methods"}
    return Recipe(**own | values.get("methods", {}).get(within, {}))


def _inherit(declared: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    dataset, _, name = key.partition(".")
    values = dict(declared[dataset][name])
    if "like" not in values:
        return values
    parent = _inherit(declared, values.pop("like"))
    methods = parent.get("methods", {}) | values.get("methods", {})
    for method in methods:
        methods[method] = parent.get("methods", {}).get(method, {}) | values.get("methods", {}).get(method, {})
    return _changed(parent, values) | {"methods": methods}


def _changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """With changes, of which the paper states none."""
    stated = [field for field in values.get("stated", ()) if field not in changes]
    return values | {"stated": stated} | changes
