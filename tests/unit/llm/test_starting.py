"""vLLM's server on the launcher's socket."""

import os
import socket
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
from cloister_llm.starting import server

_LAUNCHERS = "vllm.entrypoints.launchers"


def test_vllm_accepts_on_the_launchers_socket_and_no_program_that_it_runs_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = os.dup(listener.fileno())
        os.set_inheritable(left, True)
        monkeypatch.setenv("CLOISTER_LLM_LISTENER", str(left))
        launcher = SimpleNamespace()
        seen: list[tuple[int, bool]] = []

        def become_vllm() -> None:
            make: Callable[..., socket.socket] = launcher.create_server_socket
            with make(("127.0.0.1", 8083), reuse_port=False) as given:
                seen.append((given.getsockname()[1], given.get_inheritable()))

        fakes: dict[str, object] = {"launcher": launcher, "api_server.entry": SimpleNamespace(main=become_vllm)}
        packages = ["vllm", "vllm.entrypoints", _LAUNCHERS, f"{_LAUNCHERS}.api_server"]
        for name in packages:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for name, fake in fakes.items():
            package, _, leaf = f"{_LAUNCHERS}.{name}".rpartition(".")
            setattr(sys.modules[package], leaf, fake)
        server.main()
        assert seen == [(listener.getsockname()[1], False)]
