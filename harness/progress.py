"""What a person sees while fits are carried out: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import rich.console
import rich.progress
from rich.constrain import Constrain
from rich.text import Text

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


class TimeLeft(rich.progress.ProgressColumn):
    """Until a bar's `end`. The column of rich judges by the last 30 seconds, and is silent where steps take longer."""

    def __init__(self, now: Callable[[], float]):
        super().__init__()
        self.now = now

    def render(self, task: rich.progress.Task) -> Text:
        end = task.fields["end"]
        left = "-:--:--" if end is None else str(timedelta(seconds=round(max(0.0, end - self.now()))))
        return Text(left, style="progress.remaining")


@dataclass
class Training:
    """A running fit, and how far it has got: epochs from before a checkpoint have taken no time."""

    bar: rich.progress.TaskID
    since: float
    before: int = 0
    """Epochs that were over at `since`."""
    epoch: int = 0
    epochs: int = 1

    def take(self, now: float, epoch: int, epochs: int) -> float | None:
        """Note that an epoch is over; when the last one will be, if that can be told."""
        if epoch <= self.epoch or epoch > 1 > self.epoch:  # another training of the fit, or one that goes on
            self.since, self.before = now, epoch
        self.epoch, self.epochs = epoch, max(1, epochs)
        seen = epoch - self.before
        return now + (now - self.since) / seen * (epochs - epoch) if seen else None

    @property
    def seen(self) -> float:
        """The share of it that took the time since `since`."""
        return (self.epoch - self.before) / self.epochs

    @property
    def left(self) -> float:
        """The share of it that is yet to come."""
        return 1 - self.epoch / self.epochs


class Live(Lines):
    """Bars under the lines: all fits, and the epochs of each running one, with the time that is left."""

    def begin(self, plan: Plan) -> None:
        super().begin(plan)
        self.now = self.console.get_time
        self.bars = Bars(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[note]}", markup=False),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("ETA"),
            TimeLeft(self.now),
            console=self.console,
        )
        self.overall = self.bars.add_task("fits", total=self.total, note="getting ready", end=None)
        self.running: dict[str, Training] = {}
        self.loaded: set[str] = set()
        self.first: float | None = None
        """When the first fit was begun here."""
        self.trained = self.rescored = 0
        """Fits that were carried out here, and not by another run meanwhile: from the start, and finished ones."""
        self.bars.start()

    def fit_started(self, fit: Fit) -> None:
        self._begin(fit)
        self.training.add(fit.id)
        bar = self.bars.add_task(describe(fit), total=fit.recipe["epochs"], note="", end=None)
        self.running[fit.id] = Training(bar, self.now())

    def fit_reused(self, fit: Fit) -> None:
        self._begin(fit)
        self.loaded.add(fit.id)

    def _begin(self, fit: Fit) -> None:
        self._drop(fit)  # the bar of an attempt that was lost with its machine
        self.first = self.now() if self.first is None else self.first
        self.bars.update(self.overall, note="")

    def epoch(self, fit: Fit, epoch: int, epochs: int, loss: float) -> None:
        super().epoch(fit, epoch, epochs, loss)
        if fit.id in self.running:
            end = self.running[fit.id].take(self.now(), epoch, epochs)
            self._update(fit, completed=epoch, total=epochs, note=f"loss {loss:.4f}", end=end)
            self._expect()

    def scoring(self, fit: Fit) -> None:
        self._update(fit, note="scoring")

    def fit_finished(self, fit: Fit) -> None:
        super().fit_finished(fit)
        self.trained += fit.id in self.running
        self.rescored += fit.id in self.loaded
        self._drop(fit)
        self.bars.update(self.overall, completed=self.done)
        self._expect()

    def waiting(self, fits: Sequence[Fit]) -> None:
        super().waiting(fits)
        self.bars.update(self.overall, note="waiting for another run")

    def _expect(self) -> None:
        """Judge the end of all fits by the time since the first one was begun here, and by what was trained in it; what
        was merely scored counts if there was nothing else."""
        running = self.running.values()
        seen = self.trained + sum(one.seen for one in running) or self.rescored
        left = self.total - self.done - len(running) + sum(one.left for one in running)
        if seen:
            now = self.now()
            self.bars.update(self.overall, end=now + (now - self.first) / seen * left)

    def _update(self, fit: Fit, **values: Any) -> None:
        if fit.id in self.running:
            self.bars.update(self.running[fit.id].bar, **values)

    def _drop(self, fit: Fit) -> None:
        self.loaded.discard(fit.id)
        if fit.id in self.running:
            self.bars.remove_task(self.running.pop(fit.id).bar)

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
