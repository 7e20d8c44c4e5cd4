"""Files and vector stores: what the gateway lets through to the retriever, and what it does when that is away.

The peer here only records and answers what the test set; the real pair is tested in ``tests/contract``.
"""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import orjson
import pytest
from backports import zstd
from cloister_common.testing.serving import free_port, served
from starlette.types import Receive, Scope, Send

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture

pytestmark = pytest.mark.foreign_answers

FILE = "file-" + "a" * 48
STORE = "vs_" + "b" * 48


@dataclass
class Peer:
    """Records requests and answers as set."""

    status: int = 200
    answer: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    requests: list[dict[str, Any]] = field(default_factory=list)
    first_chunk: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["path"] == "/internal/ingestions" and scope["method"] == "GET":
            # A gateway asks that of itself, every second, and not for a caller: there are none.
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        digest, size, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            self.first_chunk.set()
        self.requests.append(
            {
                "method": scope["method"],
                "path": scope["path"],
                "query": scope["query_string"].decode(),
                "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
                "size": size,
                "sha256": digest.hexdigest(),
            }
        )
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayFixture], peer: Peer, tmp_path: Any) -> Iterator[GatewayFixture]:
    with served(peer) as url:
        yield make_gateway(retriever={"url": url, "token_file": str(tmp_path / "secrets" / "token")})


@pytest.fixture
def url(gateway: GatewayFixture) -> Iterator[str]:
    with gateway.serve() as served_url:
        yield served_url


def test_call_carries_the_tenant_and_the_internal_token_and_nothing_of_the_callers(
    gateway: GatewayFixture, url: str, peer: Peer
) -> None:
    forged = {"x-cloister-tenant": "proj_other", "cookie": "a=b", "x-forwarded-for": "1.2.3.4"}
    response = httpx.get(f"{url}/v1/files/{FILE}", headers={**gateway.headers(), **forged})
    assert response.status_code == 200
    sent = peer.requests[0]["headers"]
    assert sent["authorization"] == f"Bearer {INTERNAL_TOKEN}"
    assert sent["x-cloister-tenant"].startswith("proj_")
    assert sent["x-cloister-tenant"] != "proj_other"
    assert "cookie" not in sent
    assert "x-forwarded-for" not in sent


def test_sdk_uploads_and_reads_through(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=gateway.project_key, max_retries=0) as client:
        record = {"id": FILE, "object": "file", "bytes": 5, "created_at": 1, "filename": "n", "purpose": "user_data"}
        peer.answer = orjson.dumps({**record, "status": "processed"})
        assert client.files.create(file=("notes.txt", b"hello"), purpose="user_data").id == FILE
        assert peer.requests[0]["headers"]["content-type"].startswith("multipart/form-data; boundary=")
        peer.answer, peer.headers = b"raw bytes", {"content-type": "application/octet-stream"}
        assert client.files.content(FILE).read() == b"raw bytes"
    assert [request["path"] for request in peer.requests] == ["/v1/files", f"/v1/files/{FILE}/content"]


