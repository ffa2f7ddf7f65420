"""Archives of arrays (.npz) whose bytes depend on the arrays alone, and that are read fast."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an archive as `npz` makes it. Of other bytes it raises almost anything."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name.removesuffix(".npy"): _array(file.read(name)) for name in file.namelist()}


@lru_cache(maxsize=256)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the type that the header of a .npy file declares: numpy runs it through Python's own parser, which
    takes longer than all else. The files of a study have a few different ones."""
    import numpy as np

    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _array(data: bytes) -> np.ndarray:
    """The array of a .npy file as `npz` writes it."""
    import numpy as np

    start = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype = _header(data[:start])
    return np.frombuffer(data, dtype, offset=start).reshape(shape).copy()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed .npz whose bytes depend on the arrays alone (numpy's own stamps the time)."""
    import numpy as np

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()
