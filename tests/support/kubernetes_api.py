"""A small Kubernetes API for tests: EndpointSlices listed in pages and watched, with bookmarks, and the scale of
workloads, over a real socket.

It answers as kube-apiserver 1.20 and 1.31 do: versions of objects that grow, a history that can be compacted, 410 as
the status of a list and as an event of a watch, 403 for another account, and a watch that ends when it is told to. A
scale is changed by a merge patch, and not from an old version of it (409).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cloister_common.testing.serving import free_port, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["KubernetesApi", "slice_of"]

_GROUP = "discovery.k8s.io"
_BOOKMARK_SECONDS = 0.05


def slice_of(
    name: str,
    *addresses: str,
    port: int = 8083,
    family: str = "IPv4",
    labels: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An EndpointSlice of ready endpoints; ``more`` replaces parts of it."""
    return {
        "metadata": {"name": name, "labels": labels or {"kubernetes.io/service-name": "llm"}},
        "addressType": family,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        **more,
    }


class KubernetesApi:
    """The server's state; `serve` it. Every change is made here, from any thread.

    Args:
        version: Of EndpointSlices: ``v1``, or ``v1beta1`` as before Kubernetes 1.21.

    Attributes:
        requests: The queries of all that was asked, in order.
        token: The account that may list and watch.
        page: How many objects a page has at most.
        scaled: What each change of a scale asked for, in order.
        refuse_scale: If set, the status that every question about a scale is answered with.
    """

    def __init__(self, version: str = "v1") -> None:
        self.api_version = version
        self.token = "the-gateways-account"
        self.page = 500
        self.requests: list[dict[str, str]] = []
        self.port = free_port()
        self.scaled: list[int] = []
        self.refuse_scale: int | None = None
        self._workloads: dict[str, dict[str, Any]] = {}
        self._newest = 100
        self._oldest = 100
        self._objects: dict[str, dict[str, Any]] = {}
        self._history: list[tuple[int, str, dict[str, Any]]] = []
        self._watches = 0
        self._cut = 0

    def put(self, *slices: dict[str, Any]) -> None:
        """Adds EndpointSlices, or puts them in the place of those of the same names."""
        for one in slices:
            name = one["metadata"]["name"]
            self._happened("MODIFIED" if name in self._objects else "ADDED", one)
            self._objects[name] = one

    def delete(self, name: str) -> None:
        """Takes one away."""
        self._happened("DELETED", self._objects.pop(name))

    def put_workload(self, path: str, *, wanted: int = 0) -> None:
        """Adds a workload, ``namespaces/NAMESPACE/statefulsets/NAME``, or changes how many pods it shall have."""
        metadata = {"name": path.rsplit("/", 1)[1]}
        found = self._workloads.setdefault(path, {"kind": "Scale", "metadata": metadata, "status": {"replicas": 0}})
        # (A count of 0 is left out, as the API does it.)
        found["spec"] = {"replicas": wanted} if wanted else {}
        self._touch(found)

    def put_pods(self, path: str, there: int) -> None:
        """Changes how many pods a workload has."""
        found = self._workloads[path]
        found["status"] = {"replicas": there}
        self._touch(found)

    def wanted(self, path: str) -> int:
        """How many pods a workload shall have."""
        return int(self._workloads[path]["spec"].get("replicas", 0))

    def forget(self) -> None:
        """Drops the history, as etcd's compaction does: whoever goes on from an older version gets a 410."""
        self._newest += 1
        self._oldest = self._newest
        self._history.clear()

    def cut(self) -> None:
        """Ends every watch that is open."""
        self._cut += 1

    @property
    def watches(self) -> int:
        """How many are open."""
        return self._watches

    @property
    def lists(self) -> int:
        """How many lists were asked for."""
        return sum("watch" not in query for query in self.requests)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Path]:
        """Serves it while the block runs, always on the same port; gives a kubeconfig."""
        cluster = {"server": f"http://127.0.0.1:{self.port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        routes = [
            Route(f"/apis/{_GROUP}/", self._versions),
            Route(f"/apis/{_GROUP}/{self.api_version}/namespaces/{{namespace}}/endpointslices", self._slices),
        ]
        routes.append(Route("/apis/apps/v1/{path:path}/scale", self._scale, methods=["GET", "PATCH"]))
        with served(Starlette(routes=routes), self.port):
            yield file

    def _touch(self, one: dict[str, Any]) -> None:
        self._newest += 1
        one["metadata"]["resourceVersion"] = str(self._newest)

    def _happened(self, kind: str, one: dict[str, Any]) -> None:
        self._touch(one)
        self._history.append((self._newest, kind, json.loads(json.dumps(one))))

    async def _versions(self, request: Request) -> Response:
        version = {"groupVersion": f"{_GROUP}/{self.api_version}", "version": self.api_version}
        return JSONResponse({"kind": "APIGroup", "name": _GROUP, "versions": [version], "preferredVersion": version})

    async def _scale(self, request: Request) -> Response:
        path = request.path_params["path"]
        if self.refuse_scale is not None:
            return _status(self.refuse_scale, "Refused")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(403, "Forbidden")
        found = self._workloads.get(path)
        if found is None:
            return _status(404, "NotFound")
        if request.method == "PATCH":
            if request.headers["content-type"] != "application/merge-patch+json":
                return _status(415, "UnsupportedMediaType")
            asked = await request.json()
            if asked["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            self.scaled.append(asked["spec"]["replicas"])
            self.put_workload(path, wanted=asked["spec"]["replicas"])
        return JSONResponse(self._workloads[path])

    async def _slices(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.requests.append(query)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(403, "Forbidden")
        if "watch" in query:
            return StreamingResponse(self._events(query), media_type="application/json")
        start, _, version = query.get("continue", "").partition("@")
        if version and int(version) < self._oldest:
            return _status(410, "Expired")
        found = [one for one in self._objects.values() if _has(one, query["labelSelector"])]
        first = int(start or 0)
        end = first + min(self.page, int(query.get("limit", "500")))
        metadata = {"resourceVersion": version or str(self._newest)}
        if end < len(found):
            metadata["continue"] = f"{end}@{metadata['resourceVersion']}"
        return JSONResponse({"kind": "EndpointSliceList", "metadata": metadata, "items": found[first:end]})

    async def _events(self, query: dict[str, str]) -> AsyncIterator[bytes]:
        version, cut = int(query["resourceVersion"]), self._cut
        loop = asyncio.get_running_loop()
        until = loop.time() + int(query["timeoutSeconds"])
        self._watches += 1
        try:
            while loop.time() < until and self._cut == cut:
                if version < self._oldest:
                    yield _line("ERROR", json.loads(bytes(_status(410, "Expired").body)))
                    return
                for number, kind, one in list(self._history):
                    if number > version and _has(one, query["labelSelector"]):
                        yield _line(kind, one)
                version = self._newest
                if query.get("allowWatchBookmarks") in {"true", "True"}:
                    about = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}, "endpoints": None}
                    yield _line("BOOKMARK", about)
                await asyncio.sleep(_BOOKMARK_SECONDS)
        finally:
            self._watches -= 1


def _has(one: dict[str, Any], selector: str) -> bool:
    wanted = dict(part.split("=", 1) for part in selector.split(","))
    return bool(wanted.items() <= one["metadata"]["labels"].items())


def _line(kind: str, about: Any) -> bytes:
    return json.dumps({"type": kind, "object": about}).encode() + b"\n"


def _status(code: int, reason: str) -> JSONResponse:
    return JSONResponse({"kind": "Status", "status": "Failure", "reason": reason, "code": code}, status_code=code)
