"""Malformed input for the whole tool: strategies that damage what is valid, a little or beyond recognition.

`attacks(world)` draws from all of them; what has to hold after each is in `world.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from damage import NAMES, NUMBERS, VALUES, changed, damaged
from hostile_commands import command_lines
from hypothesis import strategies as st
from tiny import toml
from world import Attack, Gone, World

from harness.records import Record, Store

# --- what is on record -----------------------------------------------------------------------------------------------

READ = [("results",), ("results", "--format", "csv"), ("results", "--format", "json"), ("leaderboard",), ("compare",)]
READ += [("compare", "--protocol", "test2", "--format", "html")]
READ += [
    ("leaderboard", "--protocol", "mine.toml,grows.toml", "--format", f) for f in ("md", "md", "html", "tex", "csv")
]
OUT = ("leaderboard", "--protocol", "grows.toml", "--case", "2", "--out", "out", "--format")
AGAIN = ("--protocol", "mine.toml", "--method", "mean.py,labelled.py", "--seed", "0,1")
ACT = [("plan", *AGAIN), ("run", *AGAIN), ("rescore", *AGAIN), ("rescore", *AGAIN, "--set", "mean.k=4")]
ACT += [("run", "--protocol", "grows.toml", "--method", "mean.py", "--seed", "0"), ("run", *AGAIN, "--set", "mean.k=5")]


@st.composite
def results(draw: Callable, world: World) -> Attack:
    """Files of a results folder, damaged."""
    edits = []
    for name in draw(st.lists(st.sampled_from(world.files("^results/")), min_size=1, max_size=3, unique=True)):
        content = world.content(name)
        if name.endswith(".json") and draw(st.booleans()):
            content = json.dumps(draw(changed(json.loads(content))), default=str).encode()
            edits.append((name, content))
        elif draw(st.integers(0, 5)) == 0:  # another file of the folder
            edits.append((name, world.content(draw(st.sampled_from(world.files("^results/"))))))
        elif draw(st.integers(0, 5)) == 0:  # a folder that they are in
            edits.append((str(Path(name).parent), draw(damaged(content))))
        else:
            edits.append((name, draw(damaged(content))))
    return Attack("results", draw(st.sampled_from(READ + ACT)), tuple(edits))


@st.composite
def records(draw: Callable, world: World) -> Attack:
    """A record that says something else, in the place where that belongs: as if it had been made so."""
    name = draw(st.sampled_from(world.files("^results/records/(mine|grows)/.*json")))
    values = draw(changed(json.loads(world.content(name))))
    edits: list[tuple] = [(name, Gone)]
    try:
        record = Record.model_validate_json(json.dumps(values, default=str))
    except ValueError:
        edits = [(name, json.dumps(values, default=str).encode())]
    else:
        store = Store(Path("results"))
        for scores in store.files(Record.model_validate_json(world.content(name)))[1:]:
            data = world.content(str(scores))
            if draw(st.booleans()):
                data = draw(npz(dict(np.load(io.BytesIO(data)))))
            record = record.model_copy(update={"scores_sha256": hashlib.sha256(data).hexdigest()})
            edits.append((str(store.files(record)[1]), data))
        edits.append((str(store.files(record)[0]), record.model_dump_json().encode()))
    # Seldom, since to draw figures takes longer than all else.
    words = (*OUT, draw(st.sampled_from(["md", "html"]))) if draw(st.integers(0, 29)) == 7 else None
    return Attack("records", words or draw(st.sampled_from(READ + ACT)), tuple(edits))


@st.composite
def npz(draw: Callable, arrays: dict[str, np.ndarray]) -> bytes:
    """An archive of arrays that are not what they should be."""
    arrays = dict(arrays)
    for name in draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2, unique=True)):
        values = arrays.pop(name)
        match draw(st.sampled_from(["gone", "name", "value", "type", "shape", "object"])):
            case "name":
                arrays[draw(st.text("abL2.normal/", min_size=1, max_size=9))] = values
            case "value":
                arrays[name] = values.astype(float)
                arrays[name][draw(st.sampled_from([0, slice(None)]))] = float(draw(NUMBERS))
            case "type":
                kinds = ["int8", "bool", "float16", "complex128", "U5", "datetime64[s]", "longdouble", "f4,f4"]
                arrays[name] = np.zeros(values.shape, draw(st.sampled_from(kinds)))
            case "shape":
                shapes = [values[:0], values[:-1], values[None], values[0], values.repeat(2)]
                arrays[name] = draw(st.sampled_from(shapes))
            case "object":
                arrays[name] = np.array([None] * 3, dtype=object)
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, **arrays)
    return out.getvalue()


@st.composite
def fits(draw: Callable, world: World) -> Attack:
    """What a fit learnt, damaged in a file of the right digest: as if it had been kept so."""
    name = draw(st.sampled_from(world.files(r"^results/fits/.*\.safetensors")))
    about = name.replace(".safetensors", ".json")
    values, data = json.loads(world.content(about)), world.content(name)
    size = struct.unpack("<Q", data[:8])[0]
    match draw(st.sampled_from(["header", "body", "bytes", "plain", "values"])):
        case "header":
            head = json.dumps(draw(changed(json.loads(data[8 : 8 + size]))), default=str).encode()
            data = struct.pack("<Q", len(head)) + head + data[8 + size :]
        case "body":
            data = data[: 8 + size] + draw(st.binary(max_size=40))
        case "bytes":
            found = draw(damaged(data))
            data = found if isinstance(found, bytes) else b""
        case "plain":  # the attributes that are no tensors
            from safetensors.numpy import load, save

            tensors = load(data)
            text = json.dumps(draw(VALUES), default=str).encode()
            tensors[draw(st.sampled_from(["plain values", "mean", "score", "params", *tensors]))] = np.frombuffer(
                text, "u1"
            )
            data = save(tensors)
        case "values":
            values = draw(changed(values))
    if draw(st.booleans()):
        values["sha256"] = hashlib.sha256(data).hexdigest()
    edits = [(name, data), (about, json.dumps(values, default=str).encode())]
    return Attack("fits", draw(st.sampled_from(ACT)), tuple(edits))


@st.composite
def published(draw: Callable, world: World) -> Attack:
    """A published folder that someone sends, to be derived again."""
    names = draw(st.lists(st.sampled_from(world.files("^published/")), min_size=1, max_size=3, unique=True))
    edits = []
    for name in names:
        content = world.content(name)
        if name.endswith(".json") and draw(st.booleans()):
            edits.append((name, json.dumps(draw(changed(json.loads(content))), default=str).encode()))
        elif name.endswith(".npz") and draw(st.booleans()):
            data = draw(npz(dict(np.load(io.BytesIO(content)))))
            record, about = _record_of(world, name)
            record = record.model_copy(update={"scores_sha256": hashlib.sha256(data).hexdigest()})
            edits.append((str(Store(Path("published")).files(record)[1]), data))
            edits.append((about, record.model_dump_json().encode()))
        else:
            edits.append((name, draw(damaged(content))))
    more = draw(st.sampled_from([(), ("--protocol", "test2"), ("--protocol", "mine.toml")]))
    return Attack("published", ("leaderboard", "--check", "--out", "published", *more), tuple(edits))


def _record_of(world: World, scores: str) -> tuple[Record, str]:
    """A published record that names a file of scores, and where it is."""
    for name in world.files("^published/records/.*json"):
        record = Record.model_validate_json(world.content(name))
        if record.scores_sha256 == Path(scores).stem:
            return record, name
    raise LookupError(scores)


# --- specs, data, plugins --------------------------------------------------------------------------------------------


@st.composite
def specs(draw: Callable, world: World) -> Attack:
    """Protocols and recipes."""
    name = draw(st.sampled_from(["mine.toml", "grows.toml", "recipe.toml"]))
    if draw(st.integers(0, 2)):
        values = draw(changed(tomllib.loads(world.content(name).decode())))
        text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in values.items())
        content: Any = text.encode("utf-8", "replace")
    else:
        content = draw(damaged(world.content(name)))
    protocol = "mine.toml" if name == "recipe.toml" else name
    words = draw(
        st.sampled_from(
            [("plan", *AGAIN[2:]), ("run", "--method", "mean.py"), ("leaderboard",), ("results",), ("plan", *AGAIN[2:])]
        )
    )
    words = (*words, "--protocol", protocol)
    return Attack(
        "specs", (*words, "--recipe", "recipe.toml") if words[0] in ("run", "plan") else words, ((name, content),)
    )


@st.composite
def data(draw: Callable, world: World) -> Attack:
    """Data sets: pictures, what is kept of them, MNIST's files, CIFAR's pickles."""
    kind = draw(st.sampled_from(["png", "jpg", "webp", "mnist", "cifar10", "cifar100"]))
    if kind in ("png", "jpg", "webp"):
        name = draw(st.sampled_from(world.files(f"^pictures/{kind}/")))
        words: tuple = (
            "run",
            "--protocol",
            "pictures.toml",
            "--dataset",
            "folder",
            "--method",
            "mean.py",
            "--seed",
            "7",
        )
        words += ("--set", f"folder.path=../pictures/{kind}", "--recipe", "recipe.toml")
        words += draw(st.sampled_from([(), ("--set", "folder.size=4"), ("--set", "folder.per_class=1")]))
    else:
        name = draw(
            st.sampled_from(world.files(f"^data/.*{kind.replace('cifar', 'cifar-')}" if kind != "mnist" else "MNIST"))
        )
        words = draw(
            st.sampled_from(
                [
                    ("run", "--protocol", "test2", "--method", "mean.py", "--dataset", kind),
                    ("data", "verify", kind),
                    ("plan", "--protocol", "test2", "--method", "mean.py", "--dataset", kind),
                ]
            )
        )
        if kind == "cifar100" and words[0] != "data":
            words = (words[0], "--protocol", "test5", *words[3:])
    others = world.files(r"^object\.npy", "npz$", "^pictures/.*/0/000")
    content = world.content(draw(st.sampled_from(others))) if draw(st.integers(0, 5)) == 0 else None
    content = content or draw(damaged(world.content(name)))
    return Attack("data", words, ((name, content),))


RAISED = [
    "SystemExit(3)",
    "RuntimeError('a\\nb\\x1b[0m')",
    "RecursionError",
    "MemoryError()",
    "UnicodeDecodeError('u', b'', 0, 1, '')",
]
RAISED += [
    "AssertionError(chr(0xdcff))",
    "Bad()",
    "ImportError",
    "StopIteration(1)",
]
LINES = [f"raise {error}" for error in RAISED] + [
    "def f(): f()\nf()",
    "import nowhere_at_all",
    "from harness import nothing",
    "print('x' * 9)",
    "harness.hookimpl(3)",
    "del harness.Method",
    "class Tiny: name = 'x'",
    "class Tiny(harness.Method): name = 3; scores = ()",
    "register_methods = None",
    "@harness.hookimpl\ndef register_nothing(register): pass",
    "@harness.hookimpl\ndef register_methods(register, more): pass",
    "@harness.hookimpl\ndef register_metrics(register): register('a', 'b', 'c')",
    "@harness.hookimpl\ndef register_metrics(register): register('../x', len)",
    "@harness.hookimpl\ndef register_datasets(register): register(harness.Dataset)",
    "@harness.hookimpl\ndef register_networks(register): register(None)",
    "\x0c\t if",
    "x = '" + "a" * 9,
    "(" * 300,
    "-" * 99999 + "1",
    "# -*- coding: nonsense -*-",
    "\0",
]
HEAD = "class Bad(Exception):\n    def __str__(self): raise ValueError\n\n"


@st.composite
def plugins(draw: Callable, world: World) -> Attack:
    """Plugin files that misbehave."""
    content = world.content("mean.py")
    text = content.decode()
    match draw(st.sampled_from(["line", "line", "body", "name", "damage", "skip"])):
        case "line":
            line, lines = draw(st.sampled_from(LINES)), text.splitlines()
            at = draw(
                st.sampled_from([0, len(lines)] + [n for n, one in enumerate(lines) if one and one[0] not in " @"])
            )
            content = "\n".join([*lines[:at], HEAD + line, *lines[at:]]).encode()
        case "body":  # of a method
            said = draw(st.sampled_from(RAISED))
            content = text.replace("import harness\n", f"import harness\n{HEAD}", 1)
            old = draw(st.sampled_from(["self.mean = ", "return {"]))
            content = content.replace(old, f"raise {said}\n        {old}", 1).encode("utf-8", "replace")
        case "name":
            name = repr(draw(NAMES | NUMBERS))
            old = draw(st.sampled_from(['"mean"', '("L2",)', '"L2": (', '"""Distance']))
            new = {'"mean"': name, '("L2",)': f"({name},)", '"L2": (': f"{name}: (", '"""Distance': f"f'''{name}'''"}
            content = text.replace(old, new[old]).encode("utf-8", "replace")
        case "damage":
            content = draw(damaged(content))
        case "skip":
            said = draw(
                NAMES.map(repr)
                | NUMBERS.map(repr)
                | st.sampled_from(RAISED).map(lambda e: f"(_ for _ in ()).throw({e})")
            )
            more = f"    @classmethod\n    def skip(cls, n_clusters, params): return {said}\n\n    def fit("
            content = (
                text.replace("    def fit(", more, 1)
                .replace("class Tiny", f"{HEAD}class Tiny", 1)
                .encode("utf-8", "replace")
            )
    words = draw(
        st.sampled_from(
            [("plan", *AGAIN), ("run", *AGAIN[:2], "--method", "mean.py"), ("list", "plugins", "--plugins", ".")]
        )
    )
    if draw(st.integers(0, 19)) == 0:
        words = ("check", "mean.py")
    return Attack("plugins", words, (("mean.py", content),))


@st.composite
def commands(draw: Callable, world: World) -> Attack:
    """Command lines."""
    return Attack("commands", draw(command_lines(NAMES)))


def attacks(world: World) -> st.SearchStrategy[Attack]:
    """Any of them."""
    return st.one_of(kind(world) for kind in KINDS.values())


KINDS: dict[str, Callable[[World], st.SearchStrategy[Attack]]] = {
    one.__name__: one for one in (results, records, fits, published, specs, data, plugins, commands)
}
