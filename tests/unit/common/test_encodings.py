"""Compressed bodies: read as what they were, under the limits of plain ones, or refused by name."""

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable

import httpx
import pytest
from backports import zstd
from cloister_common.app import create_base_app
from cloister_common.bodies import JsonRoute
from cloister_common.decoding import decoded
from cloister_common.errors import InvalidRequest, PayloadTooLarge
from cloister_common.wire.requests import RequestModel
from fastapi import APIRouter, FastAPI, Request
from starlette.types import Message, Receive

LIMIT = 1_000_000
PLAIN = b'{"word": "you"}'
JSON = {"content-type": "application/json"}

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "gzip, zstd": lambda body: zstd.compress(gzip.compress(body)),
    "identity, gzip": gzip.compress,
}


class Body(RequestModel):
    word: str


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = create_base_app(title="test", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=LIMIT)
    router = APIRouter(route_class=JsonRoute)

    @router.post("/typed")
    async def typed(body: Body) -> str:
        return body.word

    @app.post("/size")
    async def size(request: Request) -> dict[str, int | str | None]:
        return {"bytes": len(await request.body()), "length": request.headers.get("content-length")}

    app.include_router(router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_compressed_body_is_read_as_what_it_was(client: httpx.AsyncClient, coding: str, size: int) -> None:
    body = COMPRESS[coding](PLAIN)
    headers = JSON | {"content-encoding": coding}
    declared = await client.post("/typed", content=body, headers=headers)
    in_chunks = await client.post("/typed", content=pieces(body, size), headers=headers)
    assert (declared.json(), in_chunks.json()) == ("you", "you")


async def test_nothing_says_how_long_it_was_compressed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/size", content=gzip.compress(b"x" * 5000), headers={"content-encoding": "gzip"})
    assert answer.json() == {"bytes": 5000, "length": None}


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_streams_one_behind_the_other_are_one_body(client: httpx.AsyncClient, coding: str) -> None:
    body = COMPRESS[coding](PLAIN[:6]) + COMPRESS[coding](b"") + COMPRESS[coding](PLAIN[6:])
    answer = await client.post("/typed", content=body, headers=JSON | {"content-encoding": coding})
    assert answer.json() == "you"


@pytest.mark.parametrize("coding", COMPRESS)
async def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(client: httpx.AsyncClient, coding: str) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        body = COMPRESS[coding](bytes(size))
        answer = await client.post("/size", content=body, headers={"content-encoding": coding})
        assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], f"{LIMIT} bytes" in error["message"]) == ("request_too_large", True)


@pytest.mark.parametrize("path", ["/size", "/typed"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "gzip, zstd"])
async def test_a_bomb_is_a_413(client: httpx.AsyncClient, coding: str, path: str) -> None:
    bomb = COMPRESS[coding](bytes(20_000_000))
    assert len(bomb) < LIMIT
    answer = await client.post(path, content=bomb, headers=JSON | {"content-encoding": coding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", PLAIN),
        ("gzip", gzip.compress(PLAIN)[:-1]),
        ("gzip", gzip.compress(PLAIN) + b"more"),
        ("gzip", gzip.compress(PLAIN)[:-8] + bytes(8)),
        ("deflate", zlib.compress(PLAIN)[2:-4]),
        ("zstd", PLAIN),
        ("zstd", zstd.compress(PLAIN)[:-1]),
        ("zstd", gzip.compress(PLAIN)),
        ("gzip, zstd", zstd.compress(PLAIN)),
        ("gzip, zstd", zstd.compress(gzip.compress(PLAIN)[:-1])),
    ],
)
@pytest.mark.parametrize("path", ["/size", "/typed"])
async def test_a_broken_stream_is_a_400_that_names_the_header(
    client: httpx.AsyncClient, coding: str, body: bytes, path: str
) -> None:
    answer = await client.post(path, content=body, headers=JSON | {"content-encoding": coding})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "Content-Encoding")
    assert (error["code"], "JSON" in error["message"]) == ("invalid_content_encoding", False)


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "gzip, gzip, gzip", "aes128gcm", "zstd;q=1"])
async def test_a_coding_that_is_not_read_is_a_415_that_says_which_are(client: httpx.AsyncClient, coding: str) -> None:
    answer = await client.post("/size", content=b"x", headers={"content-encoding": coding})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (415, "unsupported_media_type", "Content-Encoding")
    assert ("zstd" in error["message"]) or ("at most 2 times" in error["message"])