def test_large_upload_streams_through(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    block = bytes(range(256)) * 4096
    passed_on = threading.Event()

    def body() -> Iterator[bytes]:
        yield block
        # The rest is only sent once the first part has reached the peer: nothing on the way collects it.
        passed_on.set() if peer.first_chunk.wait(10) else None
        for _ in range(39):
            yield block

    response = httpx.post(f"{url}/v1/files", headers=gateway.headers(), content=body(), timeout=60)
    assert response.status_code == 200
    assert passed_on.is_set()
    assert peer.requests[0]["size"] == 40 * len(block)
    assert peer.requests[0]["sha256"] == hashlib.sha256(block * 40).hexdigest()


def test_parts_of_an_upload_stream_through(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    upload_id, part = f"upload_{'c' * 48}", b"x" * (20 << 20)
    upload = {"id": upload_id, "object": "upload", "bytes": len(part), "created_at": 1, "expires_at": 3601}
    upload |= {"filename": "n", "purpose": "user_data", "status": "pending"}
    with openai.OpenAI(base_url=f"{url}/v1", api_key=gateway.project_key, max_retries=0) as client:
        peer.answer = orjson.dumps(upload)
        client.uploads.create(bytes=len(part), filename="n", mime_type="text/plain", purpose="user_data")
        client.uploads.complete(upload_id, part_ids=["part_1"])
        client.uploads.cancel(upload_id)
        peer.answer = orjson.dumps({"id": "part_1", "object": "upload.part", "created_at": 1, "upload_id": upload_id})
        client.uploads.parts.create(upload_id, data=part)
    acts = ("", f"/{upload_id}/complete", f"/{upload_id}/cancel", f"/{upload_id}/parts")
    assert [request["path"] for request in peer.requests] == [f"/v1/uploads{act}" for act in acts]
    assert peer.requests[-1]["size"] > len(part)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_compressed_upload_reaches_the_retriever_as_what_it_was(
    coding: str, gateway: GatewayFixture, url: str, peer: Peer
) -> None:
    form = b"x" * 3_000_000
    compress: Callable[[bytes], bytes] = gzip.compress if coding == "gzip" else zstd.compress
    headers = {**gateway.headers(), "content-type": "multipart/form-data; boundary=b", "content-encoding": coding}
    answer = httpx.post(f"{url}/v1/files", headers=headers, content=compress(form))
    assert answer.status_code == 200
    (request,) = peer.requests
    assert (request["size"], request["sha256"]) == (len(form), hashlib.sha256(form).hexdigest())
    assert "content-encoding" not in request["headers"]
    broken = httpx.post(f"{url}/v1/files", headers=headers, content=compress(form)[:-3])
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "Content-Encoding")
    assert len(peer.requests) == 1


def test_head_of_a_content_says_how_long_it_is(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    peer.answer = b"x" * 5000
    peer.headers = {"content-type": "application/octet-stream", "content-length": "5000", "accept-ranges": "bytes"}
    for _ in range(3):
        answer = httpx.head(f"{url}/v1/files/{FILE}/content", headers=gateway.headers())
        assert (answer.status_code, answer.content) == (200, b"")
        assert (answer.headers["content-length"], answer.headers["accept-ranges"]) == ("5000", "bytes")


def test_upload_over_the_limit_is_a_413(make_gateway: Callable[..., GatewayFixture], peer: Peer, tmp_path: Any) -> None:
    with served(peer) as peer_url:
        gateway = make_gateway(
            retriever={"url": peer_url, "token_file": str(tmp_path / "secrets" / "token")},
            bodies={"json_bytes": 1024, "upload_bytes": 4096},
        )
        with gateway.serve() as url:
            declared = httpx.post(f"{url}/v1/files", headers=gateway.headers(), content=b"x" * 6000)
            chunked = httpx.post(f"{url}/v1/files", headers=gateway.headers(), content=iter([b"x" * 1000] * 6))
            other = httpx.post(f"{url}/v1/vector_stores", headers=gateway.headers(), content=b"x" * 2000)
    assert [response.status_code for response in (declared, chunked, other)] == [413, 413, 413]
    assert chunked.json()["error"]["code"] == "request_too_large"
    assert peer.requests == []


REEMBED = f"/cloister/v1/vector_stores/{STORE}/reembed"


def test_a_store_is_embedded_anew_by_whoever_may_change_it(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    calls = [("POST", ""), ("GET", ""), ("POST", "/switch"), ("POST", "/back"), ("DELETE", "")]
    for method, act in calls:
        assert httpx.request(method, f"{url}{REEMBED}{act}", headers=gateway.headers()).status_code == 200
        assert httpx.request(method, f"{url}{REEMBED}{act}").status_code == 401
    assert [(request["method"], request["path"]) for request in peer.requests] == [
        (method, f"{REEMBED}{act}") for method, act in calls
    ]
    assert all(request["headers"]["x-cloister-tenant"].startswith("proj_") for request in peer.requests)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{REEMBED}/switch/x"),
        ("POST", "/cloister/v1/vector_stores/file-1/reembed"),
        ("GET", "/v1/files/..%2f..%2finternal%2fsearch"),
        ("GET", "/v1/files/file-a%2f..%2fb"),
        ("GET", "/v1/files/vs_1"),
        ("POST", "/v1/uploads/file-1/parts"),
        ("GET", f"/v1/vector_stores/{STORE}/files/{STORE}"),
        ("GET", f"/v1/vector_stores/{STORE}/files/{FILE}/images/x"),
        ("GET", f"/v1/vector_stores/{STORE}/files/{FILE}/images/-1"),
        ("POST", "/v1/vector_stores/x'y/search"),
        ("POST", "/internal/search"),
        ("GET", f"/v1/files/{FILE}/anything"),
    ],
)
def test_path_that_is_not_served_never_reaches_the_retriever(
    gateway: GatewayFixture, url: str, peer: Peer, method: str, path: str
) -> None:
    response = httpx.request(method, f"{url}{path}", headers=gateway.headers())
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert peer.requests == []


def test_known_query_passes_alone_and_what_is_not_honoured_is_refused(
    gateway: GatewayFixture, url: str, peer: Peer
) -> None:
    refused = httpx.get(f"{url}/v1/files?limit=5&before=file-1", headers=gateway.headers())
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "before")
    path = f"/v1/vector_stores/{STORE}/files?limit=5&filter=failed&utm_source=x"
    passed = httpx.get(f"{url}{path}", headers=gateway.headers())
    assert passed.status_code == 200
    assert [request["query"] for request in peer.requests] == ["limit=5&filter=failed"]


