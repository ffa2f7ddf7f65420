"""Plugin files: where they are, and what they register, from their text alone."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

from harness.errors import HarnessError, told

KINDS = {
    "register_methods": "method",
    "register_datasets": "dataset",
    "register_networks": "network",
    "register_scores": "score",
    "register_metrics": "metric",
    "register_reporters": "reporter",
}
"""What each hook registers."""
FUNCTIONS = ("network", "score", "metric")
"""The kinds that are functions, which are named as they register; the others are classes that carry their name."""


@dataclass(frozen=True)
class Source:
    """One plugin file, and how it was found."""

    path: Path
    origin: str
    module: str | None = None
    """The import name, for a plugin of an installed package."""

    @cached_property
    def text(self) -> bytes:
        """The file, as it is when it is first asked for: an edit made during a run takes effect in the next one."""
        return self.path.read_bytes()

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the file's text, or of all Python files of its package; the same on every platform."""
        top = self._package()
        if top is None:
            return _digest(_unix(self.text))
        files = sorted((f.relative_to(top).as_posix().encode(), _unix(f.read_bytes())) for f in top.rglob("*.py"))
        return _digest(b"\0".join(part for file in files for part in file))

    def _package(self) -> Path | None:
        """The folder of the installed package that the plugin is part of; None if it is a file of its own."""
        depth = self.module.count(".") + (self.path.name == "__init__.py") if self.module else 0
        return self.path.parents[depth - 1] if depth else None


def _unix(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n")


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """What a plugin registers under one name."""

    kind: str
    name: str
    summary: str
    source: Source


def place_of(path: Path) -> Path:
    """Where a path leads. A link that leads to itself, or a home that is not there, stands as it is: pathlib raises."""
    return Path(os.path.realpath(os.path.expanduser(path)))


def in_folder(files: Iterable[Path], origin: str) -> Iterator[Source]:
    """Those of some files that are meant as plugins."""
    for path in sorted(files):
        if not path.name.startswith((".", "_", "test_")):
            yield Source(path, origin)


def given(path: Path) -> list[Source]:
    """The plugin file, or those of a folder, that the user names.

    Raises:
        HarnessError: there is none.
    """
    path = place_of(path)
    if path.is_dir():
        return list(in_folder(path.glob("*.py"), "--plugins"))
    if path.suffix == ".py" and path.is_file():
        return [Source(path, "--plugins")]
    raise HarnessError(f"{path}: no such plugin file or folder; a plugin is a .py file")


def installed() -> Iterator[Source]:
    """The plugins of installed packages, by their entry points of the group `harness`."""
    for point in metadata.entry_points(group="harness"):
        relative = point.module.replace(".", "/")
        where = [point.dist.locate_file(f"{relative}{end}") for end in (".py", "/__init__.py")] if point.dist else []
        path = next((Path(str(file)) for file in where if Path(str(file)).is_file()), None)
        if path is None:  # an editable install: only the import system knows
            try:
                spec = importlib.util.find_spec(point.module)
            except ImportError:
                spec = None
            path = Path(spec.origin) if spec and spec.origin else Path(relative + ".py")
        yield Source(path, f"package {point.dist.name if point.dist else point.name}", point.module)


def read(source: Source) -> list[Entry] | None:
    """What a file registers, from its text alone; None if that takes running it.

    The text is enough for the ordinary form: `register(Name)` inside a hook, of a class with a literal `name`, or
    `register("name", function)`.
    """
    try:
        tree = ast.parse(source.text, filename=str(source.path))
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError) as error:  # the last two: nested too deeply
        raise HarnessError(f"{source.path}: not readable as Python: {told(error)}") from None
    if not all(map(_is_there, _imported(tree))):
        return None  # running it tells what is missing
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    found: list[Entry] = []
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    for hook in (node for node in functions if not all(map(_is_cache, node.decorator_list))):
        if hook.name not in KINDS:
            return None
        for node in ast.walk(hook):
            if isinstance(node, ast.For | ast.If | ast.ListComp | ast.Import | ast.ImportFrom):
                return None
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute) and node in hook.decorator_list:
                    continue
                name, thing = _literal(KINDS[hook.name], node.args, defined)
                if name is None:
                    return None
                found.append(Entry(KINDS[hook.name], name, summary_of(ast.get_docstring(thing)), source))
    # Where no hook stands at the top level there may yet be one inside `if` or `try`, or made by a call.
    return found or (None if b"hookimpl" in source.text else [])


def _imported(tree: ast.Module) -> Iterator[str]:
    """The packages that a file needs to be imported at all."""
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        yield from (name.partition(".")[0] for name in names)


@cache
def _is_there(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _is_cache(decorator: ast.expr) -> bool:
    """Whether it is `@cache` or `@functools.lru_cache(…)`, which make no hook."""
    return ast.unparse(decorator).partition("(")[0].rpartition(".")[2] in ("cache", "lru_cache")


def _literal(kind: str, given: list[ast.expr], defined: dict[str, ast.stmt]) -> tuple[str | None, ast.stmt | None]:
    """The name and the definition of what is registered; None where they are not literally there."""
    *head, last = given or [None]
    thing = defined.get(last.id) if isinstance(last, ast.Name) else None
    if kind in FUNCTIONS:
        named = len(head) == 1 and isinstance(head[0], ast.Constant) and isinstance(head[0].value, str)
        return (head[0].value, thing) if named and thing else (None, None)
    return (_literal_name(thing), thing) if not head and isinstance(thing, ast.ClassDef) else (None, None)


def _literal_name(node: ast.ClassDef) -> str | None:
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "name" for target in targets):
            value = statement.value
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def summary_of(doc: str | None) -> str:
    return (doc or "").strip().split("\n", 1)[0]
