"""CIFAR-10 and CIFAR-100, through torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import harness

if TYPE_CHECKING:
    from torch import Tensor

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


class _Cifar(harness.Dataset):
    """50 000 + 10 000 colour images of 32 x 32 pixels (Krizhevsky, 2009).

    The files are pickles, which could run anything when opened: torchvision opens none before all of them have their
    published MD5.
    """

    torchvision_name: ClassVar[str]
    archive_md5: ClassVar[str]

    def revision(self) -> str:
        return f"original/md5-{self.archive_md5}"

    def load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        self.check_classes(classes)
        import torch

        try:
            source = self._source()(self.root, train=split == "train")
        except (OSError, RuntimeError):
            raise harness.DataMissing(f"{self.name}: {self._problem()}") from None
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2)
        return self.select(images, torch.tensor(source.targets), classes)

    def require(self, train: tuple[str, ...], test: tuple[str, ...]) -> None:
        if self._bad_files():
            raise harness.DataMissing(f"{self.name}: {self._problem()}")

    def fetch(self) -> None:
        """Download and unpack the archive, unless all of its files are there."""
        try:
            self._source()(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise harness.DataMissing(f"{self.name}: the download failed: {error}; {self._problem()}") from None

    def _source(self) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, self.torchvision_name)

    def _problem(self) -> str:
        source, bad = self._source(), ", ".join(self._bad_files())
        return (
            f"not there or not as published in {self.root / source.base_folder}: {bad}; run `harness data fetch "
            f"{self.name} --data {self.root}`, or unpack {source.filename} into {self.root}"
        )

    def _bad_files(self) -> list[str]:
        from torchvision.datasets.utils import check_integrity

        source = self._source()
        files = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        return [name for name, md5 in files if not check_integrity(self.root / source.base_folder / name, md5)]


class Cifar10(_Cifar):
    """50 000 + 10 000 colour images of 32 x 32 pixels in 10 classes (Krizhevsky, 2009)."""

    name = "cifar10"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    torchvision_name = "CIFAR10"
    archive_md5 = "c58f30108f718f92721af3b95e74349a"


class Cifar100(_Cifar):
    """50 000 + 10 000 colour images of 32 x 32 pixels in 100 classes (Krizhevsky, 2009)."""

    name = "cifar100"
    classes = tuple(CIFAR100_CLASSES.split())
    torchvision_name = "CIFAR100"
    archive_md5 = "eb9058c3a382ffc7106e4002c42a8d85"


@harness.hookimpl
def register_datasets(register):
    register(Cifar10)
    register(Cifar100)
