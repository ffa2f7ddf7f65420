"""What the numbers of a fit depend on beside its settings: the code that makes it, and the images that it sees.

Each part has a digest. A record whose digests are not those of today is stale, and two records that differ in one share
no column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import kit
from harness.dataset import Dataset
from harness.errors import HarnessError
from harness.plan import FITTED
from harness.plugins import NO_METHOD, Plugins
from harness.spec import digest

ENGINE = 1
"""The version of what trains and scores: counted up when a change to `harness.kit`, `harness.fitting` or
`harness.scoring` changes numbers by more than rounding, or than other random draws do, as another seed would."""


def dataset_digest(dataset: Dataset) -> str:
    """What tells the images of a data set with its parameters from any others."""
    return digest([dataset.revision(), dataset.params.model_dump(mode="json")])


def source_digests(
    plugins: Plugins, method: str, recipe: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[str, str]:
    """Of the code that makes a fit: the method's file, those of the methods that its parameters name, the engine, and
    the files of the recipe's networks that plugins bring. Which parts a fit depends on says `harness.plan.OF_A_FIT`."""
    digests = {"method": plugins.entry("method", method).source.digest, "engine": str(ENGINE)}
    networks = [plugins.entry("network", name).source.digest for name in plugged_networks(recipe)]
    if networks:
        digests["network"] = networks[0] if len(networks) == 1 else digest(networks)
    for name in named_methods(plugins, params):
        digests[FITTED + name] = plugins.entry("method", name).source.digest
    return digests


def named_methods(plugins: Plugins, params: Mapping[str, Any]) -> list[str]:
    """The methods that parameters name, as in `isif` or `kmeans:10:isif`, and those that the defaults of these name."""
    found: list[str] = []
    left = [params]
    while left:
        texts = (value for value in left.pop().values() if isinstance(value, str))
        words = {word for text in texts for word in text.split(":")} - {*found, *NO_METHOD}
        for name in sorted(words and words & set(plugins.names("method"))):
            found.append(name)
            left.append(plugins.get("method", name).Params().model_dump(mode="json"))
    return found


def require_named(plugins: Plugins, name: str, params: Mapping[str, Any]) -> None:
    """See that a method which another one wants fitted is named by its parameters: else no record would turn stale when
    its code changes.

    Raises:
        HarnessError: it is not.
    """
    if name not in named_methods(plugins, params):
        raise HarnessError(
            f"run.fitted({name!r}): no parameter names that method; declare one, as in `on: str = {name!r}`, and pass "
            f"that, so that a change of its code makes records stale"
        )


def plugged_networks(recipe: Mapping[str, Any]) -> list[str]:
    """The networks of a fit's recipe, and of the methods within it, that are no networks of `harness.kit`."""
    every = [recipe, *recipe.get("methods", {}).values()]
    return [name for name in dict.fromkeys(one["network"] for one in every if "network" in one) if not is_bundled(name)]


def is_bundled(network: str) -> bool:
    """Whether a network is one of `harness.kit`, and so part of the engine."""
    return generic(network) in kit.NETWORKS


def generic(network: str) -> str:
    """What `harness list networks` calls a network."""
    return "wrn-DEPTH-WIDTH" if kit.WIDE_RESNET.fullmatch(network) else network
