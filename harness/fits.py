"""The fits of a results folder: what was trained, to be scored again; who trains what; and how trainings failed.

fits/<fit>.json, fits/<fit>.safetensors    a finished fit: what it is, and what it learnt
checkpoints/<fit>-…/                       half a fit, while it is trained
claims/<fit>.lock                          locked by the process that carries the fit out, if one does
failures/<fit>.txt                         the traceback of a fit that failed

Every file is written beside its place and moved there in one step, and a fit without its tensors is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from harness.files import finishing, locked, sha256, write_whole
from harness.provenance import Provenance
from harness.spec import Spec, as_json, digest

if TYPE_CHECKING:
    from torch import Tensor


class KeptFit(Spec):
    """What a finished fit was, and how it went; the tensors that it learnt are in a file beside this."""

    fit: dict[str, Any]
    task: dict[str, Any]
    digests: dict[str, str]
    sha256: str = ""
    """Of the tensors' file."""
    on_cpu: tuple[str, ...] = ()
    """Of a fit that was trained on another device, the tensors that a method kept on the CPU, where its images are."""
    seconds: float
    images_per_second: float | None = None
    peak_memory_mib: float | None = None
    diagnostics: dict[str, float] = Field(default_factory=dict)
    numerics: dict[str, str | int | float | bool] = Field(default_factory=dict)
    provenance: tuple[Provenance, ...] = ()
    """What it was trained with: more than one where it went on with another commit or on another machine; none in fits
    from before this was kept."""


class NotKept(Exception):
    """What a fit has learnt can't be read, and it is not to be trained anew."""


FitFiles = tuple[bytes, bytes]
"""The two files of a finished fit, as they are."""


class Fits:
    """The fits of the results folder `root`, by their identity."""

    def __init__(self, root: Path):
        self.root = root

    def keep(self, identity: str, kept: KeptFit, state: Mapping[str, Tensor]) -> None:
        """Keep what a fit learnt, so that it can be scored again without training."""
        from safetensors.torch import save

        # Cloned, since the format has no word for tensors that share memory.
        data = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()})
        on_cpu = tuple(name for name, tensor in state.items() if tensor.device.type == "cpu")
        elsewhere = kept.numerics.get("device", "cpu") != "cpu"
        kept = kept.model_copy(update={"sha256": sha256(data), "on_cpu": on_cpu if elsewhere else ()})
        self.put_files(identity, (as_json(kept), data))

    def put_files(self, identity: str, files: FitFiles) -> None:
        """Keep the two files of a fit as they are."""
        path, (about, tensors) = self._path(identity), files
        with finishing():
            write_whole(path.with_suffix(".safetensors"), tensors)
            write_whole(path, about)

    def has(self, identity: str, digests: dict[str, str] | None = None) -> bool:
        """Whether a finished fit is kept: any, or one of these digests. What it learnt is not looked at."""
        path = self._path(identity)
        try:
            there = path.exists() and path.with_suffix(".safetensors").exists()
            return there and (not digests or KeptFit.model_validate_json(path.read_bytes()).digests == digests)
        except (OSError, ValidationError):
            return False

    def files(self, identity: str) -> FitFiles | None:
        """The two files of a fit as they are, or None if there are none."""
        path = self._path(identity)
        try:
            return path.read_bytes(), path.with_suffix(".safetensors").read_bytes()
        except OSError:
            return None

    def checkpoints(self, identity: str, digests: dict[str, str]) -> Path:
        """The folder for checkpoints of a fit: another one once its method or data have changed."""
        return self.root / "checkpoints" / f"{identity}-{digest(digests)[:8]}"

    def find(self, identity: str, digests: dict[str, str]) -> tuple[KeptFit, dict[str, Tensor]] | None:
        """A finished fit and what it learnt; None if there is none of these digests, or a damaged one."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            about, data = self.files(identity) or (b"", b"")
            kept = KeptFit.model_validate_json(about)
            return (kept, load(data)) if kept.digests == digests and kept.sha256 == sha256(data) else None
        except (ValidationError, SafetensorError):
            return None

    def claim(self, identity: str) -> AbstractContextManager[bool]:
        """Whether a fit is ours to carry out: False while another process is at it.

        The system holds the claim, so a process that dies gives its claims back.

        Raises:
            Unwritable: the folder takes no claims.
        """
        return locked(self.root / "claims" / f"{identity}.lock")

    def failure(self, identity: str) -> Path:
        """Where the traceback of a fit that failed is."""
        return self.root / "failures" / f"{identity}.txt"

    def keep_failure(self, identity: str, traceback: str) -> None:
        write_whole(self.failure(identity), traceback.encode(errors="backslashreplace"))

    def _path(self, identity: str) -> Path:
        """Of what a fit was; its tensors have the same name with another ending."""
        return self.root / "fits" / f"{identity}.json"
