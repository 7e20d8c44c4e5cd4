"""What must be true of the machine before anything is started; each fault is one sentence with its mend."""

import ctypes
import fcntl
import os
import shutil
import socket
import sysconfig
import time
from pathlib import Path
from typing import BinaryIO

from cloister_llm.hardware import cpu_memory_bytes

from deploy.local.config import Layout
from deploy.local.faults import NotReadyToStart
from deploy.local.settings import REPOSITORY, LocalSettings

__all__ = ["LONGEST_SOCKET_PATH", "check_machine", "lock"]

_GIB = 1 << 30
_CLEANING_SECONDS = 30.0
LONGEST_SOCKET_PATH = 107
"""Bytes of ``sun_path`` in <sys/un.h>, less the zero at its end."""


def lock(var: Path) -> BinaryIO:
    """Takes the installation's lock; it is held for as long as the returned file is open.

    Raises:
        NotReadyToStart: Another run has it.
    """
    path = var / "lock"
    file = path.open("a+b")
    deadline = time.monotonic() + _CLEANING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = path.read_text().strip()
            # A runner that was killed: its watchdog holds the lock while it ends what was left.
            alive = bool(holder) and Path(f"/proc/{holder}").exists()
            if alive or time.monotonic() > deadline:
                file.close()
                raise NotReadyToStart(
                    f"Another run (process {holder or 'unknown'}) uses {var}. Stop it first, or choose another folder: "
                    "make run VAR=DIR CONFIG=FILE, with other ports in the file."
                ) from None
            time.sleep(0.1)
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()
    return file


def check_machine(settings: LocalSettings, var: Path) -> None:
    """Looks for programs, memory, disk and ports.

    Raises:
        NotReadyToStart: The first of them that is missing.
    """
    _check_programs(settings)
    memory = cpu_memory_bytes() / _GIB
    if memory < settings.needs.memory_gib:
        raise NotReadyToStart(
            f"Only {memory:.1f} GiB of memory are free and {settings.needs.memory_gib:g} are needed. "
            "Close other programs, or set needs.memory_gib in var/local.yaml if you know better."
        )
    disk = shutil.disk_usage(var).free / _GIB
    if disk < settings.needs.disk_gib:
        raise NotReadyToStart(
            f"Only {disk:.1f} GiB of disk are free under {var} and {settings.needs.disk_gib:g} are needed. Free some."
        )
    if len(os.fsencode(Layout(var).milvus_socket)) > LONGEST_SOCKET_PATH:
        raise NotReadyToStart(
            f"The path {var} is too long for the socket in it (the system allows {LONGEST_SOCKET_PATH} bytes). "
            "Choose a shorter one: make run VAR=DIR."
        )
    for name, port in settings.ports.model_dump().items():
        host = settings.gateway.host if name.startswith("gateway") else "127.0.0.1"
        _check_port(name, host, port)


def _check_programs(settings: LocalSettings) -> None:
    if shutil.which(settings.paths.redis_server) is None:
        raise NotReadyToStart(
            f"{settings.paths.redis_server} is not installed. Install it (Debian and Ubuntu: "
            "sudo apt-get install redis-server), or set paths.redis_server in var/local.yaml to where it is."
        )
    python = REPOSITORY / settings.paths.llm_python
    if not os.access(python, os.X_OK):
        raise NotReadyToStart(f"The model server's environment is missing ({python}). Run `make install`.")
    _check_what_vllm_needs()
    for path in (settings.gateway.certificate_file, settings.gateway.key_file):
        if path is not None and not (REPOSITORY / path).is_file():
            raise NotReadyToStart(f"The gateway's TLS file {path} is missing. Put it there, or unset it.")


def _check_what_vllm_needs() -> None:
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError as error:
        raise NotReadyToStart(
            "vLLM needs the library libnuma. Install it (Debian and Ubuntu: sudo apt-get install libnuma1)."
        ) from error
    # The first request with logprobs has a kernel compiled for this processor; without a compiler it ends the server.
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if shutil.which("g++") is None or not headers.is_file():
        raise NotReadyToStart(
            "vLLM needs the compiler g++ and Python's headers. Install them (Debian and Ubuntu: "
            "sudo apt-get install g++ python3-dev)."
        )


def _check_port(name: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotReadyToStart(
                f"Port {port} ({name}) cannot be used: {(error.strerror or 'refused').lower()}. "
                f"Stop what uses it, or set ports.{name} in var/local.yaml."
            ) from error
