"""The results store: one JSON record per evaluation, and its per-image scores.

    records/<protocol>/<dataset>/<method>/<case>…json    what an evaluation leaves behind, for good
    scores/<2 digits>/<hash>.npz                         per-image scores: `normal.<score>`, `anomaly.<score>`
                                                         (in a published folder as ranks, see `harness.ranks`)
    superseded/…                                         records that a newer one has replaced
    fits/, checkpoints/, claims/, failures/              of the trainings: see `harness.fits`
    protocols/<protocol>.toml                            those of its records, if not bundled

Every file is written beside its place and moved there in one step, so a reader never sees half of one. A record names
its scores by their hash, so the two change together, and what scores alike, as a detector that draws nothing does with
every seed, shares one file. So no file of scores goes with a record: `drop_scores` removes what none names any more.
"""

from __future__ import annotations

import gc
import glob
import heapq
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from harness.arrays import npz, read_npz
from harness.errors import HarnessError
from harness.files import files_below, finishing, sha256, sweep, write_whole
from harness.fits import Fits
from harness.metrics import Metrics, Share
from harness.provenance import Provenance
from harness.ranks import from_ranks
from harness.spec import Spec, as_json, digest

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
FOLDERS = ("records", "scores", "superseded", "protocols", "fits", "checkpoints", "failures")
"""What is written whole."""
NAMED = re.compile(rb'"scores_sha256": *"([0-9a-f]{64})"')
"""Where the file of a record names its scores."""


class Key(NamedTuple):
    """What was asked for, whatever it resolved to: the identity of a record."""

    protocol: str
    dataset: str
    method: str
    case: str
    anomaly_set: str
    recipe: str
    seed: str
    settings: str
    """Their digest."""

    @classmethod
    def of(cls, asked: Any, fit: Any) -> Key:
        """Of an evaluation and its fit; a record is both."""
        identity = (asked.protocol, fit.dataset, fit.method, asked.case, asked.anomaly_set, asked.recipe)
        return cls(*identity, str(fit.seed), digest(asked.settings))


