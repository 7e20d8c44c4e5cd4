"""What stands before the application on every port of ours: limits on what a connection may take, key or none.

uvicorn's protocols have no limits of their own. `http` is theirs with limits; `websocket`, with `handshake`, `frames`
and `pings`, is ours. `listener` puts them in place, in our servers and in vLLM's, which is uvicorn too.
"""

from cloister_common.doors.listener import allow_files, bound_connections, bounded, claim, listen, serve_bounded

__all__ = ["allow_files", "bound_connections", "bounded", "claim", "listen", "serve_bounded"]