@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_without_a_body_the_header_says_nothing(client: httpx.AsyncClient, coding: str) -> None:
    assert (await client.get("/livez", headers={"content-encoding": coding})).status_code == 200
    assert (await client.post("/size", headers={"content-encoding": coding})).json()["bytes"] == 0


async def test_an_empty_body_in_chunks_is_empty(client: httpx.AsyncClient) -> None:
    answer = await client.post("/size", content=pieces(b"", 1), headers={"content-encoding": "gzip"})
    assert answer.json()["bytes"] == 0


def receiving(body: Iterable[bytes], *, last: str = "http.request") -> Receive:
    """The messages of a request, then the news that its client left."""
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    messages.append({"type": last, "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


async def read(receive: Receive) -> int:
    """The bytes of the body."""
    total = 0
    while (message := await receive())["type"] == "http.request":
        total += len(message["body"])
        if not message["more_body"]:
            break
    return total


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_an_upload_of_any_size_takes_the_memory_of_a_piece(coding: str) -> None:
    size = 20_000_000
    body = COMPRESS[coding](bytes(size))
    receive = decoded(receiving([body]), [coding], limit=size)
    tracemalloc.start()
    try:
        assert await read(receive) == size
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


async def test_a_zstd_stream_cannot_ask_for_much_memory() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    body = compressor.compress(PLAIN) + compressor.flush()
    with pytest.raises(InvalidRequest, match="too much memory"):
        await read(decoded(receiving([body]), ["zstd"], limit=LIMIT))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_streams_that_hold_nothing_do_not_go_on_for_ever(coding: str) -> None:
    body = COMPRESS[coding](b"") * 100_000
    with pytest.raises(InvalidRequest, match="parts"):
        await read(decoded(receiving([body]), [coding], limit=10 * LIMIT))


async def test_what_is_between_two_codings_is_bounded_too() -> None:
    # A gzip stream of a long file name and no content.
    named = b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (2 * LIMIT) + b"\0" + gzip.compress(b"", mtime=0)[10:]
    assert gzip.decompress(named) == b""
    body = zstd.compress(named)
    with pytest.raises(PayloadTooLarge):
        await read(decoded(receiving([body]), ["gzip", "zstd"], limit=LIMIT))


async def test_others_have_their_turn_while_a_body_is_decompressed() -> None:
    size, turns = 20_000_000, 0
    task = asyncio.create_task(read(decoded(receiving([gzip.compress(bytes(size))]), ["gzip"], limit=size)))
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await task, turns > 200) == (size, True)


async def test_what_is_cancelled_while_it_waits_is_read_later() -> None:
    body, arrived = gzip.compress(PLAIN), asyncio.Event()

    async def receive() -> Message:
        await arrived.wait()
        return {"type": "http.request", "body": body, "more_body": False}

    receive_decoded = decoded(receive, ["gzip"], limit=LIMIT)
    waiting = asyncio.ensure_future(receive_decoded())
    await asyncio.sleep(0)
    waiting.cancel()
    arrived.set()
    # The last piece says that it is the last, so that who watches for the client's end can.
    assert await receive_decoded() == {"type": "http.request", "body": PLAIN, "more_body": False}


async def test_a_client_that_leaves_in_the_middle_has_left() -> None:
    receive = decoded(receiving([gzip.compress(PLAIN)[:5]], last="http.disconnect"), ["gzip"], limit=LIMIT)
    assert (await receive())["type"] == "http.disconnect"
