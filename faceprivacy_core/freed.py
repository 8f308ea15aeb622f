"""Memory that was freed and is still held."""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD = -3
"""glibc's name for the size from which a block is mapped by itself."""
LARGE_BLOCK = 8 * 1024 * 1024


def give_back() -> None:
    """Return freed memory to the system, where the allocator can be told to (glibc); nothing elsewhere."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def return_large_blocks() -> None:
    """From now on return every large block as soon as it is freed (glibc); nothing elsewhere.

    By default the allocator learns to keep blocks of up to 32 MB, and pictures leave gaps in what it keeps: of ten faces at 24
    megapixels 170 MB. For a process of our own; a host may want it otherwise.
    """
    try:
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE_BLOCK)
    except (AttributeError, OSError, TypeError):
        return
