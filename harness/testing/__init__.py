"""The contract of plugins as checks: for `harness check`, and for the tests of whoever writes a plugin.

from harness import testing

@testing.contract("mine.py")
def test_contract(check):
    check()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.plugins import Entry, Plugins
from harness.settings import check_owners
from harness.testing.findings import Broken, Check, bound

if TYPE_CHECKING:
    from torch import Tensor

    from harness.dataset import Dataset
    from harness.method import Method

__all__ = ["Broken", "Check", "checks", "contract", "dataset", "fitted"]


def contract(target: str | Path, data: Path = Path("data")) -> Callable:
    """Run a test once for each check of a plugin: the test gets it as the argument `check`, and calls it.

    Args:
        target: a plugin's file, or the name of one that is bundled or installed.
        data: the folder of the data sets, where a data set is checked.
    """
    import pytest

    made = [(entry, check) for entry, each in checks(target, data=data).items() for check in each]
    return pytest.mark.parametrize(
        "check", [pytest.param(check, id=f"{entry.name}-{check.name}") for entry, check in made]
    )


def checks(
    target: str | Path,
    plugins: Plugins | None = None,
    data: Path = Path("data"),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[Entry, list[Check]]:
    """The checks of what a plugin registers.

    Args:
        settings: parameters of data sets, by name; everything else is tried with its defaults.

    Raises:
        HarnessError: there is no such plugin, it can't be loaded, or has no such parameter.
    """
    plugins, settings = plugins or Plugins(), settings or {}
    entries = plugins.named(target)
    check_owners(settings, [entry.name for entry in entries if entry.kind == "dataset"])
    return {entry: _checks(plugins, entry, data, settings.get(entry.name, {})) for entry in entries}


def fitted(target: str | Path, images: Tensor, labels: Tensor | None = None, **params: Any) -> Method:
    """A method after `fit` on normal images, for tests of its scores.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64 from 0, or None for withheld ones; a method that uses none is handed none.
        params: the method's parameters; the others have their defaults.
    """
    from harness.fitting import fit_another, switch_to_scoring, task_of, unfitted
    from harness.method import Images, Run
    from harness.seeding import seeded
    from harness.testing.toy import RECIPE

    cls = _only("method", target)
    params = cls.Params(**params)
    method = unfitted(cls, params)
    labels = labels if cls.uses_labels else None
    run = Run("cpu", 0, RECIPE, method.params)
    run.fitted = lambda name, given: fit_another(Plugins().get("method", name), given, run)[0]
    with seeded(0):
        method.build(task_of(images, None if labels is None else len(labels.unique())), run)
        method.fit(Images(images, labels), run)
    switch_to_scoring(method, run, params)
    return method


def dataset(target: str | Path, data: Path = Path("data"), **params: Any) -> Dataset:
    """A data set, for tests of what it loads."""
    cls = _only("dataset", target)
    return cls(data, cls.Params(**params))


def _only(kind: str, target: str | Path) -> type:
    plugins = Plugins()
    names = [entry.name for entry in plugins.named(target) if entry.kind == kind]
    if len(names) != 1:
        raise HarnessError(f"{target}: registers {len(names)} plugins of the kind {kind}; one is wanted here")
    return plugins.get(kind, names[0])


def _checks(plugins: Plugins, entry: Entry, data: Path, params: Mapping[str, Any]) -> list[Check]:
    from harness.testing import datasets, functions, methods
    from harness.testing.trial import Trial

    if entry.kind in functions.CHECKS:
        return bound(functions.CHECKS[entry.kind], functions.FunctionTrial(plugins, entry))
    if entry.kind == "reporter":
        return bound((methods.imports,), functions.FunctionTrial(plugins, entry))
    if entry.kind == "dataset":
        return bound(datasets.CHECKS, datasets.DataTrial(plugins, entry, data, params))
    return bound(methods.CHECKS, Trial(plugins, entry))
