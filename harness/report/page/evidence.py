"""What stands behind each number of a leaderboard, as plain data for the page: runs, curves, histograms."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import quoted
from harness.paths import protocol_files
from harness.protocol import Case
from harness.records import Key, Record
from harness.report.cells import shown_value, summary
from harness.report.compare import Compared, Estimate, compare_rows, estimate, mean_of
from harness.report.leaderboard import Leaderboard, Line
from harness.report.names import data_of, declared_as, settings_text
from harness.report.published import Published
from harness.report.roc import histogram_edges
from harness.spec import digest

if TYPE_CHECKING:
    import numpy as np

    from harness.report.ties import Scores

POINTS = 32
"""Of a ROC curve, at most: more can't be seen."""
PARTS = 1000
"""Rates are whole numbers of these parts of one, which keeps the file small."""
FACTS = ("params", "recipe_values", "numerics", "diagnostics", "digests", "provenance", "settings", "dataset_params")
"""Of a record, as they are; what the fit was trained with, if with anything else, is part of the provenance."""


class Evidence:
    """Gathers what the cells of several leaderboards open. Facts that many records share are kept once. Without the
    scores of images there are no curves and histograms."""

    def __init__(self, scores: Scores | None, published: Sequence[Published]):
        self._scores = scores
        self._published = published
        self._board: Leaderboard
        self._boards: list[dict[str, str]] = []
        self._pool: dict[str, int] = {}
        self._facts: list[Any] = []
        self._runs: dict[Key, int] = {}
        self._described: list[dict[str, Any]] = []
        self._entries: dict[tuple, int] = {}
        self._numbers: list[dict[str, Any]] = []
        self._means: list[dict[str, Any]] = []
        self._loaded: tuple[Key, Mapping[str, np.ndarray]] | None = None

    def begin(self, board: Leaderboard) -> None:
        """What follows is of this leaderboard."""
        first = board.records[0]
        self._board = board
        about = {"protocol": first.protocol, "dataset": data_of(first), "recipe": first.recipe}
        self._boards.append({"name": board.name, **about, "changed": settings_text(first.shared_settings)})
        rows = compare_rows(board.records, self._published)
        self._compared = {(c.printed.case, c.printed.anomaly_set, c.variant, c.score): c for c in rows}
        of = (first.protocol, declared_as(first))
        printed = [p for p in self._published if (p.protocol, p.dataset) == of]
        self._printed = {(p.case, p.anomaly_set, p.method, p.score): p for p in printed}

    def paper(self, line: Line, case: str) -> Compared | None:
        """The paper's number for a line in one of its cases, or in the average, beside ours."""
        found = self._compared.get((case, line.anomaly_set, line.variant, line.score))
        if found and found.printed.dataset == declared_as(self._board.records[0]):
            return found
        keys = [(case, line.anomaly_set, line.variant.method, score) for score in (line.score, "-")]
        printed = next((self._printed[key] for key in keys if key in self._printed), None)
        return Compared(printed, line.variant, line.score, None, "") if printed else None

    def entry(self, line: Line, case: Case, records: Sequence[Record]) -> int:
        """The number of what a line shows for one case."""
        key = (self._board.name, line.variant, line.score, case.name, line.anomaly_set)
        if key not in self._entries:
            self._entries[key] = len(self._numbers)
            self._numbers.append(self._describe(line, case, sorted(records, key=lambda record: record.seed)))
        return self._entries[key]

    def mean(self, line: Line, cases: Sequence[Sequence[Record]], paper: Compared | None) -> int:
        """The number of what a line shows for several cases together."""
        ours = mean_of([estimate(records, line.score) for records in cases])
        found = _estimated(ours, [list(records) for records in cases], line.score)
        self._means.append(found | ({"paper": paper_data(paper)} if paper else {}))
        return len(self._means) - 1

    def data(self) -> dict[str, Any]:
        """Everything that was gathered."""
        gathered = {"boards": self._boards, "facts": self._facts, "runs": self._described}
        return gathered | {"entries": self._numbers, "means": self._means}

    def _describe(self, line: Line, case: Case, records: list[Record]) -> dict[str, Any]:
        values = [shown_value(record, line.score) for record in records]
        found = {
            "board": len(self._boards) - 1,
            "method": str(line.variant),
            "head": line.group,
            "score": line.score,
            "case": case.name,
            "set": line.anomaly_set if len(case.anomalies) > 1 else "",
            "normal": self._shared(case.clusters),
            "anomaly": self._shared(case.anomalies[line.anomaly_set]),
            "runs": [self._run(record) for record in records],
            "values": [None if value is None else as_shown(value) for value in values],
            "numbers": [_numbers(record, line.score) for record in records],
        }
        found |= _estimated(estimate(records, line.score), [records], line.score)
        if compared := self.paper(line, case.name):
            found["paper"] = paper_data(compared)
        scored = [record for record in records if line.score in record.scores]
        if scored and self._scores:
            pairs = [self._pair(record, line.score) for record in scored]
            found["roc"] = [roc(*pair) for pair in pairs]
            found["histogram"] = histogram(*pairs[0])
        if scored:
            found["pictures"] = picture_key(scored[0], line.score)
        if not records:
            found["command"] = self._command(line, case)
        return found

    def _run(self, record: Record) -> int:
        if record.key not in self._runs:
            self._runs[record.key] = len(self._described)
            self._described.append(
                {
                    "seed": record.seed,
                    "status": record.status,
                    "reason": record.reason,
                    "images": [record.n_normal, record.n_anomaly],
                    "seconds": [record.fit_seconds, record.score_seconds],
                    "accuracy": record.accuracy,
                    "recipe": record.recipe,
                    "fit": record.fit,
                    "scores": record.scores_sha256[:16],
                    "facts": {name: self._shared(fact) for name, fact in _facts(record).items() if fact},
                }
            )
        return self._runs[record.key]

    def _shared(self, fact: Any) -> int:
        if isinstance(fact, Mapping):  # each fit ends at another moment
            fact = {key: value for key, value in fact.items() if key != "finished"}
        key = digest(fact)
        if key not in self._pool:
            self._pool[key] = len(self._facts)
            self._facts.append(fact)
        return self._pool[key]

    def _pair(self, record: Record, score: str) -> tuple[np.ndarray, np.ndarray]:
        if self._loaded is None or self._loaded[0] != record.key:
            self._loaded = record.key, self._scores(record)
        return self._loaded[1][f"normal.{score}"], self._loaded[1][f"anomaly.{score}"]

    def _command(self, line: Line, case: Case) -> str:
        """What would make the number that is not there: in the folder that has the protocol, if it is not bundled."""
        first = self._board.records[0]
        protocol = first.protocol if first.protocol in protocol_files() else f"protocols/{first.protocol}.toml"
        words = ["harness", "run", "--protocol", protocol, "--dataset", first.dataset]
        words += ["--method", line.variant.method, "--case", quoted(case.name), "--recipe", first.recipe]
        words += ["--seed", ",".join(map(str, sorted({record.seed for record in self._board.records})))]
        if any(f"score {line.score}" in record.digests for record in self._board.records):
            words += ["--score", line.score]
        for owner, changes in line.settings(first.shared_settings).items():
            words += [word for key, value in changes.items() for word in ("--set", f"{owner}.{key}={value}")]
        return shlex.join(words)


