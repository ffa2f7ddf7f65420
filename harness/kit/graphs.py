"""CUDA graphs: a network's kernels, recorded once for a size of batch and from then on launched together.

Launching the kernels of a small network one by one takes Python longer than a GPU takes to carry them out.
"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.kit import FASTER_BY_DEFAULT
from harness.kit.networks import Network

RECORDINGS = 2
"""Of a network, at most: the batches of one training have two sizes at most, which differ by one image."""
STEADY = {"harness", "timm", "torch"}
"""Packages whose modules do the same in every call; what a plugin's do may change from call to call."""
PLAIN = (bool, int, float, str)


class Replays:
    """The loss of a training, to be called once for each step.

    In a `with` block, the calls that it makes of the bundled networks in a module are replayed, if that is wanted. The
    draws of dropout are those that there would have been.
    """

    def __init__(self, module: nn.Module, loss: Callable, wanted: bool):
        networks = [part for part in module.modules() if isinstance(part, Network) and part.replayable]
        untouched = [one for one in networks if "forward" not in vars(one) and one._compiled_call_impl is None]
        self.loss, self.calls = loss, [_Call(network) for network in untouched if wanted]
        self.quiet = warnings.catch_warnings() if self.calls else nullcontext()

    def __call__(self, batch: Tensor, index: Tensor):
        for call in self.calls:
            call.step += 1
        return self.loss(batch, index)

    def __enter__(self) -> Replays:
        self.quiet.__enter__()
        for call in self.calls:
            # Recorded on a stream of its own: that it has to be waited for costs next to nothing.
            warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
            call.network.forward = call
        return self

    def __exit__(self, *error) -> None:
        for call in self.calls:
            del call.network.forward
            call.recorded.clear()
        self.quiet.__exit__(*error)
        if self.used:
            gc.collect()  # recordings are part of cycles, and hold memory of the GPU; a forked process can't free them

    @property
    def used(self) -> bool:
        """Whether anything was replayed."""
        return any(call.used for call in self.calls)

    @property
    def refusal(self) -> str:
        """Why a network could not be recorded; empty if none was refused."""
        return next((call.refusal for call in self.calls if call.refusal), "")


class _Call:
    """Stands in for a network's forward.

    A replay writes where the one before it has written, which the backward pass has yet to read: only the first call of
    a step is replayed, and its result goes backward once. Nor does a replay see what a plugin changes about the
    network, or call its hooks: what is changed is recorded anew (`RECORDINGS` in all), what has hooks is not.
    """

    def __init__(self, network: Network):
        self.network, self.plain = network, network.forward
        self.recorded: dict[tuple, Callable[[Tensor], Tensor]] = {}
        self.step = 0
        self.last = 0
        """The step of the last call that could go backward."""
        self.used = False
        self.refusal = ""

    def __deepcopy__(self, memo: dict) -> Callable:
        return copy.deepcopy(self.plain, memo)  # a network that is copied meanwhile has its own forward

    def __call__(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.plain(x)
        first, self.last = self.last != self.step, self.step
        replay = self._replay(x) if first and self.network.training and not x.requires_grad else None
        if replay is None:
            return self.plain(x)
        self.used = True
        result = replay(x).clone()  # whoever keeps it finds it unchanged after the next replay
        if result.requires_grad:
            self._once(result)
        return result

    def _replay(self, x: Tensor) -> Callable[[Tensor], Tensor] | None:
        state, kind = _state(self.network), x.device.type
        if state is None or self.refusal:
            return None
        key = x.shape, x.dtype, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind), state
        if key not in self.recorded and len(self.recorded) < RECORDINGS and _is_steady(self.network):
            self._record(key, x)
        return self.recorded.get(key)

    def _record(self, key: tuple, x: Tensor) -> None:
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        self.network.forward = self.plain
        try:
            self.recorded[key] = record(self.network, x)
        except RuntimeError as error:  # of memory, or of a loss that has done something with the network before
            self.refusal = str(error).partition("\n")[0]
            self.recorded.clear()  # nothing is replayed from here on, and they hold much memory
        finally:
            self.network.forward = self
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.data.copy_(before)  # by `data`: an earlier call of the step may still have to go backward

    def _once(self, result: Tensor) -> None:
        """Refuse what would find the numbers of another replay, or get constants for gradients."""
        step, gone = self.step, []

        def check(gradient: Tensor) -> None:
            if gone or step != self.step or torch.is_grad_enabled():
                others = ",".join(name for name in FASTER_BY_DEFAULT if name != "cuda_graphs")
                raise HarnessError(
                    "the loss goes backward twice, or later than in its step, through one call of a network, which a "
                    f"CUDA graph can't: run with --faster-by {others}"
                )
            gone.append(True)

        result.register_hook(check)


def _state(network: nn.Module) -> tuple | None:
    """What a recording takes for granted: the parts of a network, their attributes and tensors, and which of these are
    trained. None if there are hooks."""
    if nn.modules.module._has_any_global_hook():
        return None
    found = []
    for part in network.modules():
        tensors = [one for one in (*part._parameters.values(), *part._buffers.values()) if one is not None]
        hooks = part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks
        if any(hooks) or any(one._backward_hooks for one in tensors):
            return None
        found += [(name, value if isinstance(value, PLAIN) else id(value)) for name, value in vars(part).items()]
        found += [(id(part), id(one), one.data_ptr(), one.requires_grad) for one in tensors]
    return tuple(found)


def _is_steady(network: nn.Module) -> bool:
    return all(type(part).__module__.partition(".")[0] in STEADY for part in network.modules())


def record(network: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of batches like `x` that replays the network on a GPU, forward and backward.

    It runs the network several times, which changes its buffers; the random state of the GPU is left as it was.
    """
    kind, random = x.device.type, torch.cuda.get_rng_state(x.device)
    now = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
    try:
        with torch.cuda.device(x.device), torch.autocast(kind, **now, cache_enabled=False):
            torch.cuda.make_graphed_callables(network, (x.clone(),), allow_unused_input=True)
    finally:
        torch.cuda.set_rng_state(random, x.device)
    return network.forward
