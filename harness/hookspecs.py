"""The hooks that a plugin may implement. Mark each implementation with `@harness.hookimpl`."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

hookspec = pluggy.HookspecMarker("harness")
hookimpl = pluggy.HookimplMarker("harness")


@hookspec
def register_methods(register: Callable) -> None:
    """Call `register(MyMethod)` for each `harness.Method` subclass that the plugin brings."""


@hookspec
def register_datasets(register: Callable) -> None:
    """Call `register(MyDataset)` for each `harness.Dataset` subclass that the plugin brings."""
