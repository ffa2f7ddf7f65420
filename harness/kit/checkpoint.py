"""Half a training on disk: weights, optimiser and random state, so that it goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor, nn

from harness.files import write_whole

SHA256 = hashlib.sha256().digest_size
"""Bytes at the beginning of the file: the digest of the rest, which is in the safetensors format."""
WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of labels."""
PLAIN = "plain values"
"""The tensor that holds what is no tensor, as JSON."""


def closed_over(function: Callable[..., Any]) -> str:
    """A digest of the tensors of whole numbers that a function closes over, such as the labels of a loss.

    Labels that were found by k-means are found again before a training goes on: where rounding differs from the first
    time, on another device, say, they may be others, and then the weights are of another task. (Real numbers may differ
    by rounding alone.)
    """
    found = hashlib.sha256()
    for cell in getattr(function, "__closure__", None) or ():
        try:
            value = cell.cell_contents
        except ValueError:  # nothing was assigned to it
            continue
        if isinstance(value, Tensor) and value.dtype in WHOLE and value.layout == torch.strided:
            found.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.cpu().numpy().tobytes())
    return found.hexdigest()


def save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any], of: str) -> None:
    """Write a checkpoint beside its place, and move it there in one step.

    Args:
        progress: plain data, such as the number of epochs done, that `load` gives back.
        of: which training this is half of, beside its network: what its loss closes over, and its numerics.
    """
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    kind, keys, *rest = np.random.get_state()
    tensors["random.numpy"] = torch.from_numpy(keys.astype(np.int64))
    tensors["random.torch"] = torch.get_rng_state()
    device = _device(module)
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    plain = json.dumps({"progress": progress, "of": of, "python": random.getstate(), "numpy": [kind, *rest]})
    tensors[PLAIN] = torch.frombuffer(bytearray(plain.encode()), dtype=torch.uint8)
    # Cloned, since the format has no word for tensors that share memory, as tied weights do.
    data = serialize({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    write_whole(path, hashlib.sha256(data).digest() + data)


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, of: str) -> dict[str, Any] | None:
    """Put everything back as it was when `path` was saved, and return its `progress`.

    None, with nothing changed, if there is no file to read, it is damaged, or it is of another training or network.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    sha256, data = content[:SHA256], content[SHA256:]
    if hashlib.sha256(data).digest() != sha256:
        return None
    tensors = deserialize(data)
    plain = json.loads(bytes(tensors.pop(PLAIN).tolist()))
    weights = _under(tensors, "module.")
    if plain.get("of") != of or _shapes(weights) != _shapes(module.state_dict()):
        return None
    module.load_state_dict(weights)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimizer.").items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            # Laid out in memory as the parameter is: fused optimisers go through both side by side.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    version, keys, gauss = plain["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, *rest = plain["numpy"]
    np.random.set_state((kind, tensors["random.numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(tensors["random.torch"])
    device = _device(module)
    if device.type == "cuda" and "random.cuda" in tensors:  # whatever number that GPU had
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return plain["progress"]


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
