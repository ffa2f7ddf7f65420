"""Keeps the memory of one step for the next one."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""What glibc's mallopt calls them."""
KEPT = 1 << 30
"""Bytes that may lie idle at the heap's end before they are given back."""


@cache
def keep() -> bool:
    """Have this process keep the memory that it frees; whether its C library can.

    By default glibc gives a block of some megabytes back as soon as it is freed, and the kernel then fills the next
    one with zeros, page by page. Each training step on a CPU would pay for that anew: a fifth of its time for the
    activations of a small network.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, KEPT))


def give_back() -> None:
    """Have this process give back what it keeps and does not use, where its C library can."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
