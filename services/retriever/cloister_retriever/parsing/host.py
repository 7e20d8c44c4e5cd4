"""The warm process, from which the parser of each file is forked: it has loaded every library, and no file's bytes.

It has a socket as its standard input. A message on it is a request, with one end of a connection; the answer is a
handle of the process that was forked for it. That process closes everything else, confines itself and reads one file
(`cloister_retriever.parsing.child`). Nothing of a file comes back here, so the next finds what the first found. What
all of them share is where things lie in memory, which processes that are started anew would not.
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
from typing import NoReturn

from cloister_retriever.parsing.child import chunker_of, read_one, warm_up
from cloister_retriever.parsing.chunking import Chunker
from cloister_retriever.parsing.messages import MOST_REQUEST, Request

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_STANDS_BACK = 10
"""Of 19: nobody waits for a file as for an answer, so the processors go to whoever else wants them."""


def main() -> None:
    """Forks until whoever started this has closed the socket."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(_STANDS_BACK)
    link = socket.socket(fileno=os.dup(0))
    warm_up()
    gc.collect()
    gc.freeze()  # what is there now stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the handle tells whoever asked that one has ended
    while True:
        line, connections, _, _ = socket.recv_fds(link, MOST_REQUEST, 1)
        if not line:
            return
        request = Request.model_validate_json(line)
        chunker = chunker_of(request.tokenizer_path, request.max_tokens, request.overlap_tokens, request.prompt_tokens)
        child = os.fork()
        if child == 0:
            _become_parser(link, connections[0], request, chunker)
        os.close(connections[0])
        with contextlib.ExitStack() as stack:
            handles = []
            with contextlib.suppress(ProcessLookupError):
                handles.append(os.pidfd_open(child))
                stack.callback(os.close, handles[0])
            socket.send_fds(link, [b"begun"], handles)


def _become_parser(link: socket.socket, connection: int, request: Request, chunker: Chunker) -> NoReturn:
    """Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        link.close()
        os.dup2(connection, 0)
        os.dup2(connection, 1)
        os.close(connection)
        read_one(request, chunker)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
