"""Memory that is used again in every round stays with the process.

glibc takes each large array from the kernel anew, which fills it with zeros first: in a round of a 97 MB model a tenth
to a quarter of the validator's CPU time. As every round needs as much, there is nothing to be gained by giving it back.
"""

from __future__ import annotations

import ctypes
import gc

# From <malloc.h>; the same on all architectures.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Let the allocator keep what is freed; call before threads are started. False where there is no glibc."""
    try:
        option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # One heap for all threads: those of other threads are limited to 64 MiB a piece. No trimming, no maps of their own.
    return all(option(number, value) for number, value in ((_ARENA_MAX, 1), (_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0)))


def leave_what_is_here() -> None:
    """Keep the garbage collector from what is there before the first round: modules and contracts, a fifth of a second
    each time that it looks at them.
    """
    gc.collect()
    gc.freeze()
