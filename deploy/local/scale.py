"""Starts and stops parts at the gateway's word, by the wire of the Kubernetes API: the ``scale`` of a workload.

So a gateway wakes the model of `make run` with the very code that wakes one on a cluster, and is given a kubeconfig for
it. What is served is that subresource of the parts that may rest, to whoever has the token, on loopback. A part has one
process or none.
Source: Kubernetes API reference, Scale (autoscaling/v1).
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import uvicorn
import yaml
from cloister_common.internal import InternalTokens
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

__all__ = ["NAMESPACE", "ScaleApi", "Scaled", "kubeconfig"]

NAMESPACE = "local"
_PATCH = "application/merge-patch+json"


class Scaled(Protocol):
    """What runs the parts."""

    def is_wanted(self, part: str) -> bool:
        """Whether it shall run."""

    def is_there(self, part: str) -> bool:
        """Whether it has a process."""

    def want(self, part: str, *, wanted: bool) -> None:
        """Has it run, or rest."""


def kubeconfig(port: int, token: str) -> str:
    """What leads a client of Kubernetes here."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "gateway", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "gateway", "namespace": NAMESPACE}}],
        "current-context": "local",
    }
    return yaml.safe_dump(config, sort_keys=False)


class _Server(uvicorn.Server):
    """Without handlers of its own for signals: they are the runner's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ScaleApi:
    """The API.

    Args:
        parts: Those that may rest.
        scaled: What runs them; asked when the first request comes.
        port: On loopback.
        token: That callers must show.
    """

    def __init__(self, parts: set[str], scaled: Callable[[], Scaled], port: int, token: str) -> None:
        self._parts = parts
        self._scaled = scaled
        self._port = port
        self._tokens = InternalTokens([token.encode()])
        self._version = 1

    async def serve(self) -> None:
        """Serves it until it is cancelled."""
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{{part}}/scale"
        app = Starlette(routes=[Route(path, self._answer, methods=["GET", "PATCH"])])
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        server, listener = _Server(config), socket.create_server(("127.0.0.1", self._port))
        try:
            await server.serve(sockets=[listener])
        finally:
            if server.started:
                await server.shutdown(sockets=[listener])

    async def _answer(self, request: Request) -> JSONResponse:
        part = request.path_params["part"]
        if not self._tokens.accepts(request.headers.get("authorization")):
            return _status(401, "Unauthorized", "the token is not this installation's")
        if part not in self._parts:
            return _status(404, "NotFound", f"{part} is no part that rests")
        if request.method == "PATCH":
            refused = self._change(part, request.headers.get("content-type"), await request.json())
            if refused is not None:
                return refused
        scaled = self._scaled()
        return JSONResponse(
            {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {"name": part, "namespace": NAMESPACE, "resourceVersion": str(self._version)},
                "spec": {"replicas": int(scaled.is_wanted(part))},
                "status": {"replicas": int(scaled.is_there(part))},
            }
        )

    def _change(self, part: str, kind: str | None, patch: Any) -> JSONResponse | None:
        """Does as it is told; the refusal where it does not."""
        if kind != _PATCH:
            return _status(415, "UnsupportedMediaType", f"a patch must be {_PATCH}")
        match patch:
            case {"metadata": {"resourceVersion": version}, "spec": {"replicas": (0 | 1) as replicas}}:
                if version != str(self._version):
                    return _status(409, "Conflict", "somebody has changed it since")
                self._version += 1
                self._scaled().want(part, wanted=replicas == 1)
                return None
        return _status(422, "Invalid", "a part has one process or none, and a change names the version it is from")


def _status(code: int, reason: str, message: str) -> JSONResponse:
    return JSONResponse(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": code,
        },
        status_code=code,
    )
