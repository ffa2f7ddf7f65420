"""A folder of all that the tool reads, small and valid, and what has to hold whatever is done to it.

root/here/      the current folder: specs, plugins, results, a published folder, pictures, data files
root/tmp/       where temporary files go
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import reprlib
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib.font_manager  # which keeps a cache in the user's home, once
import numpy as np
from fake_data import write_cifar, write_mnist, write_pictures
from tiny import case, named, plugin, write_toml

from harness.cli import main
from harness.records import Store

READERS = ("results", "compare", "plan", "list", "check", "leaderboard", "--help", "--version")
"""Commands that may change nothing: leaderboard without --out, that is."""
Content = bytes | str | None
"""Of a place: a file's bytes, where a link leads, or None for a folder."""


class Gone:
    """There is nothing in a place."""


@dataclass(frozen=True)
class Attack:
    """Damage, and a command that meets it."""

    kind: str
    words: tuple[str, ...]
    edits: tuple[tuple[str, Content | type], ...] = ()
    """Places under `here` and what is put there; `Gone` for nothing."""

    def __str__(self) -> str:
        edits = "".join(f"\n  {name}: {reprlib.repr(content)}" for name, content in self.edits)
        return f"{self.kind}: harness {' '.join(map(reprlib.repr, self.words))}{edits}"


@dataclass
class Fault(AssertionError):
    """What did not hold."""

    what: str
    """The same for the same fault, as far as that can be told."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what}\n{self.detail}"


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    error: BaseException | None = None


class World:
    """The valid world; each attack meets it whole."""

    def __init__(self, root: Path):
        self.root, self.here, self.tmp = root.resolve(), root.resolve() / "here", root.resolve() / "tmp"
        self.here.mkdir(parents=True)
        self.tmp.mkdir()
        with self.inside():
            _furnish()
        self.valid = _look(self.root)

    def files(self, *patterns: str) -> list[str]:
        """The valid files under `here` whose paths match, in order."""
        found = (str(Path(name).relative_to("here")) for name in self.valid if name.startswith("here/"))
        return sorted(n for n in found if self.content(n) is not None and any(re.search(p, n) for p in patterns))

    def content(self, name: str) -> bytes:
        return self.valid[f"here/{name}"]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        before, tempfile.tempdir = tempfile.tempdir, str(self.tmp)
        try:
            with contextlib.chdir(self.here):
                yield
        finally:
            tempfile.tempdir = before

    def suffer(self, attack: Attack, real: bool = False) -> Ended:
        """Damage the world, run the command, see that all holds that has to, and mend the world.

        Args:
            real: in a process of its own.

        Raises:
            Fault: something does not hold.
        """
        after = None
        try:
            with self.inside():
                for name, content in attack.edits:
                    _put(Path(name), content)
                before = _look(self.root)
                with _writes() as written:
                    ended = _process(attack.words, self.tmp) if real else command(attack.words)
                after = _look(self.root)
            shown = f"{attack}\n{ended.out[-1000:]}\n{ended.err[-2000:]}\n{_trace(ended.error)}"
            for what in (*_said(ended), *self._done(attack, ended, before, after, written)):
                raise Fault(what, shown)
            return ended
        finally:
            self._mend(after or _look(self.root))

    def _done(self, attack: Attack, ended: Ended, before: dict, after: dict, written: list[str]) -> Iterator[str]:
        changed = {name for name in before.keys() | after.keys() if before.get(name, Gone) != after.get(name, Gone)}
        if PICKLE in written:
            yield "opened a pickle"
            written.remove(PICKLE)
        ours = (str(self.root), "/proc/self/", f"/proc/{os.getpid()}/")
        outside = [path for path in written if not path.startswith(ours) and "__pycache__" not in path]
        if outside:
            yield f"wrote to {outside[0]}"
        allowed = _may_write(attack.words)
        for name in sorted(changed):
            place = Path(os.path.relpath(self.root / name, self.here))
            above = after.get(name, Gone) is None and any(Path(folder).is_relative_to(place) for folder in allowed)
            inside = any(place.is_relative_to(folder) for folder in allowed) or ".harness-cache" in place.parts
            if not above and not inside:
                yield f"{attack.words[:1]} changed {re.sub(r'[0-9a-f]{8,}|[.]tmp[a-z0-9_]+', '*', name)}"
        if "--out" in attack.words:  # a record that is published again takes the place of the old one
            return
        kept = {content for name, content in after.items() if "/superseded/" in name}
        for name, content in self.valid.items():
            lost = before.get(name, Gone) == content and after.get(name, Gone) != content and content not in kept
            if re.search("/(records|scores)/", name) and content is not None and lost:
                yield f"a record or its scores were lost by {attack.words[:1]}"

    def _mend(self, now: dict[str, Content]) -> None:
        for name in sorted(now, reverse=True):
            if now[name] != self.valid.get(name, Gone):
                _put(self.root / name, Gone)
        for name in sorted(self.valid):
            if now.get(name, Gone) != self.valid[name]:
                _put(self.root / name, self.valid[name])


def command(words: Sequence[str]) -> Ended:
    """A command in this process, its output as strict as that of a real one."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    code, error = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main(args=list(words), prog_name="harness")
        except SystemExit as end:
            code = end.code or 0
        except BaseException as raised:
            error = raised
    said = []
    for stream in (out, err):
        stream.flush()
        said.append(stream.buffer.getvalue().decode("utf-8"))
    return Ended(code, *said, error)