def paper_data(compared: Compared) -> dict[str, Any]:
    """The paper's number, and how far ours is from it."""
    printed = compared.printed
    return {
        "printed": printed.printed_as if printed.value is not None else "–",
        "table": printed.table,
        "difference": None if compared.difference is None else as_shown(compared.difference),
        "verdict": compared.verdict,
        "note": printed.note,
    }


def _estimated(ours: Estimate | None, cases: list[list[Record]], score: str) -> dict[str, Any]:
    """Mean, deviation over seeds, 95 % interval, and of how many seeds: those of the deviation, or the most that a case
    has; nothing where there is no number."""
    shown = summary(cases, score)
    if not ours or not shown:
        return {}
    seeds = [{record.seed for record in case if shown_value(record, score) is not None} for case in cases]
    common = set.intersection(*seeds)
    return {
        "mean": as_shown(shown.mean),
        "std": None if shown.std is None else as_shown(shown.std),
        "interval": [as_shown(ours.low), as_shown(ours.high)],
        "seeds": max(map(len, seeds)) if shown.std is None else len(common),
    }


def _facts(record: Record) -> dict[str, Any]:
    facts = {name: getattr(record, name) for name in FACTS}
    if record.fit_provenance:
        facts["provenance"] = record.provenance | {"trained with": dict(enumerate(record.fit_provenance, 1))}
    return facts


def _numbers(record: Record, score: str) -> list[float] | None:
    """AUROC, its interval, AUPR, FPR95."""
    metrics = record.scores.get(score)
    names = ("auroc", "auroc_low", "auroc_high", "aupr", "fpr95")
    return [as_shown(getattr(metrics, name)) for name in names] if metrics else None


def as_shown(number: float) -> float:
    """As tables have it: a browser, which rounds a half up, then has nothing left to round."""
    return float(f"{number:.3f}")


def picture_key(record: Record, score: str) -> str:
    """Under which the page keeps the pictures that a score orders."""
    return f"{record.scores_sha256[:16]} {score}"


def roc(normal: np.ndarray, anomaly: np.ndarray) -> list[list[int]]:
    """False and true positive rates along a ROC curve, in `PARTS`, each as its distance from the one before: of its
    corners, or of `POINTS` at equal distances, if it has more. To leave out corners would cut off what is between."""
    import numpy as np
    from sklearn.metrics import roc_curve

    truth = np.repeat([0, 1], [len(normal), len(anomaly)])
    false, true, _ = roc_curve(truth, np.concatenate([normal, anomaly]))
    way = false + true  # a curve only ever goes up and to the right
    if len(way) > POINTS:
        false, true = (np.interp(np.linspace(0, way[-1], POINTS), way, rates) for rates in (false, true))
    return [np.diff(np.rint(rates * PARTS).astype(int), prepend=0).tolist() for rates in (false, true)]


def histogram(normal: np.ndarray, anomaly: np.ndarray) -> dict[str, list]:
    """How many images fall into each of equal bins; what lies outside of them is counted in the outermost."""
    import numpy as np

    edges = histogram_edges(normal, anomaly)
    parts = {"normal": normal, "anomaly": anomaly}
    counts = {n: np.histogram(v.clip(edges[0], edges[-1]), edges)[0].tolist() for n, v in parts.items()}
    ends = (edges[0], edges[-1])
    digits = 4 + max(0, round(math.log10(np.abs(ends).max() / (ends[1] - ends[0]))))  # two ends that tell apart
    return {"ends": [float(f"{end:.{digits}g}") for end in ends], **counts}
