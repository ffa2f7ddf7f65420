"""The networks' methods on a GPU that is only pretended: everything that they compute with has to be there.

PyTorch's fake tensors have a device and a shape, but no values, and refuse to meet one of another device. They can't go
backward without a real GPU: gradients are left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
import torch
from tiny import DISTANCE, MEAN, plugin, records
from tiny import harness as command
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

import harness
from harness.fitting import task_of
from harness.kit import numerics
from harness.plugins import Plugins
from harness.recipe import read_recipe

GPU = "cuda:0"
PLUGINS = Plugins()


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 64 GiB that computes in bfloat16."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**36, 2**36))
    # Uncached, so that no earlier answer is taken, and what is pretended is not kept.
    monkeypatch.setattr(numerics, "has_bfloat16", numerics.has_bfloat16.__wrapped__)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(torch.autograd, "grad", no_gradient)
    monkeypatch.setattr(Tensor, "backward", on_gpu)
    monkeypatch.setattr(FakeTensor, "tolist", lambda values: [0.5] * len(values))


# --- a GPU that answers no more --------------------------------------------------------------------------------------


@pytest.fixture
def lost(monkeypatch):
    """A GPU that something can be recorded of, and that is lost, as by a failed assertion, while a file `lost` is
    there."""

    def synchronize(device):
        if Path("lost").exists():
            raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr("harness.machine.every_device", lambda wanted: [GPU])
    monkeypatch.setattr("harness.run.provenance", lambda device: {})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)


LOSES = "from pathlib import Path; Path('lost').touch(); raise RuntimeError('CUDA error: device-side assert')"
FIRST = f"if self.seed == 0:\n            {LOSES}\n        "
BROKEN = {
    "training": {"fit": f"self.seed = run.seed\n        {FIRST}{MEAN}"},
    "scoring": {"fit": f"self.seed = run.seed; {MEAN}", "score": f"{FIRST}{DISTANCE}"},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_gpu_that_answers_no_more_ends_the_run_and_costs_one_fit(here, lost, broken):
    words = ("run", "--protocol", "test2", "--case", "2", "--method", plugin(**broken), "--seed", "0,1,2")
    found = command(*words, code=1)
    assert found.err.splitlines()[-1] == (
        "harness: cuda:0 answers no more since mean-image, seed 0 failed; run the same command to go on"
    )
    assert [(record.seed, record.status) for record in records()] == [(0, "failed")]
    # What may do so again comes last.
    Path("lost").unlink()
    command(*words, code=1)
    assert [record.status for record in records()] == ["failed", "ok", "ok"]


def test_a_score_that_loses_the_gpu_ends_the_run_after_its_method_s_own(here, lost):
    of_logits = f"def logits(self, images):\n        {LOSES}\n"
    words = ("run", "--protocol", "test2", "--method", plugin(body=of_logits), "--score", "Energy")
    assert "cuda:0 answers no more" in command(*words, "--case", "1,2", code=1).err.splitlines()[-1]
    assert [(record.case, record.status) for record in records()] == [("1", "ok")]


def test_any_other_failure_on_a_gpu_ends_nothing(here, lost):
    method = plugin(fit=f"assert run.seed; {MEAN}")
    command("run", "--protocol", "test2", "--case", "2", "--method", method, "--seed", "0,1,2", code=1)
    assert [record.status for record in records()] == ["failed", "ok", "ok"]


# --- which GPU -------------------------------------------------------------------------------------------------------


def test_of_two_gpus_the_one_that_is_meant_is_asked_for_bfloat16(monkeypatch):
    current = [0]

    @contextlib.contextmanager
    def on(device: torch.device):
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] == 1)
    assert [numerics.has_bfloat16.__wrapped__(torch.device("cuda", number)) for number in (0, 1)] == [False, True]


def moved(module: nn.Module, device: str | None = None, **layout) -> nn.Module:
    """`Module.to`, which refuses fake tensors."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(parameter.detach().to(device)))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.to(device))
    return module


def no_gradient(value: Tensor, x: Tensor) -> tuple[Tensor]:
    on_gpu(value, x)
    return (torch.zeros_like(x),)


def on_gpu(*values: Tensor) -> None:
    assert {str(value.device) for value in values} == {GPU}


class Watch(TorchDispatchMode):
    """Refuses what fake tensors let pass: a GPU's indices into a processor's tensor. Notes how convolutions compute."""

    def __init__(self):
        super().__init__()
        self.precisions: set[torch.dtype] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten.index.Tensor:
            values, indices = args
            allowed = {values.device, torch.device("cpu")}
            assert allowed >= {index.device for index in indices if index is not None}
        if operation is torch.ops.aten.convolution.default:
            self.precisions.add(args[0].dtype)
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("name", ["subcluster", "rotnet", "ssl", "jigsaw", "isif"])
def test_training_and_scoring_mix_no_devices(gpu, name):
    real = torch.zeros(20, 3, 32, 32, dtype=torch.uint8)
    recipe = read_recipe("cifar10", "small", name, {"epochs": 1, "batch": 10})[1]
    cls = PLUGINS.get("method", name)
    method = cls(cls.Params())
    plain = ("bfloat16", "channels_last", "fused", "tf32")  # what is only pretended can't be recorded
    run = harness.Run(GPU, 0, recipe, method.params, faster_by=plain)
    task = task_of(real, 2 if cls.uses_labels else None)
    cls(cls.Params()).build(task, dataclasses.replace(run, device="cpu"))  # what methods keep for later is real
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode:
        images, labels = mode.from_tensor(real), mode.from_tensor(torch.arange(20) % 2)
        with Watch() as training:
            method.build(task, run)
            method.fit(harness.Images(images, labels if cls.uses_labels else None), run)
        on_gpu(*method.network.state_dict().values())
        with Watch() as scoring:
            # Neighbours are sought on the processor, among values.
            outcome = {"": method.embed(images)} if name == "isif" else method.score(images)
    assert torch.bfloat16 in training.precisions
    assert scoring.precisions == {torch.float32}
    assert {(len(values), values.device.type) for values in outcome.values()} == {(20, "cpu")}
