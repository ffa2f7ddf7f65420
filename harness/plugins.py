"""Finds plugins and loads them: bundled folder, `--plugins`, entry points of installed packages.

Listing reads a plugin's source without running it, so its imports cost nothing until it is used. A broken plugin is
listed with its reason and stops nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from harness import hookspecs, paths
from harness.errors import HarnessError, line_in, suggest, told
from harness.sources import FUNCTIONS, KINDS, Entry, Source, given, in_folder, installed, place_of, read, summary_of

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
NO_METHOD = ("pixels", "pca", "labels", "kmeans")
"""What a parameter may say in the place of a method's name, as in `on = "pca"` or `clusters = "kmeans:10:isif"`."""
HEADING = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
"""The names of scores and metrics: they are headings, such as Energy, before they are words of a command."""


class Plugins:
    """Every plugin within reach."""

    def __init__(self, extra: Iterable[Path] = ()):
        self._sources = [*in_folder(paths.PLUGINS.rglob("*.py"), "bundled")]
        for path in extra:
            self._sources += given(Path(path))
        self._sources += installed()
        self._manager = pluggy.PluginManager("harness")
        self._manager.add_hookspecs(hookspecs)
        self._loaded: dict[Source, list[tuple[Entry, Any]]] = {}
        self.broken: dict[Source, str] = {}

    @cached_property
    def entries(self) -> list[Entry]:
        """Everything that is registered, in order of kind and name; what is broken is kept in `broken` instead."""
        found: list[Entry] = []
        for source in self.sources:
            try:
                static = read(source)
                found += static if static is not None else [entry for entry, _ in self._load(source)]
            except HarnessError as error:
                self.broken[source] = str(error)
        return sorted(found, key=lambda entry: (entry.kind, entry.name, str(entry.source.path)))

    @property
    def sources(self) -> list[Source]:
        """Every plugin file; one that is found twice is the one that was found first."""
        return list({place_of(source.path): source for source in reversed(self._sources)}.values())[::-1]

    def names(self, kind: str) -> list[str]:
        return list(dict.fromkeys(entry.name for entry in self.entries if entry.kind == kind))

    def entry(self, kind: str, name: str) -> Entry:
        """The one plugin of this name.

        Raises:
            HarnessError: there is none, or there are two.
        """
        found = [entry for entry in self.entries if (entry.kind, entry.name) == (kind, name)]
        if len(found) > 1:
            files = " and ".join(str(entry.source.path) for entry in found)
            raise HarnessError(f"two plugins register the {kind} {name!r}: {files}; rename one or leave one out")
        if not found:
            if name.endswith(".py"):
                raise HarnessError(f"no {kind} is called {name!r}; give --plugins {name}, and here the {kind}'s name")
            there = f"; or give --plugins ./{name}.py" if NAME.fullmatch(name) and Path(f"{name}.py").is_file() else ""
            raise HarnessError(f"no {kind} is called {name!r}; {suggest(name, self.names(kind))}{there}{self._why_not}")
        return found[0]

    @property
    def _why_not(self) -> str:
        """What may have been meant but can't be read, as the end of an error line."""
        return "".join(f" ({source.path} is broken: {why})" for source, why in self.broken.items())

    def named(self, target: str | Path) -> list[Entry]:
        """Everything that a .py file registers, or that has a name, of whatever kind.

        Raises:
            HarnessError: there is nothing, or there are two of one kind.
        """
        if str(target).endswith(".py"):
            if not (found := self.add(Path(target))):
                raise HarnessError(f"{target}: registers nothing; {_unmarked(Path(target))}")
            return found
        kinds = {entry.kind for entry in self.entries if entry.name == target}
        if not kinds:
            known = suggest(str(target), dict.fromkeys(entry.name for entry in self.entries))
            raise HarnessError(f"no plugin is called {target!r}; {known}{self._why_not}")
        return [self.entry(kind, str(target)) for kind in sorted(kinds)]

    def get(self, kind: str, name: str) -> Any:
        """The class or function that a plugin registers, loading that plugin and no other."""
        entry = self.entry(kind, name)
        for loaded, thing in self._load(entry.source):
            if (loaded.kind, loaded.name) == (kind, name):
                return thing
        raise HarnessError(f"{entry.source.path}: names the {kind} {name!r} but does not register it")

    def dataset(self, name: str, root: Path, params: Any = None) -> Any:
        """A data set by its name.

        Raises:
            HarnessError: there is none, or making it fails.
        """
        with self.blame("dataset", name, "__init__"):
            return self.get("dataset", name)(root, params)

    @contextlib.contextmanager
    def blame(self, kind: str, name: str, function: str) -> Iterator[None]:
        """Turn whatever a plugin's function raises into one line that names the file."""
        try:
            with aside():
                yield
        except (HarnessError, KeyboardInterrupt):
            raise
        except BaseException as error:
            path = self.entry(kind, name).source.path
            raise HarnessError(f"{path}: {name}.{function}() raised {told(error)}") from error

    def chosen(self, kind: str, texts: Iterable[str]) -> list[str]:
        """The names that a user means who types names and paths of .py files.

        Raises:
            HarnessError: one of them is not there.
        """
        each = (self.in_file(kind, Path(t)) if t.endswith(".py") else [self.entry(kind, t).name] for t in texts)
        return list(dict.fromkeys(name for names in each for name in names))

    def in_file(self, kind: str, path: Path) -> list[str]:
        """The names of one kind that one file registers; the file joins the plugins if it was not among them."""
        found = self.add(path)
        names = [entry.name for entry in found if entry.kind == kind]
        if not names:
            mend = "" if found else f"; {_unmarked(path)}"
            raise HarnessError(f"{path}: registers no {kind}{mend}")
        return names

    def add(self, path: Path) -> list[Entry]:
        """Let a file join the plugins, if it is not among them, and say what it registers.

        Raises:
            HarnessError: there is no such file, or it is broken.
        """
        self._sources += given(path)
        self.__dict__.pop("entries", None)
        source = next(source for source in self.sources if place_of(source.path) == place_of(path))
        found = [entry for entry in self.entries if entry.source == source]
        if source in self.broken:
            raise HarnessError(self.broken[source])
        return found

    def _load(self, source: Source) -> list[tuple[Entry, Any]]:
        if source not in self._loaded:
            with aside():
                self._loaded[source] = self._registered(source)
        return self._loaded[source]

    def _registered(self, source: Source) -> list[tuple[Entry, Any]]:
        """What a plugin registers, once it is imported."""
        module = _import(source)
        _check_hooks(module, source)
        try:
            self._manager.register(module)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise HarnessError(f"{source.path}: {error}") from None
        others = set(self._manager.get_plugins()) - {module}
        found: list[tuple[Entry, Any]] = []
        for hook, kind in KINDS.items():

            def register(*given: Any, kind: str = kind) -> None:
                name, thing = _checked(kind, given, source)
                found.append((Entry(kind, name, summary_of(thing.__doc__), source), thing))

            try:
                self._manager.subset_hook_caller(hook, others)(register=register)
            except (HarnessError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise HarnessError(f"{source.path}: {hook} raised {told(error)}") from None
        return found


def aside() -> contextlib.AbstractContextManager[Any]:
    """Lets what plugins print go to stderr: it is not part of a table, which may go to a file."""
    return contextlib.redirect_stdout(sys.stderr)


def _import(source: Source) -> ModuleType:
    try:
        if source.module:
            return importlib.import_module(source.module)
        name = f"harness_plugin_{source.path.stem}_{hashlib.sha256(str(source.path).encode()).hexdigest()[:8]}"
        module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, source.path))
        sys.modules[name] = module  # dataclasses and pickling look their module up here
        try:
            # Not by the import system, whose bytecode cache takes an edit within the second for no edit.
            exec(compile(source.text, source.path, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's Skipped, say, is no Exception
        beside = isinstance(error, ModuleNotFoundError) and source.path.with_name(f"{error.name}.py").exists()
        mend = "; a plugin is one file: what it shares with others goes into a package of its own" if beside else ""
        line = "" if isinstance(error, SyntaxError) else line_in(error, [source.path])
        raise HarnessError(f"{source.path}: importing it raised {told(error)}{line}{mend}") from None


def _unmarked(path: Path) -> str:
    """The mend for a file that registers nothing."""
    text = path.read_text(encoding="utf-8", errors="replace")
    forgotten = next((hook for hook in KINDS if re.search(rf"^def {hook}\b", text, re.MULTILINE)), None)
    if forgotten:
        return f"mark {forgotten} with @harness.hookimpl"
    return "end it with a hook, as `harness new` writes one"


def _check_hooks(module: ModuleType, source: Source) -> None:
    """Refuse a misspelt hook, or one with other arguments, by name and with the right signature."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if not hasattr(function, "harness_impl"):
            continue
        wanted = getattr(hookspecs, name, None)
        if not hasattr(wanted, "harness_spec"):
            raise HarnessError(f"{source.path}: no hook is called {name!r}; {suggest(name, KINDS)}")
        if not set(inspect.signature(function).parameters) <= set(inspect.signature(wanted).parameters):
            raise HarnessError(
                f"{source.path}: {name}{inspect.signature(function)} has other arguments than the hook; "
                f"write {name}({', '.join(inspect.signature(wanted).parameters)})"
            )


def _checked(kind: str, given: tuple, source: Source) -> tuple[str, Any]:
    """The name and the thing that are registered, or a clear refusal."""
    if kind in FUNCTIONS:
        if len(given) != 2 or not isinstance(given[0], str) or not callable(given[1]):
            raise HarnessError(f'{source.path}: register takes a name and a function here: register("name", function)')
        _check_function(kind, *given, source)
        return given
    if len(given) != 1:
        raise HarnessError(f"{source.path}: register takes a class here, and nothing else: register(MyClass)")
    _check_class(kind, given[0], source)
    return given[0].name, given[0]


def _check_function(kind: str, name: str, function: Any, source: Source) -> None:
    """Refuse a name that is taken by what is no plugin, or that is none."""
    from harness import kit
    from harness.metrics import Metrics

    letters = "lower-case letters, digits, '-' or '_'" if kind == "network" else "letters, digits, '-', '_', '.' or '@'"
    if not (NAME if kind == "network" else HEADING).fullmatch(name):
        raise HarnessError(f"{source.path}: {name!r} is no name of a {kind}; write {letters}")
    if name in {"network": kit.NETWORKS, "metric": Metrics.model_fields}.get(kind, ()):
        raise HarnessError(f"{source.path}: a {kind} {name!r} is there already; choose another name")


def _check_class(kind: str, cls: Any, source: Source) -> None:
    """Refuse a class that does not keep to its contract's declarations."""
    from harness.dataset import Dataset
    from harness.method import Method
    from harness.recipe import Recipe
    from harness.reporter import Reporter
    from harness.spec import Params

    base = {"method": Method, "dataset": Dataset, "reporter": Reporter}[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise HarnessError(f"{source.path}: register takes a subclass of harness.{base.__name__}, not {cls!r}")

    def require(ok: bool, mend: str) -> None:
        if not ok:
            raise HarnessError(f"{source.path}: class {cls.__name__}: {mend}")

    name = getattr(cls, "name", None)
    good = isinstance(name, str) and bool(NAME.fullmatch(name))
    require(good, f"set `name` to lower-case letters, digits, '-' or '_', not {name!r}")
    if kind == "reporter":
        return
    is_params = isinstance(cls.Params, type) and issubclass(cls.Params, Params)
    require(is_params, "let Params be a subclass of harness.Params")
    fields = cls.Params.model_fields
    needy = [key for key, field in fields.items() if field.is_required()]
    require(not needy, f"give the parameter(s) {', '.join(needy)} a default")
    if kind == "method":
        require(name not in NO_METHOD, f"{name!r} means something else where a parameter takes a method; rename it")
        scores = getattr(cls, "scores", None)
        require(
            isinstance(scores, tuple)
            and bool(scores)
            and all(isinstance(s, str) and s and s.isprintable() for s in scores),
            "set `scores` to a tuple of the names that score() returns",
        )
        unknown = set(cls.scoring) - set(fields)
        require(not unknown, f"`scoring` names {', '.join(sorted(unknown))}, which Params does not declare")
        clash = set(fields) & set(Recipe.model_fields)
        require(not clash, f"the parameter(s) {', '.join(sorted(clash))} belong to the recipe; choose another name")
