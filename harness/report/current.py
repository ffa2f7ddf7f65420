"""Whether records are of the recipes and the code that have their names here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import HarnessError
from harness.plan import FITTED
from harness.plugins import Plugins
from harness.recipe import Recipe, bundled_recipes, read_recipe
from harness.records import Record
from harness.report.names import declared_as

MEND = "run it again, or put it away with harness forget"


def not_current(record: Record, plugins: Plugins) -> Iterator[str]:
    """What a record calls by the name of a bundled recipe, or of a method that is at hand, and is another one.

    Whoever reads `recipe small` under a table looks that recipe up here. A recipe of a file of its own, and a method
    that is not at hand, can't be looked up: their values and digests stand under the table.
    """
    dataset = declared_as(record)
    if record.recipe in bundled_recipes().get(dataset, ()):
        own = {key: value for key, value in record.recipe_values.items() if key != "methods"}
        yield from _other_values(own, dataset, record)
        for method, values in record.recipe_values.get("methods", {}).items():
            yield from _other_values(values, dataset, record, method)
    code = {part.removeprefix(FITTED): own for part, own in record.digests.items() if part.startswith(FITTED)}
    code[record.method] = record.digests["method"]
    for name in sorted(code.keys() & set(plugins.names("method"))):
        source = plugins.entry("method", name).source
        if source.digest != code[name]:
            yield f"made with other code of {name} than {source.path}; {MEND}"


def _other_values(values: Mapping[str, Any], dataset: str, record: Record, within: str = "") -> Iterator[str]:
    """What differs from a bundled recipe's values for a method: that of the record, or one `within` it."""
    set_for = record.settings.get("recipe", {}) | record.settings.get(record.method, {})
    changes = {key: value for key, value in set_for.items() if key in Recipe.model_fields and key in values}
    try:
        here = read_recipe(dataset, record.recipe, within or record.method, changes)[1].values_that_train()
    except HarnessError as error:
        yield f"recipe_values: {error}"
        return
    for key, value in values.items():
        if here.get(key) != value:
            told = f"recipe {record.recipe}, {within}" if within else f"recipe {record.recipe}"
            yield f"recipe_values: {told}: {key} is {value} in the record and {here.get(key)} here; {MEND}"