class Record(Spec):
    """What an evaluation leaves behind: the numbers, and everything that explains them."""

    schema_version: Literal[1] = SCHEMA
    protocol: str
    dataset: str
    case: str
    anomaly_set: str
    method: str
    seed: int = Field(ge=0, lt=2**32)
    recipe: str
    status: Literal["ok", "skipped", "failed"]
    reason: str = ""

    scores: dict[str, Metrics] = {}
    """By score name."""
    metrics: dict[str, dict[str, float]] = {}
    """What plugins measure, by score name and by metric."""
    accuracy: Share | None = None
    """Of the sub-clusters, on normal test images, where the method predicts them."""
    knn_accuracy: dict[str, Share] = {}
    """Of the classes of normal test images among their K nearest training images, by K, where the method embeds."""
    n_normal: int = 0
    n_anomaly: int = 0

    settings: dict[str, dict[str, Any]] = {}
    """What the user changed with --set."""
    params: dict[str, Any] = {}
    """Every parameter of the method, as used."""
    recipe_values: dict[str, Any] = {}
    dataset_params: dict[str, Any] = {}
    declared_as: str = ""
    """The data set that protocol and recipe are declared for, where it is not this one: a folder can stand for one."""
    clusters: tuple[tuple[str, ...], ...] = ()
    """The normal classes by sub-cluster."""
    labels: bool = False
    """Whether the method was handed the sub-cluster of each training image."""
    anomaly: tuple[str, ...] = ()
    """The anomalous classes, in the order of the per-image scores."""
    normal: tuple[str, ...] = ()
    """The normal classes in that order, sorted; empty in records from before this was kept."""
    digests: dict[str, str] = {}
    """Of protocol, dataset, recipe, method and engine: equal digests, comparable numbers."""

    fit: str = ""
    """The identity of the fit."""
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    n_train: int = 0
    """Normal training images; 0 in records from before this was kept."""
    train_images_per_second: float | None = None
    """Training images times the epochs that were reported, one if none was, over `fit_seconds`."""
    score_images_per_second: float | None = None
    """Test images over `score_seconds`, whatever number of views a method makes of each."""
    peak_memory_mib: float | None = None
    """The most while it was fitted: of the GPU's tensors, or of the whole process; None where no system tells."""
    diagnostics: dict[str, float] = {}
    """What the method noted while it was fitted, such as its training accuracy."""
    numerics: dict[str, str | int | float | bool] = {}
    provenance: Provenance = {}
    """Time, commit, device and package versions."""
    fit_provenance: tuple[Provenance, ...] = ()
    """Those of the training, where they are others than those of the scoring: more than one where it was broken off,
    and went on with others. Written only where there are any; a fit from before this was kept tells none."""
    scores_sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """Of the file of per-image scores, which has its name from this."""

    @model_serializer(mode="wrap")
    def _brief(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value or name != "fit_provenance"}

    @property
    def key(self) -> Key:
        return Key.of(self, self)

    @property
    def finished(self) -> str:
        """When it was made, as text that sorts; empty where that is not told."""
        return str(self.provenance.get("finished") or "")

    @property
    def order(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The normal classes and the anomalous ones in the order of the per-image scores: class by class, each in the
        data set's order. Scores of two records can be compared image by image where it is the same."""
        if self.normal:
            return self.normal, self.anomaly
        # Scores once stood in the order of the fit's classes, which labels change.
        clusters = self.clusters if self.labels else [[name for cluster in self.clusters for name in cluster]]
        return tuple(name for one in sorted(sorted(cluster) for cluster in clusters) for name in one), self.anomaly

    @property
    def shared_settings(self) -> dict[str, dict[str, Any]]:
        """What the user changed beside the method itself: of recipe, data set and protocol, for a whole table."""
        return {owner: changes for owner, changes in self.settings.items() if owner != self.method}


class Store:
    """A results folder."""

    def __init__(self, root: Path, option: str = "--results"):
        self.root = Path(root)
        self.fits = Fits(self.root)
        self._records = str(self.root / "records")
        self._superseded = self.root / "superseded"
        for place in (self.root, *self.root.parents):
            if place.exists() and not place.is_dir():
                raise HarnessError(f"{option} {root}: {place} is a file, not a folder")

    def prepare(self) -> None:
        """Make the folder, see that it can be written to, and clear away what killed processes were writing.

        Raises:
            HarnessError: it can't.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise HarnessError(f"--results {self.root}: can't write there: {error.strerror}") from None
        for name in FOLDERS:  # and nowhere else: --results may name a folder that holds more than results
            sweep(self.root / name)

    def path(self, key: Key) -> str:
        """Where the record of a key is, without its ending. Names can't leave the folder."""
        name = ".".join([slug(key.case), slug(key.anomaly_set), slug(key.recipe), f"s{key.seed}", digest(key)[:8]])
        # Text, since to make a Path takes as long as to read the record.
        return os.sep.join([self._records, slug(key.protocol), slug(key.dataset), slug(key.method), name])

    def find(self, key: Key) -> Record | None:
        """The record of a key, or None if there is none or it can't be read."""
        path = f"{self.path(key)}.json"
        try:
            return self._read(path, key) if os.path.exists(path) else None
        except HarnessError:
            return None

    def write(
        self, record: Record, scores: Mapping[str, np.ndarray] | None = None, *, supersede: bool = True
    ) -> Record:
        """Keep a record and its per-image scores, and copy what was in its place to `superseded/`, if wanted.

        Raises:
            Unwritable: the disk is full, say; what was there before still is.
        """
        data = npz(scores) if scores is not None else None
        with finishing():
            if data is not None:
                record = record.model_copy(update={"scores_sha256": sha256(data)})
                write_whole(self._npz(record.scores_sha256), data)
            if supersede:
                self._supersede(record.key)
            # The one step in which the new record and its scores take the place of the old ones.
            write_whole(self._json(record.key), as_json(record))
        return record

    def forget(self, record: Record) -> None:
        """Take a record out of `records/`, into `superseded/` if it holds numbers."""
        with finishing():
            self._supersede(record.key)
            self._json(record.key).unlink(missing_ok=True)

    def records(self) -> Iterator[Record]:
        """Every record, in the order of their paths.

        Raises:
            HarnessError: a file is damaged; the line names it.
        """
        for paths in _batches(sorted(_json_below(self._records)), 1000):
            with _garbage_left():
                records = [self._read(path) for path in paths]
            yield from records

    def latest(self, dataset: str, method: str, count: int) -> list[Record]:
        """The records of a method on a data set, of any protocol, that were written last and can be read."""
        names = (glob.escape(self._records), "*", slug(dataset), slug(method), "*.json")
        found = glob.glob(os.path.join(*names))
        records = []
        for path in heapq.nlargest(count, found, key=lambda path: (os.stat(path).st_mtime_ns, path)):
            with suppress(HarnessError):
                records.append(self._read(path))
        return records

    def scores(self, record: Record) -> dict[str, np.ndarray]:
        """The per-image scores of a record: `normal.<score>` (n_normal,) and `anomaly.<score>` (n_anomaly,).

        Of a published record, their order and ties are those that were measured, and the values about so (`ranks`).

        Raises:
            HarnessError: they are missing or damaged.
        """
        import numpy as np

        path, mend = self._npz(record.scores_sha256), f"move {self._json(record.key)} away and run again"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise HarnessError(f"{path}: no scores: {error.strerror}; {mend}") from None
        if sha256(data) != record.scores_sha256:
            raise HarnessError(f"{path}: damaged scores; {mend}")
        sizes = {"normal": record.n_normal, "anomaly": record.n_anomaly}
        shapes = {f"{part}.{name}": (n,) for part, n in sizes.items() for name in record.scores}
        try:
            found = from_ranks(read_npz(data), record.n_normal)
            fine = {name: values.shape for name, values in found.items()} == shapes
            fine = fine and all(v.dtype.kind == "f" and v.size and np.isfinite(v).all() for v in found.values())
        except Exception:  # of the right digest, but no archive of ours: zipfile and numpy raise almost anything
            fine = False
        if not fine:
            raise HarnessError(
                f"{path}: not {len(shapes)} arrays of finite scores of {record.n_normal} normal images and "
                f"{record.n_anomaly} anomalies, as the record says; move it away and run again"
            )
        return found

    def files(self, record: Record) -> list[Path]:
        """The files of a record: itself, and its scores if it has any."""
        return [self._json(record.key), *([self._npz(record.scores_sha256)] if record.scores_sha256 else [])]

    def unused_scores(self) -> list[Path]:
        """The files in `scores/` that no record names, be it superseded or damaged elsewhere."""
        # Before the names, so that what is written meanwhile is not among them.
        files = set(map(Path, files_below(self.root / "scores")))
        named: set[Path] = set()
        for path in (*_json_below(self._records), *_json_below(self._superseded)):
            with suppress(OSError):
                named.update(self._npz(found.decode()) for found in NAMED.findall(Path(path).read_bytes()))
        return sorted(files - named)

    def drop_scores(self, hashes: Collection[str]) -> None:
        """Remove the scores of these hashes that no record names."""
        for path in self.unused_scores() if hashes else ():
            if path.stem in hashes:
                path.unlink(missing_ok=True)

    def _read(self, path: str, key: Key | None = None) -> Record:
        """The record in a place, seen to be that of a key: whichever belongs there, if none is given."""
        try:
            with open(path, "rb") as file:
                record = Record.model_validate_json(file.read())
        except (OSError, ValidationError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise HarnessError(f"{path}: not a readable record ({first}); move it away and run again") from None
        if record.key != key if key else f"{self.path(record.key)}.json" != path:
            raise HarnessError(f"{path}: the record of another evaluation; move it away and run again")
        return record

    def _json(self, key: Key) -> Path:
        return Path(f"{self.path(key)}.json")

    def _npz(self, scores_sha256: str) -> Path:
        return self.root / "scores" / scores_sha256[:2] / f"{scores_sha256}.npz"

    def _supersede(self, key: Key) -> None:
        """Copy the record of a key to `superseded/`, if there is one that holds numbers."""
        old = self.find(key)
        if old and old.status == "ok":
            path = self._json(key)
            content = path.read_bytes()
            kept = self._superseded / path.relative_to(self._records)
            write_whole(kept.with_name(f"{path.stem}.{sha256(content)[:8]}.json"), content)


@cache
def slug(name: str) -> str:
    """A name as part of a file name: it can't leave its folder."""
    return re.sub(r"[^A-Za-z0-9_=+-]+", "-", name)[:60] or "-"


def _json_below(folder: str | Path) -> Iterator[str]:
    return (path for path in files_below(folder) if path.endswith(".json"))


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Do not look for cycles among what is read: there are none, and the search takes longer than the reading."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()
