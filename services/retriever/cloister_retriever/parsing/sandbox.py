"""What the parser's process may do: compute, read and write what is open, and end. Nothing else.

The parser reads bytes from strangers with a C++ library. Its process gets resource limits and a seccomp filter, set
by itself before it reads the first byte, after everything it needs is imported. The filter names the system calls
that are allowed; every other, known today or not, is refused: so no file is opened, cut or renamed, no network
reached, no program started, no other process touched. It needs no privilege (``no_new_privs``), so it works in a
restricted pod; where the kernel has no seccomp the parser says so and runs with its limits alone. Numbers are from
Linux's ``unistd.h`` for each architecture.
"""

import ctypes
import errno
import platform
import resource
import signal
import struct
from typing import NamedTuple

__all__ = ["confine"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CLONE_THREAD = 0x00010000

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_IF_SET = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS


class _Calls(NamedTuple):
    """The numbers of one architecture."""

    architecture: int
    clone: int
    """Only for threads. A new process would outlive its limits and its end."""

    clone3: int
    """Has its flags in memory, where a filter cannot see them. Said to be unknown, libraries use ``clone``."""

    allowed: tuple[int, ...]


# read, write, readv, writev, close, lseek, fcntl, ioctl, poll or ppoll; mmap, mprotect, munmap, mremap, brk, madvise;
# futex, sched_yield, set_robust_list, rseq, membarrier; rt_sigaction, rt_sigprocmask, rt_sigreturn, sigaltstack;
# clock_gettime, clock_getres, clock_nanosleep, nanosleep, gettimeofday, times, getrusage, restart_syscall; getpid,
# gettid, getcpu, sched_getaffinity, sysinfo, getrandom; exit, exit_group.
_CALLS = {
    "x86_64": _Calls(
        0xC000003E,
        clone=56,
        clone3=435,
        allowed=(
            *(0, 1, 19, 20, 3, 8, 72, 16, 7, 271, 9, 10, 11, 25, 12, 28),
            *(202, 24, 273, 334, 324, 13, 14, 15, 131),
            *(228, 229, 230, 35, 96, 100, 98, 219, 39, 186, 309, 204, 99, 318, 60, 231),
        ),
    ),
    "aarch64": _Calls(
        0xC00000B7,
        clone=220,
        clone3=435,
        allowed=(
            *(63, 64, 65, 66, 57, 62, 25, 29, 73, 222, 226, 215, 216, 214, 233),
            *(98, 124, 99, 293, 283, 134, 135, 139, 132),
            *(113, 114, 115, 101, 169, 153, 165, 128, 172, 178, 168, 123, 179, 278, 93, 94),
        ),
    ),
}


def confine(*, memory_bytes: int, cpu_seconds: int) -> bool:
    """Limits this process for good; says whether the system call filter is on too.

    It ends with its parent, in any case: one that is stopped would never see its pipes close.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    return _filter_calls()


def _filter_calls() -> bool:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    count = len(calls.allowed)
    program = [
        _instruction(_LOAD_WORD, 4),  # seccomp_data.arch
        _instruction(_JUMP_EQUAL, calls.architecture, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD_WORD, 0),  # seccomp_data.nr
        _instruction(_JUMP_EQUAL, calls.clone3, then=count + 2),
        _instruction(_JUMP_EQUAL, calls.clone, then=count + 2),
        *(_instruction(_JUMP_EQUAL, number, then=count - at + 4) for at, number in enumerate(calls.allowed)),
        _instruction(_RETURN, _REFUSE),
        _instruction(_RETURN, _UNKNOWN),
        _instruction(_LOAD_WORD, 16),  # the low half of seccomp_data.args[0]: both architectures are little-endian
        _instruction(_JUMP_IF_SET, _CLONE_THREAD, then=1),
        _instruction(_RETURN, _REFUSE),
        _instruction(_RETURN, _ALLOW),
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
