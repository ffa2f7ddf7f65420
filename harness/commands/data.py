"""The commands for data sets: `harness data list`, `harness data fetch` and `harness data verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.completion import plugin_names
from harness.commands.listing import rows_of
from harness.commands.options import data_option, options, plugin_option, settings_option
from harness.errors import DataMissing

if TYPE_CHECKING:
    from harness.dataset import Dataset
    from harness.plugins import Plugins

AT_ONCE = 10
"""Classes."""
chosen = options(
    click.argument("name", shell_complete=plugin_names("dataset")), settings_option, data_option, plugin_option
)


@click.group(short_help="Data sets: list, fetch and verify them.")
def data() -> None:
    """Data sets: which there are, fetch them, see that they are whole."""


@data.command("list")
@plugin_option
def list_(plugin_paths: tuple[Path, ...]) -> None:
    """The data sets that there are.

    \b
    harness data list
    """
    for row in rows_of("datasets", plugin_paths):
        click.echo(f"{row['name']}\n    {row['summary']}")


@data.command()
@chosen
def fetch(name: str, settings: tuple[str, ...], data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """Download a data set into the data folder.

    \b
    harness data fetch mnist --data ~/data
    """
    from harness.dataset import Dataset
    from harness.plugins import Plugins

    plugins = Plugins(plugin_paths)
    dataset = _dataset(name, settings, data, plugins)
    if type(dataset).fetch is Dataset.fetch:
        click.echo(f"{name}: there is nothing to download; harness show {name} says where it comes from", err=True)
    with plugins.blame("dataset", name, "fetch"):
        dataset.fetch()
    _verify(dataset, plugins)


@data.command()
@chosen
def verify(name: str, settings: tuple[str, ...], data: Path, plugin_paths: tuple[Path, ...]) -> None:
    """Load a data set, and say how many images there are, and how many of the test images are training images, too.
    Pictures are decoded and kept, as a run does with those of its classes: for all of ImageNet that takes hours, and
    260 GB.

    \b
    harness data verify mnist --data ~/data
    harness data verify folder --set folder.path=/my/pictures
    """
    from harness.plugins import Plugins

    plugins = Plugins(plugin_paths)
    _verify(_dataset(name, settings, data, plugins), plugins)


def _dataset(name: str, settings: Iterable[str], data: Path, plugins: Plugins) -> Dataset:
    from harness.settings import check_owners, parse_settings
    from harness.spec import check

    parsed = parse_settings(settings)
    cls = plugins.get("dataset", name)
    check_owners(parsed, [name])
    return plugins.dataset(name, data, check(cls.Params, parsed.get(name, {}), f"--set {name}"))


def _verify(dataset: Dataset, plugins: Plugins) -> None:
    from harness.dataset import loaded

    known: set[bytes] = set()
    repeated = 0
    for split in ("train", "test"):
        with plugins.blame("dataset", dataset.name, "classes_in"):
            classes = dataset.classes_in(split)
        if not classes:
            raise DataMissing(f"{dataset.name}: no class has images in the split {split!r}")
        shapes, images, found = {}, 0, 0
        # Some classes at a time: all of ImageNet is more than memory holds.
        for first in range(0, len(classes), AT_ONCE):
            with plugins.blame("dataset", dataset.name, "load"):
                some, labels = loaded(dataset, split, classes[first : first + AT_ONCE])
                shapes[" x ".join(map(str, some.shape[1:]))] = None
                images, found = images + len(some), found + len(labels.unique())
                digests = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in some.numpy()]
                if split == "train":
                    known.update(digests)
                else:
                    repeated += sum(digest in known for digest in digests)
        click.echo(f"{dataset.name} {split}: {images} images of {' and '.join(shapes)}, {found} classes")
    if repeated:
        click.echo(f"{dataset.name}: {repeated} of the test images are training images, too")
