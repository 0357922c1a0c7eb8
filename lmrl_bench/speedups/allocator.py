"""Keeps memory that tensors free inside the process, instead of taking it from the system anew each time."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_REUSED = 2**27
"""Bytes; larger blocks go back to the system at once, as blocks of 32 MiB do by default."""


def reuse_freed_memory() -> None:
    """Gives back what earlier runs left, and from now on lets the C library reuse freed blocks.

    The logits of a small policy are larger than what glibc keeps by default, so each of them is
    made of pages that the system has to clear first: a tenth of a training run's CPU time. Where
    the C library is another one, nothing happens.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return
    library.malloc_trim(0)
    library.mallopt(_MMAP_THRESHOLD, LARGEST_REUSED)
    library.mallopt(_TRIM_THRESHOLD, 8 * LARGEST_REUSED)
