"""harness: compare detectors of semantic anomalies in images.

This is the whole public API that a plugin imports. Names are looked up when they are first used, so that
`harness --help` and `harness list` stay instant: only what touches tensors ever imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from harness import kit
    from harness.dataset import Dataset
    from harness.errors import DataMissing, Diverged, HarnessError
    from harness.hookspecs import hookimpl
    from harness.method import Images, Method, Run, Task
    from harness.recipe import Recipe
    from harness.reporter import Reporter
    from harness.spec import Params

_HOME = {
    "DataMissing": "errors",
    "Dataset": "dataset",
    "Diverged": "errors",
    "HarnessError": "errors",
    "Images": "method",
    "Method": "method",
    "Params": "spec",
    "Recipe": "recipe",
    "Reporter": "reporter",
    "Run": "method",
    "Task": "method",
    "hookimpl": "hookspecs",
}
__all__ = [
    "DataMissing",
    "Dataset",
    "Diverged",
    "HarnessError",
    "Images",
    "Method",
    "Params",
    "Recipe",
    "Reporter",
    "Run",
    "Task",
    "hookimpl",
    "kit",
]


def __getattr__(name: str) -> Any:
    if name == "kit":
        return import_module("harness.kit")
    if name in _HOME:
        return getattr(import_module(f"harness.{_HOME[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
