"""What a person sees while fits are carried out: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich.console
import rich.progress
from rich.constrain import Constrain

from harness.reporter import Reporter

if TYPE_CHECKING:
    from harness.plan import Evaluation, Fit, Plan
    from harness.records import Record


class Lines(Reporter):
    """A line per event, for files and pipes."""

    name = "progress"

    def __init__(self, console: rich.console.Console):
        self.console = console
        self.begun = self.done = self.total = 0
        self.awaited = 0
        """How many fits of other runs were last told of."""
        self.told: set[str] = set()
        self.training: set[str] = set()
        """The fits of which the first epoch has yet to be heard."""

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, plan: Plan) -> None:
        self.total = len(plan.jobs())
        self.say(plan.summary())

    def fit_started(self, fit: Fit) -> None:
        self.training.add(fit.id)
        self.say(f"{self._count()} training {describe(fit)}")

    def fit_reused(self, fit: Fit) -> None:
        self.say(f"{self._count()} already trained: {describe(fit)}")

    def epoch(self, fit: Fit, epoch: int, epochs: int, loss: float) -> None:
        if fit.id in self.training:
            self.training.remove(fit.id)
            if epoch > 1:
                self.say(f"{describe(fit)}: goes on from epoch {epoch} of {epochs}")

    def _count(self) -> str:
        # What another process has done meanwhile was never begun here.
        self.begun = max(self.begun, self.done) + 1
        return f"[{min(self.begun, self.total)}/{self.total}]"

    def evaluated(self, evaluation: Evaluation, record: Record) -> None:
        left_out = str(record.numerics.get("left_out", ""))
        if left_out and left_out not in self.told:
            self.told.add(left_out)
            self.say(f"left out: {left_out}")
        scores = ", ".join(f"{name} {metrics.auroc:.3f}" for name, metrics in record.scores.items())
        self.say(f"{evaluation}: AUROC {scores} (trained in {record.fit_seconds:.1f} s)")

    def failed(self, evaluation: Evaluation, reason: str) -> None:
        self.say(f"{evaluation}: FAILED: {reason}")

    def fit_finished(self, fit: Fit) -> None:
        self.done += 1

    def waiting(self, fits: Sequence[Fit]) -> None:
        if len(fits) != self.awaited:
            self.awaited = len(fits)
            self.say(f"waiting for {len(fits)} fit(s) that another run on this results folder is at")


class Bars(rich.progress.Progress):
    """With room for the ^C that a terminal writes behind them: on a line of its own it would tear them."""

    def __init__(self, *columns: rich.progress.ProgressColumn, console: rich.console.Console):
        self.width = console.width - 2
        super().__init__(*columns, console=console, redirect_stdout=False)  # which tables go to

    def get_renderable(self) -> rich.console.RenderableType:
        return Constrain(super().get_renderable(), self.width)


class Live(Lines):
    """Bars under the lines: all fits, and the epochs of each running one, with the time that is left."""

    def begin(self, plan: Plan) -> None:
        super().begin(plan)
        self.bars = Bars(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}", markup=False),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("ETA"),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
        )
        self.overall = self.bars.add_task("fits", total=self.total, note="getting ready")
        self.running: dict[str, rich.progress.TaskID] = {}
        self.bars.start()

    def fit_started(self, fit: Fit) -> None:
        self._drop(fit)  # the bar of an attempt that was lost with its machine
        self.training.add(fit.id)
        self.running[fit.id] = self.bars.add_task(describe(fit), total=fit.recipe["epochs"], note="")
        self.bars.update(self.overall, note="")

    def fit_reused(self, fit: Fit) -> None:
        self._drop(fit)
        self.bars.update(self.overall, note="")

    def epoch(self, fit: Fit, epoch: int, epochs: int, loss: float) -> None:
        super().epoch(fit, epoch, epochs, loss)
        self._update(fit, completed=epoch, total=epochs, note=f"loss {loss:.4f}")

    def scoring(self, fit: Fit) -> None:
        self._update(fit, note="scoring")

    def fit_finished(self, fit: Fit) -> None:
        super().fit_finished(fit)
        self.bars.update(self.overall, completed=self.done)
        self._drop(fit)

    def waiting(self, fits: Sequence[Fit]) -> None:
        super().waiting(fits)
        self.bars.update(self.overall, note="waiting for another run")

    def _update(self, fit: Fit, **values: Any) -> None:
        if fit.id in self.running:
            self.bars.update(self.running[fit.id], **values)

    def _drop(self, fit: Fit) -> None:
        if fit.id in self.running:
            self.bars.remove_task(self.running.pop(fit.id))

    def end(self) -> None:
        self.bars.stop()


def describe(fit: Fit) -> str:
    """A fit in a few words."""
    normal = ",".join(fit.normal) if len(fit.normal) <= 5 else f"{len(fit.normal)} classes"
    return f"{fit.method} on {fit.dataset} {normal}, seed {fit.seed}"


def on_stderr() -> Lines:
    """The right one for where the output goes."""
    console = rich.console.Console(stderr=True)
    return Live(console) if console.is_terminal else Lines(console)
