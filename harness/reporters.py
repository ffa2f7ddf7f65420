"""Several reporters as one: what a person sees, and those of plugins that were asked for."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import told
from harness.plugins import Plugins, aside
from harness.progress import Lines, Reporter

EVENTS = tuple(name for name, _ in inspect.getmembers(Reporter, inspect.isfunction) if not name.startswith("_"))


class Several(Reporter):
    """Tells the first one, and then the others. One of these that raises is left out from then on, and a line says so:
    it may not stop a run."""

    def __init__(self, first: Lines, others: Sequence[Reporter]):
        self.first, self.others = first, list(others)

    def tell(self, event: str, *what: Any) -> None:
        getattr(self.first, event)(*what)
        for other in list(self.others):
            try:
                with aside():
                    getattr(other, event)(*what)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.others.remove(other)
                self.first.say(f"reporter {other.name} is left out: {event}() raised {told(error)}")


def _event(name: str) -> Any:
    def tell(self: Several, *what: Any) -> None:
        self.tell(name, *what)

    return tell


for _name in EVENTS:
    setattr(Several, _name, _event(_name))


def with_plugins(first: Lines, names: Sequence[str], plugins: Plugins, results: Path) -> Reporter:
    """The reporter itself, or together with those of plugins.

    Raises:
        HarnessError: there is no such reporter, or making it fails.
    """
    made = []
    for name in names:
        with plugins.blame("reporter", name, "__init__"):
            made.append(plugins.get("reporter", name)(results))
    return Several(first, made) if made else first
