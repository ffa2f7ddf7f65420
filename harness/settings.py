"""`--set NAME.KEY=VALUE`: what a user changes, sorted by the method, data set or protocol that it is for."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from harness.errors import HarnessError, suggest
from harness.spec import plain


def parse_settings(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`["rotnet.epochs=20"]` -> `{"rotnet": {"epochs": 20}}`; what is not plain data as TOML is a string."""
    settings: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        owner, dot, key = target.strip().rpartition(".")
        if not (equals and dot and owner and key):
            raise HarnessError(f"--set {text!r}: write NAME.KEY=VALUE, as in rotnet.epochs=20")
        if key in settings.setdefault(owner, {}):
            raise HarnessError(f"--set {text!r}: {target.strip()} is set twice")
        settings[owner][key] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    try:
        value = plain(tomllib.loads(f"value = {text}")["value"])
    except (ValueError, RecursionError):
        return text
    # The parameter knows whether "true" is a word or a truth value, and 2024.10 or 0x10 a name or a number: both can be
    # made of the text.
    other_name = isinstance(value, int | float) and str(value) != text
    return text if isinstance(value, bool) or other_name else value


def settled(changes: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as records have them, however they were typed: 0.10 and .1 are one setting, 1 and 1.0, True and true.

    Args:
        checked: the same parameters as they were understood.
    """
    spelt = {key: _spelt(value) for key, value in checked.items() if type(value) in (bool, int, float)}
    return {key: spelt.get(key, value) for key, value in changes.items()}


def _spelt(value: bool | int | float) -> str | int | float:
    if isinstance(value, bool):
        return str(value).lower()
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def typed(value: Any, inside: bool = False) -> str:
    """A value as `--set` takes it; what stands `inside` of another one is TOML, whose strings have quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {typed(one, True)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(typed(one, True) for one in value) + "]"
    return json.dumps(value) if inside and isinstance(value, str) else str(value)


def check_owners(settings: dict[str, dict[str, Any]], known: Iterable[str]) -> None:
    """Refuse settings for something that this command does not use, or of which it uses two."""
    counts = Counter(known)
    for owner in settings:
        if owner not in counts:
            part, dot, key = owner.partition(".")
            if dot and part in counts:
                raise HarnessError(
                    f"--set {owner}.…: to change a part of {key} write all of it: --set '{part}.{key}={{…}}'"
                )
            raise HarnessError(f"--set {owner}.…: {owner!r} is no part of this run; {suggest(owner, counts)}")
        if counts[owner] > 1:
            raise HarnessError(f"--set {owner}.…: {counts[owner]} parts of this run are called {owner!r}; rename one")
