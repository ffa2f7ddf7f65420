"""The guides: every block of code in them is run, in the order of its page, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import harness, plugin

from harness.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("--set", "recipe.epochs=2")
INSTEAD = ("--dataset mnist", "--dataset digits")
"""There is no MNIST where the tests run."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(here, page):
    if page.stem == "publish":
        plugin("mine")
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for language, file, text in blocks:
        if language in ("python", "toml"):
            assert file, f"{page.name}: name the file of the block that begins with {text[:40]!r}"
            Path(file).write_text(text, encoding="utf-8")
        elif language == "console":
            for line in text.splitlines():
                command(line.replace(*INSTEAD))
        else:
            assert language == "bash"
            bash(text)


def test_the_method_in_the_readme_keeps_to_the_contract(here):
    """Its other blocks set machines up, or train for long."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (text,) = (text for language, _, text in BLOCK.findall(readme) if language == "python")
    Path("mean_image.py").write_text(text, encoding="utf-8")
    lines = re.findall(r"`uv run (harness (?:run|check) [^`]*\./mean_image\.py[^`]*)`", " ".join(readme.split()))
    assert len(lines) == 2
    for line in lines:
        command(line.replace(",subcluster", ""))


def command(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "pytest":
        apart = ("-q", "-p", "no:cacheprovider", "--import-mode", "importlib", "-c", os.devnull, "--rootdir", ".")
        assert pytest.main([*words, *apart]) == 0
    elif program == "python":
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        assert subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True).stdout
    else:
        assert program == "harness"
        trains = words[0] == "run" and "rotnet" not in line and "epochs" not in line
        found = harness(*words, *(QUICK if trains and "subcluster" in line else ()))
        assert found.out


def bash(text: str, *more: str) -> str:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-euc", text + "\n" + "\n".join(more)]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout


def test_the_shell_completes_commands():
    (line,) = (text for language, _, text in BLOCK.findall((DOCS / "README.md").read_text()) if language == "bash")
    out = bash(line, "COMP_WORDS=(harness le) COMP_CWORD=1", "_harness_completion harness", 'echo "${COMPREPLY[@]}"')
    assert out.split() == ["leaderboard"]
    words = "COMP_WORDS=(harness run --protocol test2 --method subcluster,rot) COMP_CWORD=5"
    out = bash(line, words, "_harness_completion harness", 'echo "${COMPREPLY[@]}"')
    assert out.split() == ["subcluster,rotnet"]


def test_every_page_is_in_the_list_of_guides_and_every_link_leads_somewhere():
    listed = (DOCS / "README.md").read_text()
    for page in PAGES:
        assert page.stem == "README" or f"({page.name})" in listed
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_contract_page_names_every_check():
    from harness.testing import datasets, methods

    text = (DOCS / "contract.md").read_text().partition("Checked in seconds")[2]
    parts = text.split("For a data set:")
    for part, module in zip(parts, (methods, datasets), strict=True):
        assert [check.__name__ for check in module.CHECKS if f"`{check.__name__}`" not in part] == []


def commands(group=main, before=()):
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*before, name))
        else:
            yield (*before, name)


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_the_help_of_every_command_shows_an_example(words):
    text = harness(*words, "--help").out
    assert re.search(rf"^  harness {' '.join(words)}\b", text, re.MULTILINE), text
