"""What a worker elsewhere does: one fit and its evaluations, from plain data, with what is installed on its machine."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import harness
from harness.digests import dataset_digest, source_digests
from harness.errors import HarnessError
from harness.extras import asked, names_of
from harness.fits import FitFiles
from harness.machine import choose_device
from harness.plan import Evaluation, Fit
from harness.plugins import Plugins
from harness.records import Record, Store
from harness.reporter import Reporter
from harness.run import Worker

if TYPE_CHECKING:
    import numpy as np

EPOCH_SECONDS = 0.5
"""How long a fit keeps silent between epochs, at least."""


Tell = Callable[[str, str, tuple], object]
"""Takes an event of the reporter, a fit's identity, and further values."""


@dataclass(frozen=True)
class Setup:
    """What a worker is made from, on whatever machine."""

    results: Path
    data: Path
    device: str
    plugins: tuple[tuple[Path, bytes], ...]
    """The user's plugin files, with their content."""
    version: str
    faster_by: tuple[str, ...]
    jobs: int = 1
    """How many fits the worker's device carries out at a time."""
    token: str = ""
    """A file in the results folder: who finds it there sees the same folder as the driver. Empty: it surely does."""


@dataclass
class Outcome:
    """What a task sends back."""

    machine: str
    begun: str = ""
    """The event with which the fit began: whether it was trained, or found to be."""
    records: list[Record] = field(default_factory=list)
    brought: bool = False
    """Whether the driver is to write the records, and what follows."""
    scores: list[Mapping[str, np.ndarray] | None] = field(default_factory=list)
    """The per-image scores of each record."""
    fit: FitFiles | None = None
    """The files of the fit, where they are new."""
    traceback: str = ""
    refusal: HarnessError | None = None
    """What ends the whole run, such as data that are not on this machine."""
    wants_files: bool = False
    """Nothing was done: the files of the fit are needed, and not to be seen from here."""


def carry_out(
    setup: Setup, fit: Fit, evaluations: list[Evaluation], trained: bool, files: FitFiles | None, tell: Tell
) -> Outcome:
    """The task.

    Args:
        trained: whether the driver has files of the fit.
        files: these files, if a worker has asked for them, since it can't see the results folder.
        tell: what takes the progress.
    """
    outcome, teller = Outcome(platform.node()), Teller(tell)
    try:
        with contextlib.ExitStack() as stack:
            shared = (setup.results / setup.token).exists()
            root = setup.results if shared else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = Store(root)
            device = choose_device(setup.device)
            worker = Worker(_plugins(setup), store, setup.data, device, teller, setup.faster_by, setup.jobs)
            _check_alike(setup, worker.plugins, fit, evaluations)
            if shared:
                # A worker that was lost may have recorded some of them.
                missing = worker.outstanding(evaluations)
                new = {record.key: record for record in (worker.carry_out(fit, missing) if missing else ())}
                outcome.records = [new.get(one.key) or store.find(one.key) for one in evaluations]
                return outcome
            outcome.wants_files = trained and not files
            if outcome.wants_files:
                return outcome
            if files:
                store.fits.put_files(fit.id, files)
            outcome.brought = True
            outcome.records = worker.carry_out(fit, evaluations)
            outcome.scores = [store.scores(one) if one.scores_sha256 else None for one in outcome.records]
            after, failure = store.fits.files(fit.id), store.fits.failure(fit.id)
            outcome.fit = after if after != files else None
            outcome.traceback = failure.read_text() if failure.exists() else ""
    except HarnessError as error:
        outcome.refusal = error
    finally:
        outcome.begun = teller.begun
    return outcome


class Teller(Reporter):
    """The reporter of a worker: tells the driver, but for the records: they are in the outcome, which can't be lost."""

    def __init__(self, tell: Tell):
        self.tell, self.told, self.begun = tell, 0.0, ""

    def fit_started(self, fit: Fit) -> None:
        self.begun = "fit_started"
        self.tell(self.begun, fit.id, ())

    def fit_reused(self, fit: Fit) -> None:
        self.begun = "fit_reused"
        self.tell(self.begun, fit.id, ())

    def epoch(self, fit: Fit, epoch: int, epochs: int, loss: float) -> None:
        if time.monotonic() - self.told >= EPOCH_SECONDS:
            self.told = time.monotonic()
            self.tell("epoch", fit.id, (epoch, epochs, loss))

    def scoring(self, fit: Fit) -> None:
        self.tell("scoring", fit.id, ())


@cache
def _plugins(setup: Setup) -> Plugins:
    """The plugins of this machine and the user's: at their own place if it has the same content here, else copied."""
    own = []
    for path, content in setup.plugins:
        try:
            same = path.read_bytes() == content
        except OSError:
            same = False
        if not same:
            path = Path(tempfile.mkdtemp(prefix="harness-plugin-")) / path.name
            path.write_bytes(content)
        own.append(path)
    return Plugins(own)


def _check_alike(setup: Setup, plugins: Plugins, fit: Fit, evaluations: list[Evaluation]) -> None:
    """See that this machine would train on what the driver has planned, and measure it likewise.

    Raises:
        HarnessError: its harness, a plugin or the data set is another one.
    """
    wanted = {part: value for evaluation in evaluations for part, value in evaluation.digests.items()}
    found = {
        "dataset": _dataset_digest(setup, fit.dataset, json.dumps(fit.dataset_params)),
        **source_digests(plugins, fit.method, fit.recipe, fit.params),
        **asked(plugins, names_of("score", wanted), names_of("metric", wanted)),
    }
    other = [part for part, value in found.items() if wanted[part] != value]
    if setup.version != harness.__version__ or other:
        what = f"another version of {' and '.join(other)}" if other else f"harness {harness.__version__}"
        raise HarnessError(f"this machine has {what}; give all machines the same harness, plugins and data")


@cache
def _dataset_digest(setup: Setup, name: str, params: str) -> str:
    plugins = _plugins(setup)
    dataset = plugins.dataset(name, setup.data, plugins.get("dataset", name).Params(**json.loads(params)))
    with plugins.blame("dataset", name, "revision"):
        return dataset_digest(dataset)
