"""Declared data: strict models, their one-line errors, and the digest by which two of them are compared."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from harness.errors import HarnessError, suggest


class Spec(BaseModel):
    """Strict and frozen: an unknown key is an error, never a silent default."""

    # TOML and --set write class names such as 0 and 7 as numbers.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Params(Spec):
    """Base of the parameters that a method or data set declares; each field needs a default."""

    @model_serializer(mode="wrap")
    def _in_one_order(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A set's is another one in each process, and what a fit is known by would be, too."""
        own = vars(self)
        return {
            key: sorted(value, key=repr) if isinstance(own.get(key), set | frozenset) else value
            for key, value in whole(self).items()
        }

    def __getattr__(self, name: str) -> Any:
        if name in type(self).model_fields:
            raise Withheld(f"only score() may read {name}, from self.params as they are then: a fit serves every value")
        return super().__getattr__(name)


class Withheld(Exception):
    """A parameter that is in a method's `scoring` is read where it has no value. No AttributeError, for which `hasattr`
    and `getattr` would put something else."""


P = TypeVar("P", bound=Params)


def withheld(params: P, names: Iterable[str]) -> P:
    """A copy of parameters that has no values for some of them; to read one of these raises `Withheld`."""
    copy = params.model_copy()
    for name in names:
        del vars(copy)[name]
    return copy


def as_json(spec: Spec) -> bytes:
    """A spec as a file, one key a line."""
    values = spec.model_dump(mode="json")
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


S = TypeVar("S", bound=BaseModel)


def check(model: type[S], data: Any, where: str) -> S:
    """`data` as a `model`, or one line that names the place, the key and the mend.

    Raises:
        HarnessError: `data` does not fit.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise HarnessError(f"{where}: {_first_problem(model, error)}") from None


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    # A key that is not known may be the very one that is missing, misspelt.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    # pydantic puts the chosen branch of a union into the path; a user's file has no such key.
    key = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tagged-"))) or "file"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, problem["loc"][:-1])
        return f"{key}: unknown key; {suggest(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{key}: this key is required"
    if problem["type"] == "value_error":  # our own words
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    said, _, _ = problem["msg"].removeprefix("Input ").partition(", unable to parse")
    value = problem["input"]
    return f"{key}: {said}" + (f"; it is {value!r}"[:100] if isinstance(value, str | int | float) else "")


def _keys_at(kind: Any, path: tuple) -> list[str]:
    """The keys that are known at `path` in a model, or in a table or list of models."""
    for part in path:
        if _is_model(kind):
            field = kind.model_fields.get(part)
            kind = field.annotation if field else None
        else:  # dict[str, X] or tuple[X, ...]
            kind = next((inner for inner in get_args(kind) if _is_model(inner) or get_args(inner)), None)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict, or one line that says what is wrong with it."""
    try:
        return plain(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise HarnessError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise HarnessError(f"{path}: not readable as TOML: {error}") from None
    except RecursionError:
        raise HarnessError(f"{path}: not readable as TOML: nested too deeply") from None


CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
"""Made once: to plan and to read many records takes many digests."""


def plain(data: Any) -> Any:
    """The data themselves, if there is a digest of them.

    Raises:
        ValueError: a date, an infinity, a NaN, or a number of thousands of digits is among them.
    """
    try:
        CANONICAL.encode(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"no plain data: {error}") from None
    return data


def digest(data: Any) -> str:
    """16 hex digits that change whenever plain data changes (canonical JSON, SHA-256)."""
    return hashlib.sha256(CANONICAL.encode(data).encode()).hexdigest()[:16]
