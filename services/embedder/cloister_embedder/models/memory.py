"""Keeps the process as small as its work: what texts of ever new lengths would leave behind in libraries and heap.

oneDNN compiles kernels for each new shape of a product and keeps a thousand of them (`linear.py` bounds how many shapes
there are), and the C library gives each thread an arena, in which activations of ever other sizes leave holes that it
keeps. Both are set for the process before torch is imported, and whole free pages go back to the system after every so
many passes.
"""

import ctypes
import os

__all__ = ["MemoryKeeper", "bound_memory"]

_KERNELS = "128"
"""One for each layer width and number of tokens in a batch; compiling one takes about a millisecond."""
_ARENAS = 2
_M_ARENA_MAX = -8
"""mallopt(3)."""


def _libc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def bound_memory() -> None:
    """Bounds what libraries keep. Call it once, before torch is imported: oneDNN reads its bound at its first use."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS)
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


class MemoryKeeper:
    """Counts passes, and gives free pages back after every `PASSES` of them: that takes some milliseconds."""

    PASSES = 64

    def __init__(self) -> None:
        self._libc = _libc()
        self._passes = 0

    def passed(self) -> None:
        """Says that a forward pass has ended. Call it from the thread that ran it: returning takes a moment."""
        self._passes += 1
        if self._passes % self.PASSES == 0 and self._libc is not None:
            self._libc.malloc_trim(0)
