"""Which code a number was made with: the commit of the checkout, and whether it was changed since."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import provenance

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="there is no git")


def git(*words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *who, *words], env=os.environ | alone, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(here, monkeypatch) -> str:
    """A checkout that the harness seems to run from, as the current folder; its commit."""
    own = here / "harness" / "provenance.py"
    own.parent.mkdir()
    own.write_text("committed\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "All there is")
    monkeypatch.setattr(provenance, "__file__", str(own))
    return git("rev-parse", "HEAD")


def told() -> tuple[str | None, bool | None]:
    return provenance._commit.__wrapped__()  # what it has found is kept otherwise


def test_a_clean_checkout_is_its_commit(checkout):
    assert told() == (checkout, False)


@pytest.mark.parametrize("staged", [False, True])
def test_an_edited_one_is_said_to_be_changed(checkout, staged):
    Path("harness/provenance.py").write_text("edited\n")
    if staged:
        git("add", ".")
    assert told() == (checkout, True)


def test_files_that_are_not_part_of_it_change_nothing(checkout):
    Path("results.json").touch()
    assert told() == (checkout, False)


def test_an_installed_harness_within_a_checkout_is_not_of_its_commit(checkout, monkeypatch):
    installed = Path("site-packages/harness/provenance.py").absolute()
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert told() == (None, None)


def test_without_a_checkout_or_git_nothing_is_told(here, checkout, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "")
        assert told() == (None, None)
    monkeypatch.setattr(provenance, "__file__", str(here.parent / "provenance.py"))
    assert told() == (None, None)
