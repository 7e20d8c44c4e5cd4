"""Freed memory goes back to the system although something in use lies above it."""

import ctypes
import os
from pathlib import Path

import pytest
from cloister_embedder.models.memory import MemoryKeeper, bound_memory

BLOCKS = 60_000
BLOCK_BYTES = 2048


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_pages_between_what_is_in_use_are_given_back_after_some_passes() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    keeper = MemoryKeeper()
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    full = resident_bytes()
    # The last one stays, so that the heap cannot simply end earlier.
    for block in blocks[:-1]:
        libc.free(block)
    for _ in range(MemoryKeeper.PASSES):
        keeper.passed()
    assert full - resident_bytes() > BLOCKS * BLOCK_BYTES // 2
    libc.free(blocks[-1])


def test_what_the_operator_says_of_kernels_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    bound_memory()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    bound_memory()
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024
