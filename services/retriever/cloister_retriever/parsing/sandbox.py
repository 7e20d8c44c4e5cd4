"""What the parser's process may not do: use more than its share, open a file, reach a network, start a program.

The parser reads bytes from strangers with a C++ library. Its process gets resource limits and a seccomp filter, set
by itself before it reads the first byte, after everything it needs is imported. The filter needs no privilege
(``no_new_privs``), so it works in a restricted pod; where the kernel has no seccomp the parser says so and runs with
its limits alone. Numbers are from Linux's ``unistd.h`` for each architecture.
"""

import ctypes
import errno
import platform
import resource
import struct

__all__ = ["confine"]

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM

# open, creat, openat, openat2; socket, connect, accept, bind, listen, socketpair; execve, execveat; fork, vfork;
# ptrace, process_vm_readv and writev; io_uring_setup (which could do all of these); unlink, rename, mkdir and kin.
_DENIED = {
    "x86_64": (
        0xC000003E,
        (2, 85, 257, 437, 41, 42, 43, 49, 50, 53, 59, 322, 57, 58, 101, 310, 311, 425, 82, 83, 84, 87, 263, 264, 316),
    ),
    "aarch64": (0xC00000B7, (56, 437, 198, 199, 200, 201, 202, 203, 221, 281, 117, 270, 271, 425, 34, 35, 38, 276)),
}
_X32_CALLS = 0x40000000
"""On x86-64, numbers from here on are the x32 ABI's other door to the same calls."""


def confine(*, memory_bytes: int, cpu_seconds: int) -> bool:
    """Limits this process for good; says whether the system call filter is on too."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    return _filter_calls()


def _filter_calls() -> bool:
    known = _DENIED.get(platform.machine())
    if known is None:
        return False
    architecture, denied = known
    program = [
        _instruction(_LOAD_WORD, 4),  # seccomp_data.arch
        _instruction(_JUMP_EQUAL, architecture, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD_WORD, 0),  # seccomp_data.nr
        _instruction(_JUMP_AT_LEAST, _X32_CALLS, then=len(denied) + 1),
        *(_instruction(_JUMP_EQUAL, number, then=len(denied) - place) for place, number in enumerate(denied)),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)


def _instruction(code: int, value: int, *, then: int = 0) -> bytes:
    """``struct sock_filter``: when the comparison holds, ``then`` instructions are skipped."""
    return struct.pack("HBBI", code, then, 0, value)