def _process(words: Sequence[str], tmp: Path) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words], capture_output=True, env=os.environ | {"TMPDIR": str(tmp)}
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def _said(ended: Ended) -> Iterator[str]:
    """What is wrong with how a command ended."""
    if ended.error is not None:
        frames = traceback.extract_tb(ended.error.__traceback__)
        ours = [frame for frame in frames if "/harness/" in frame.filename or "/plugins/" in frame.filename]
        last = ours[-1] if ours else frames[-1]
        yield f"traceback: {type(ended.error).__name__} in {Path(last.filename).name}, {last.name}"
    if "Traceback (most recent call last)" in ended.out + ended.err:
        yield f"traceback: {ended.err.splitlines()[-1][:100]!r}"
    if ended.code not in (0, 1, 2):
        yield f"exit code {ended.code}"
    if ended.code == 2:
        # click says how a command is used before it says what is wrong.
        lines = [one for one in ended.err.split("\n") if one and not one.startswith(("Usage: harness", "Try 'harness"))]
        if not lines or not lines[-1].startswith(("harness: ", "Error: ")):
            yield f"no clear line, but {lines[-1:]}"
        elif not lines[-1].isprintable():
            yield f"a line with what does not show: {re.sub('[^ -~]', '?', lines[-1])[:60]}"
        elif len(lines[-1]) > 4000:
            yield f"a line of {len(lines[-1])} characters"


def _trace(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_tb(error.__traceback__)[-4:]) + reprlib.repr(error)


def _may_write(words: Sequence[str]) -> list[str]:
    """The folders that a command may write to."""
    given = dict(pairwise(words))  # of an option that is given twice, the last counts
    if words and words[0] in ("run", "rescore"):
        return [given.get("--results", "results")]
    if words and words[0] == "leaderboard" and "--out" in words and "--check" not in words:
        return [given["--out"]]
    return ["."] if words and words[0] == "new" else []


PICKLE = "a pickle"
_written: list[str] | None = None


def _audit(event: str, args: tuple) -> None:
    if _written is None:
        return
    if event == "pickle.find_class":  # the one event of a pickle that can do anything
        _written.append(PICKLE)
    elif event == "open":
        path, _, flags = args
        if isinstance(path, str | bytes) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _written.append(os.path.realpath(os.fsdecode(path)))
    elif event in ("os.mkdir", "os.remove", "os.rmdir"):
        _written.append(os.path.realpath(os.fsdecode(args[0])))
    elif event == "os.rename":
        _written.extend(os.path.realpath(os.fsdecode(path)) for path in args[:2])


