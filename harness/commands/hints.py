"""What a person should look at who has carried something out, though nothing has failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import suggest
from harness.metrics import Metrics
from harness.paths import protocol_files
from harness.plugins import Plugins
from harness.protocol import read_protocol
from harness.records import Record
from harness.spec import read_toml


def below_chance(records: Iterable[Record], plugins: Plugins) -> list[str]:
    """A line for each score whose AUROCs are all below chance, one of them beyond doubt: its sign may be wrong."""
    found: dict[tuple[str, str], list[Metrics]] = {}
    for record in records:
        for score, metrics in record.scores.items():
            found.setdefault((record.method, score), []).append(metrics)
    return [
        f"{method}: every AUROC of {score} is below 0.5; does a higher score mean more anomalous? "
        f"harness check {_target(method, plugins)} tells"
        for (method, score), each in found.items()
        if all(metrics.auroc < 0.5 for metrics in each) and any(metrics.auroc_high < 0.5 for metrics in each)
    ]


def _target(method: str, plugins: Plugins) -> str:
    source = plugins.entry("method", method).source
    return str(source.path) if source.origin == "--plugins" else method


def unknown_methods(recipe: str | None, protocols: Sequence[str], plugins: Plugins) -> list[str]:
    """A line for each method that a recipe or a protocol of one's own has values for, and that is not there: it may be
    misspelt.

    Raises:
        HarnessError: as for `read_protocol`.
    """
    named = []
    if recipe and recipe.endswith(".toml"):
        named += [(f"{recipe}: methods", name) for name in read_toml(Path(recipe)).get("methods", {})]
    for path in (text for text in protocols if text.endswith(".toml")):
        cases = [case for section in read_protocol(path).dataset.values() for case in section.cases()]
        named += [(f"{path}: params", name) for name in dict.fromkeys(name for case in cases for name in case.params)]
    known = plugins.names("method")
    return [
        f"{where}.{name}: no such method here; {suggest(name, known)}" for where, name in named if name not in known
    ]


def namesakes(protocols: Sequence[str]) -> list[str]:
    """A line for each file of a protocol that has the name of a bundled one, whose records its own would replace.

    Raises:
        HarnessError: as for `read_protocol`.
    """
    bundled = protocol_files()
    files = [text for text in protocols if text.endswith(".toml")]
    named = [(text, read_protocol(text).name) for text in files]
    return [
        f"{text}: {name} is the name of a bundled protocol, whose records it replaces in the results; better rename it"
        for text, name in named
        if name in bundled and not bundled[name].samefile(Path(text))
    ]
