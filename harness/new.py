"""`harness new`: a plugin to start from. The templates are working plugins whose names are replaced."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from harness.errors import HarnessError
from harness.plugins import NAME, NO_METHOD, Plugins

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "method": {"method.py": "{name}.py", "test_method.py": "test_{module}.py"},
    "dataset": {
        "dataset.py": "{name}.py",
        "test_dataset.py": "test_{module}.py",
        "dataset.toml": "{name}-protocol.toml",
        "recipe.toml": "{name}-recipe.toml",
    },
    "package": {
        "package/pyproject.toml": "{name}/pyproject.toml",
        "package/README.md": "{name}/README.md",
        "method.py": "{name}/{module}.py",
        "test_method.py": "{name}/test_{module}.py",
    },
}
"""What is written, template by template."""
NEXT = {
    "method": ["harness check ./{name}.py", "harness run --protocol test2 --method ./{name}.py"],
    "dataset": [
        "harness check ./{name}.py",
        "harness run --protocol ./{name}-protocol.toml --recipe ./{name}-recipe.toml --plugins ./{name}.py"
        " --dataset {name} --method subcluster",
    ],
    "package": [
        "uv pip install -e ./{name}",
        "harness check {name}",
        "harness run --protocol test2 --method {name}",
    ],
}
"""The commands that come next."""


def new(kind: str, name: str, plugins: Plugins) -> tuple[list[Path], list[str]]:
    """Write a plugin and its test into the current folder.

    Args:
        kind: `method`, `dataset`, or `package`: a method as a project that can be installed.

    Returns:
        The files, and the commands that come next.

    Raises:
        HarnessError: the name is not one, is taken, or a file is there already.
    """
    if not NAME.fullmatch(name):
        raise HarnessError(
            f"new {kind} {name!r}: write a name of lower-case letters, digits, '-' or '_', as in my-{kind}"
        )
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        module = f"plugin_{module}"
    registers = "dataset" if kind == "dataset" else "method"
    if registers == "method" and name in NO_METHOD:
        raise HarnessError(
            f"new {kind} {name}: that means something else where a parameter takes a method; choose another"
        )
    if name in plugins.names(registers):
        raise HarnessError(
            f"new {kind} {name}: {plugins.entry(registers, name).source.path} registers a {registers} of that name; "
            "choose another"
        )
    texts = {
        Path(path.format(name=name, module=module)): _filled(template, kind, name, module)
        for template, path in FILES[kind].items()
    }
    for path in texts:
        if path.exists():
            raise HarnessError(f"new {kind} {name}: {path} is there already; move it away or choose another name")
    if any(path.stem == module for path in texts) or kind == "package":
        spec = importlib.util.find_spec(module)
        if spec and spec.origin:  # else it is a mere folder
            raise HarnessError(f"new {kind} {name}: a module {module!r} is installed already; choose another name")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts), [command.format(name=name) for command in NEXT[kind]]


def _filled(template: str, kind: str, name: str, module: str) -> str:
    """A template with its own name replaced, in each of the forms that it takes."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    old = "my-dataset" if kind == "dataset" else "my-method"
    if kind == "package":  # a module has another name than a file that is given by its path
        text = text.replace(f"./{old}.py", name).replace(f"{old}.py", f"{module}.py")
    forms = {old: name, _class_name(old): _class_name(name), old.replace("-", "_"): module}
    return re.sub("|".join(map(re.escape, forms)), lambda found: forms[found[0]], text)


def _class_name(name: str) -> str:
    words = "".join(word.capitalize() for word in name.replace("_", "-").split("-"))
    return words if words.isidentifier() and not keyword.iskeyword(words) else f"My{words}"
