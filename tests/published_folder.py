"""A small published folder, and what tests of it have in common; see the fixture `leaderboard`."""

from __future__ import annotations

from pathlib import Path

from tiny import harness, plugin

TEST2 = ("--protocol", "test2", "--case", "1,2", "--seed", "0,1")


def publish_some() -> Path:
    """The tables of a method, and of one that is skipped on a single class."""
    harness("run", *TEST2, "--method", f"{plugin()},subcluster", "--set", "subcluster.epochs=1")
    harness("leaderboard", "--out", "published")
    return Path("published").absolute()


def check(code: int = 0) -> str:
    """What is said of the folder leaderboard/."""
    return harness("leaderboard", "--check", code=code).out


def edit(path: Path, *replaced: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


def a_record(folder: Path) -> Path:
    return sorted(folder.glob("records/test2/digits/mean-image/*.json"))[0]


def contents(folder: Path, *endings: str) -> dict[Path, bytes]:
    """Of the files below a folder: of all, or of those that have one of the endings."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix in endings or not endings}
