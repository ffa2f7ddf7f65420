"""The command line in this process, and the smallest plugins and protocols to try it with."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cli import main
from harness.records import Record, Store


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a refused command."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("harness: "), self.err
        return lines[0]

    @property
    def plan(self) -> list[dict[str, str]]:
        """The rows of `harness plan`."""
        table = re.split(r"^\d+ evaluations ", self.out, flags=re.MULTILINE)[0]
        head, _, *rows = (re.split(r"  +", line.strip()) for line in table.splitlines())
        return [dict(zip(head, row, strict=True)) for row in rows]

    @property
    def statuses(self) -> list[str]:
        return [row["status"] for row in self.plan]


def harness(*words: Any, code: int = 0) -> Outcome:
    """Run a command; what it raises besides its exit code is an error of the test."""
    out, err = io.StringIO(), io.StringIO()
    found = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main(args=[str(word) for word in words], prog_name="harness")
        except SystemExit as end:
            found = end.code or 0
    outcome = Outcome(found, out.getvalue(), err.getvalue())
    assert found == code, f"exit {found}, not {code}: {outcome.err}\n{outcome.out}"
    return outcome


def records(folder: str = "results") -> list[Record]:
    return list(Store(Path(folder)).records())


def table(markdown: str) -> list[list[str]]:
    """The cells of a Markdown table, head first, without the rule."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return rows[:1] + rows[2:]


PLUGIN = '''\
{head}
import harness


class Tiny(harness.Method):
    """{summary}"""

    name = "{name}"
    scores = ("L2",)
    uses_labels = {uses_labels}
    {body}

    def fit(self, train, run):
        {fit}

    def score(self, images):
        {score}


@harness.hookimpl
def register_methods(register):
    register(Tiny)
'''
MEAN = "self.mean = train.images.float().mean(0)"
DISTANCE = 'return {"L2": (images.float() - self.mean).flatten(1).norm(dim=1)}'
SPY = """
        import hashlib, json
        from pathlib import Path
        hashes = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in {images}]
        with Path(__file__).with_suffix(".{log}").open("a") as file:
            print(json.dumps({{"hashes": hashes, {more}}}), file=file)
"""
SPY_FIT = (
    SPY.format(
        images="train.images",
        log="fits",
        more='"labels": train.labels.tolist() if train.labels is not None else None, "seed": run.seed',
    )
    + f"        {MEAN}"
)
SPY_SCORE = SPY.format(images="images", log="scores", more="") + f"        {DISTANCE}"


def plugin(
    name: str = "mean-image",
    fit: str = MEAN,
    score: str = DISTANCE,
    *,
    body: str = "",
    head: str = "",
    uses_labels: bool = False,
    summary: str = "Distance to the mean normal image.",
    file: str = "",
) -> Path:
    """A method as a file in the current folder; `body` goes into the class, at its indentation."""
    path = Path(file or f"{name}.py").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"name": name, "fit": fit, "score": score, "body": body, "head": head, "summary": summary}
    path.write_text(PLUGIN.format(uses_labels=uses_labels, **parts), encoding="utf-8")
    return path


def spy(name: str = "spy", **more: Any) -> Path:
    """A method that keeps a log of what it is handed; see `fits` and `scorings`."""
    return plugin(name, SPY_FIT, SPY_SCORE, **more)


def fits(method: Path) -> list[dict]:
    """What a spy was handed by each call of `fit` so far."""
    return _log(method.with_suffix(".fits"))


def scorings(method: Path) -> list[dict]:
    """Likewise, of `score`."""
    return _log(method.with_suffix(".scores"))


def _log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def hook(kind: str, name: str, function: str, file: str = "") -> Path:
    """A plugin of one function."""
    path = Path(file or f"{name}.py").absolute()
    hooked = f'@harness.hookimpl\ndef register_{kind}s(register):\n    register("{name}", thing)\n'
    path.write_text(f"import harness\n\n\ndef thing{function}\n\n\n{hooked}")
    return path


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def write_toml(path: str | Path, values: dict[str, Any]) -> Path:
    path = Path(path).absolute()
    path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in values.items()), encoding="utf-8")
    return path


def named(cases: dict[str, dict], name: str = "mine", dataset: str = "digits", **more: Any) -> Path:
    """A protocol of cases that are written out, as a file `<name>.toml` in the current folder.

    A case is `{"normal": [...], "anomaly": {...}}`.
    """
    head = {"name": name, "title": "A title", "source": "a source", "form": "named", "table": {"title": "Table 0"}}
    return write_toml(f"{name}.toml", head | {"dataset": {dataset: {"case": cases}}} | more)


def case(normal: list, *anomaly: str, **sets: list[str]) -> dict:
    return {"normal": normal, "anomaly": sets or {"anomaly": list(anomaly)}}