def test_a_picture_passes_with_what_keeps_it_harmless(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    safe = {
        "content-type": "image/png",
        "content-disposition": 'inline; filename="a.png"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-store",
    }
    peer.answer, peer.headers = b"\x89PNG\r\n\x1a\n", {**safe, "x-inside": "secret"}
    path = f"/v1/vector_stores/{STORE}/files/{FILE}/images/3"
    response = httpx.get(f"{url}{path}", headers=gateway.headers())
    assert response.content == peer.answer
    assert {name: response.headers[name] for name in safe} == safe
    assert "x-inside" not in response.headers
    assert [request["path"] for request in peer.requests] == [path]


def test_errors_pass_through_as_they_are(gateway: GatewayFixture, url: str, peer: Peer) -> None:
    error = {"error": {"message": "No such file.", "type": "invalid_request_error", "param": None, "code": "not_found"}}
    peer.status, peer.answer = 404, orjson.dumps(error)
    response = httpx.get(f"{url}/v1/files/{FILE}", headers=gateway.headers())
    assert (response.status_code, response.json()) == (404, error)
    peer.status, peer.headers = 503, {"content-type": "application/json", "retry-after": "7"}
    response = httpx.get(f"{url}/v1/files/{FILE}", headers=gateway.headers())
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    peer.status = 401
    response = httpx.get(f"{url}/v1/files/{FILE}", headers=gateway.headers())
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")


def test_retriever_that_is_down_is_a_503_with_retry_after_and_back_again_works(
    make_gateway: Callable[..., GatewayFixture], peer: Peer, tmp_path: Any
) -> None:
    port = free_port()
    token = str(tmp_path / "secrets" / "token")
    gateway = make_gateway(retriever={"url": f"http://127.0.0.1:{port}", "token_file": token})
    with gateway.serve() as url:
        response = httpx.get(f"{url}/v1/files", headers=gateway.headers())
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        with served(peer, port):
            assert httpx.get(f"{url}/v1/files", headers=gateway.headers()).status_code == 200
        assert httpx.get(f"{url}/v1/files", headers=gateway.headers()).status_code == 503
