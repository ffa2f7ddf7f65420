"""Who is told of what a run does: `harness.progress`, for a person, and reporters of plugins."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import told
from harness.plugins import Plugins, aside

if TYPE_CHECKING:
    from harness.plan import Evaluation, Fit, Plan
    from harness.records import Record


class Reporter:
    """Told of everything that happens, in the process of the command. This one keeps silent; subclasses show it."""

    name: ClassVar[str]
    """After --reporter."""

    def __init__(self, results: Path | None = None):
        """Of a plugin: made once for a run, with its results folder."""

    def begin(self, plan: Plan) -> None:
        """The plan is made; its jobs are carried out next."""

    def fit_started(self, fit: Fit) -> None:
        """A fit is about to be trained."""

    def fit_reused(self, fit: Fit) -> None:
        """A finished fit was found, and is scored again without training."""

    def epoch(self, fit: Fit, epoch: int, epochs: int, loss: float) -> None:
        """A running fit has finished an epoch, from 1 on, or goes on after it; its loss is the mean over its images."""

    def scoring(self, fit: Fit) -> None:
        """A running fit is trained; its test images are scored next."""

    def evaluated(self, evaluation: Evaluation, record: Record) -> None:
        """An evaluation is recorded."""

    def failed(self, evaluation: Evaluation, reason: str) -> None:
        """An evaluation is recorded as failed, or without something beside the method's own scores that failed."""

    def fit_finished(self, fit: Fit) -> None:
        """A fit and all its evaluations are over."""

    def waiting(self, fits: Sequence[Fit]) -> None:
        """Other runs on the results folder are at all the fits that are left; told again and again while it lasts."""

    def end(self) -> None:
        """Nothing more will come."""


def tell_of(record: Record, evaluation: Evaluation, reporter: Reporter) -> None:
    """Tell a reporter of an evaluation that was carried out."""
    if record.status != "failed":
        reporter.evaluated(evaluation, record)
    if record.reason:
        reporter.failed(evaluation, record.reason)


EVENTS = tuple(name for name, _ in inspect.getmembers(Reporter, inspect.isfunction) if not name.startswith("_"))


class Several(Reporter):
    """Tells the display, and then the others. One that raises is left out from then on, and a line says so: it may not
    stop a run."""

    def __init__(self, display: Reporter, others: Sequence[Reporter]):
        self.display, self.reporters = display, [display, *others]

    def tell(self, event: str, *what: Any) -> None:
        for one in list(self.reporters):
            try:
                with aside():
                    getattr(one, event)(*what)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.reporters.remove(one)
                if one is self.display:
                    with contextlib.suppress(Exception):
                        one.end()  # which gives the terminal back
                print(f"reporter {one.name} is left out: {event}() raised {told(error)}", file=sys.stderr)


def _event(name: str) -> Any:
    def tell(self: Several, *what: Any) -> None:
        self.tell(name, *what)

    return tell


for _name in EVENTS:
    setattr(Several, _name, _event(_name))


def with_plugins(display: Reporter, names: Sequence[str], plugins: Plugins, results: Path) -> Reporter:
    """The display, together with reporters of plugins.

    Raises:
        HarnessError: there is no such reporter, or making it fails.
    """
    made = []
    for name in names:
        with plugins.blame("reporter", name, "__init__"):
            made.append(plugins.get("reporter", name)(results))
    return Several(display, made)