sys.addaudithook(_audit)  # for good, but idle outside of `_writes`


@contextlib.contextmanager
def _writes() -> Iterator[list[str]]:
    """Every path that this process opens for writing, makes, moves or removes meanwhile; `PICKLE` if it opens one."""
    global _written
    _written = found = []
    try:
        yield found
    finally:
        _written = None
        found[:] = [path for path in found if path != os.devnull]


def _look(root: Path) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isdir(path):
                found[key] = None
            else:
                with open(path, "rb") as file:
                    found[key] = file.read()
    return found


def _put(path: Path, content: Content | type) -> None:
    """Make a place be something else."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir() and content is not None:
        shutil.rmtree(path)
    if content is Gone:
        return
    for parent in path.parents:
        if parent.is_symlink() or parent.is_file():
            parent.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir(exist_ok=True)
    elif isinstance(content, str):
        path.symlink_to(content)
    else:
        path.write_bytes(content)


def _furnish() -> None:
    """Fill the current folder."""
    matplotlib.get_configdir()
    params = (
        "class Params(harness.Params):\n        k: int = 3\n        word: str = ''\n        anything: object = None\n"
    )
    mean = plugin("mean", body=f"{params}    scoring = ('k',)")
    labelled = plugin("labelled", uses_labels=True)
    plugin("sad", fit="raise RuntimeError('no luck')")
    write_toml("recipe.toml", {"network": "two-conv", "lr": 0.1, "epochs": 1, "batch": 10})
    cases = {"a": case(["0", "1"], near=["2"], far=["patches"]), "b": case([["3", "4"], "5"], "6")}
    cases["b"]["params"] = {"mean": {"anything": 1}}
    more = {"table": {"title": "Table 0", "columns": [{"method": "mean", "score": "L2", "head": "Mean"}]}}
    named(cases, **more)
    growing = {
        "name": "grows",
        "title": "t",
        "source": "s",
        "form": "growing",
        "table": {"title": "T", "average": True},
    }
    write_toml("grows.toml", growing | {"dataset": {"digits": {"order": "0,1", "anomaly": "2,3"}}})
    words = ("--method", f"{mean},{labelled},sad.py", "--seed", "0,1")
    assert command(("run", "--protocol", "mine.toml,grows.toml", *words)).code == 1
    words = ("--protocol", "test2", "--case", "1,2", "--method", f"{mean},{labelled}", "--seed", "0,1")
    assert command(("run", *words)).code == 0
    store = Store(Path("results"))
    for path in (file for record in store.records() if record.protocol == "test2" for file in store.files(record)):
        place = Path("published", path.relative_to("results"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for form in ("md", "csv"):  # by hand, without figures: they take long to draw
        table = command(("leaderboard", "--protocol", "test2", "--format", form)).out
        Path(f"published/test2-digits-small.{form}").write_text(table, encoding="utf-8")
    assert command(("leaderboard", "--check", "--out", "published")).code == 0
    folders = [f"{split}/{name}" for split in ("train", "val") for name in "01"]
    for suffix in (".png", ".jpg", ".webp"):
        write_pictures(Path("pictures", suffix[1:]), dict.fromkeys(folders, 3), suffix=suffix)
    write_mnist(Path("data"), 4, 4, packed=True)
    for kind in (10, 100):
        write_cifar(Path("data"), tuple("abc"), kind, 2)
    for name in ("png", "webp"):
        assert command(_on_pictures(name)).code == 0
    np.save("object.npy", np.array([Path()], dtype=object), allow_pickle=True)


def _on_pictures(name: str) -> tuple[str, ...]:
    words = ("run", "--protocol", "pictures.toml", "--dataset", "folder", "--set", f"folder.path=../pictures/{name}")
    named({"a": case(["0"], "1")}, "pictures", "folder")
    return (*words, "--method", "mean.py", "--recipe", "recipe.toml")
