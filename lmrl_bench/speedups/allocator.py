"""Keeps memory freed by tensors in the process instead of returning it to the system each time."""

from __future__ import annotations

import ctypes
import sys

from lmrl_bench.speedups import speedups_on

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_REUSED = 2**27
"""Bytes; larger blocks are returned to the system at once, as blocks of 32 MiB are by default."""


def reuse_freed_memory() -> None:
    """Returns unused memory to the system once, then lets the C library reuse freed blocks.

    Logits can exceed the 32 MiB that glibc keeps by default; each of them is then built from pages
    that the system must clear first, which takes twice as long as computing them (README.md). Does
    nothing with other C libraries.
    """
    if not speedups_on() or sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return
    library.malloc_trim(0)
    # Blocks from the mmap threshold on are mapped, zeroed by the system and unmapped one by one;
    # the trim threshold bounds what may lie free at the top of the heap. Either one set stops
    # glibc from moving both by itself, so both are set.
    library.mallopt(_MMAP_THRESHOLD, LARGEST_REUSED)
    library.mallopt(_TRIM_THRESHOLD, 8 * LARGEST_REUSED)
