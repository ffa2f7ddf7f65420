"""CUDA graphs: a network's kernels, recorded once for a size of batch and from then on launched together.

Launching the kernels of a small network one by one takes Python longer than a GPU takes to carry them out.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.kit.networks import Network

RECORDINGS = 2
"""Of a network, at most: the batches of one training have two sizes at most, which differ by one image."""


@contextmanager
def replayed(module: nn.Module, loss: Callable, wanted: bool) -> Iterator[Callable]:
    """The loss of a training, to be called once for each step; inside, what it calls of `module` is replayed.

    That are the harness's own networks: what a plugin's does may depend on more than the size of a batch. The draws of
    dropout go on as if nothing had been recorded.
    """
    networks = [part for part in module.modules() if isinstance(part, Network) and part.replayable] if wanted else []
    calls = [_Call(network) for network in networks]

    def step(batch: Tensor, index: Tensor):
        for call in calls:
            call.free = True
        return loss(batch, index)

    try:
        for call in calls:
            call.network.forward = call
        with warnings.catch_warnings():
            # Recorded on a stream of its own; that a replay has to wait for it costs next to nothing.
            warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
            yield step
    finally:
        for call in calls:
            del call.network.forward
            call.recorded.clear()
        if calls:
            gc.collect()  # recordings hold one another, and much of the GPU's memory; a forked process can't free them


class _Call:
    """Stands in for a network's forward.

    A replay writes where the one before it has written, which the backward pass has yet to read: the second call of a
    step, like any that is no plain training call, is not replayed. Nor does a replay see what a plugin changes about
    the network, or call its hooks: what is changed is recorded again, and a network with hooks is not.
    """

    def __init__(self, network: Network):
        self.network, self.plain = network, network.forward
        self.recorded: dict[tuple, Callable[[Tensor], Tensor]] = {}
        self.free = True

    def __call__(self, x: Tensor) -> Tensor:
        plain_training = self.network.training and torch.is_grad_enabled() and not x.requires_grad
        state = _state(self.network) if self.free and plain_training else None
        if state is None:
            return self.plain(x)
        key = x.shape, x.dtype, torch.is_autocast_enabled(x.device.type), state
        if key not in self.recorded:
            if len(self.recorded) == RECORDINGS:
                return self.plain(x)
            self.recorded[key] = self._record(x)
        self.free = False
        return self.recorded[key](x).clone()  # whoever keeps it finds it unchanged after the next replay

    def _record(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        state = [buffer.clone() for buffer in self.network.buffers()]
        self.network.forward = self.plain
        try:
            return record(self.network, x)
        finally:
            self.network.forward = self
            for buffer, before in zip(self.network.buffers(), state, strict=True):
                buffer.data.copy_(before)  # by `data`: an earlier call of the step may still have to go backward


def _state(network: nn.Module) -> tuple | None:
    """What a recording takes for granted: its parts, their tensors, and which of these are trained. None if there are
    hooks."""
    found = []
    for part in network.modules():
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            return None
        tensors = (*part._parameters.values(), *part._buffers.values())
        held = [(id(one), one.data_ptr(), one.requires_grad) for one in tensors if one is not None]
        found.append((id(part), part.training, *held))
    return tuple(found)


def record(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of batches like `x` that replays the network on a GPU, forward and backward.

    It runs the network several times, which changes its buffers; the random state of the GPU is left as it was.
    """
    half, kind = torch.is_autocast_enabled(x.device.type), x.device.type
    random = torch.cuda.get_rng_state(x.device)
    with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=half, cache_enabled=False):
        torch.cuda.make_graphed_callables(network, (torch.empty_like(x).copy_(x),))
    torch.cuda.set_rng_state(random, x.device)
    return network.forward
