"""MNIST, from its four original files."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from torch import Tensor

# The MD5 of the unpacked files. torchvision knows those of the packed ones only.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class Mnist(harness.Dataset):
    """60 000 + 10 000 handwritten digits of 28 x 28 grey pixels (LeCun et al., 1998).

    Read from `MNIST/raw/` under `--data`, where torchvision keeps them, packed (.gz) or not. Packed files are unpacked
    in memory: the folder may be read-only, and workers that start together never meet a half-written file.
    """

    name = "mnist"
    classes = tuple("0123456789")
    thumbnails = "MNIST by Yann LeCun and Corinna Cortes, CC BY-SA 3.0"

    def revision(self) -> str:
        return "original/md5-" + "-".join(md5[:8] for md5 in FILES.values())

    def load(self, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        self.check_classes(classes)
        part = "train" if split == "train" else "t10k"
        images = _tensor(self._content(f"{part}-images-idx3-ubyte"))
        targets = _tensor(self._content(f"{part}-labels-idx1-ubyte"))
        return self.select(images[:, None], targets.long(), classes)

    def require(self, train: tuple[str, ...], test: tuple[str, ...]) -> None:
        for name in FILES:
            self._content(name)

    def fetch(self) -> None:
        """Download what is not there, or unpack it if the .gz are; then check every file."""
        from torchvision.datasets import MNIST

        try:
            MNIST(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise harness.DataMissing(f"mnist: the download failed: {error}; {self._mend()}") from None
        self.require((), ())

    def _content(self, name: str) -> bytes:
        """The bytes of one unpacked file, if they are the original ones."""
        path = self.root / "MNIST" / "raw" / name
        packed = path.with_name(name + ".gz")
        for file in (path, packed):
            content = _read(file)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == FILES[name]:
                return content
        damaged = [str(file) for file in (path, packed) if file.exists()]
        state = f"{' and '.join(damaged)} not as published: delete, then" if damaged else f"no {path} (or .gz):"
        raise harness.DataMissing(f"mnist: {state} {self._mend()}")

    def _mend(self) -> str:
        return (
            f"run `harness data fetch mnist --data {self.root}`, or put {', '.join(FILES)} (or their .gz) "
            f"into {self.root / 'MNIST' / 'raw'}"
        )


def _read(path: Path) -> bytes:
    """A file's bytes, unpacked; none if it is not there, or is no whole .gz."""
    if not path.is_file():
        return b""
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return b""


def _tensor(content: bytes) -> Tensor:
    """An IDX file of bytes: two zeros, the type 8, the number of dimensions, each as a big-endian int32, the values."""
    import torch

    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)


@harness.hookimpl
def register_datasets(register):
    register(Mnist)
