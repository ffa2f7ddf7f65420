"""The most memory that something took: of the GPU's tensors, or of this process where the processor does the work."""

from __future__ import annotations

import re
from pathlib import Path

from harness.kit import memory

MIB = 2**20


class Peak:
    """Watches from when it is made.

    On a GPU, the most that torch had allocated there. Elsewhere the most of this process that was resident, what it
    holds before included, but not what it has freed and kept; getrusage would tell the most of its whole life, so that
    a small fit would seem to take what a large one before it took. Only Linux can begin anew, and not everywhere it
    runs: see `mib`.
    """

    def __init__(self, device: str):
        self.device = device
        self.watches = True
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            return
        memory.give_back()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self.watches = False

    @property
    def mib(self) -> float | None:
        """In MiB, so far; None where the system does not tell."""
        if not self.watches:
            return None
        if self.device.startswith("cuda"):
            import torch

            return round(torch.cuda.max_memory_allocated(self.device) / MIB, 1)
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        return round(int(found[1]) * 1024 / MIB, 1) if found else None
