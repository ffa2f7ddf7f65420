"""What all tests share: each starts in an empty folder, where results/ and data/ are by default."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, on a machine as slow as it may be; `--hypothesis-profile default` draws others.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


def pytest_addoption(parser):
    parser.addoption("--gpu", action="store_true", help="let the tests see the machine's GPUs")


def pytest_configure(config):
    """One thread trains faster on images of 8 x 8 pixels than many, and keeps `harness run` in the test's own process.
    Before torch is imported, for subprocesses too; of benchmarks it is only the default. Tests say what happens on a
    processor, whatever else the machine has."""
    if not _benchmarks(config):
        os.environ["OMP_NUM_THREADS"] = "1"
        if not config.getoption("gpu"):
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers(config):
    """As many as there are cores, up to four: each takes a gigabyte. None for benchmarks, which are timed alone."""
    return 0 if _benchmarks(config) else min(os.cpu_count() or 1, 4)


def _benchmarks(config):
    return any("benchmarks" in str(argument) for argument in config.args)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one during the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def run_here(tmp_path_factory):
    """Likewise for fixtures of a wider scope: a context manager that makes an empty folder the current one."""
    import contextlib

    @contextlib.contextmanager
    def enter(name: str):
        folder = tmp_path_factory.mktemp(name)
        with contextlib.chdir(folder):
            yield folder

    return enter


@pytest.fixture(scope="session")
def published_folder(run_here):
    from published_folder import publish_some

    with run_here("published"):
        return publish_some()


@pytest.fixture
def leaderboard(published_folder, here):
    """A small published folder, to be changed, where `harness leaderboard` looks for it."""
    return Path(shutil.copytree(published_folder, "leaderboard"))
