"""What the gateway hands on to the retriever, and what comes back: as streams, once, with errors as they are."""

import asyncio
from collections.abc import AsyncIterator

import openai
import orjson
import pytest
from cloister_common.clients.retriever import HandedOn, RetrieverClient
from cloister_common.errors import Unavailable, UpstreamFailed
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import free_port, served

from tests.support.documents import upload
from tests.support.retriever import RETRIEVER_TOKEN

BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}


def client_of(url: str, token: str = RETRIEVER_TOKEN, *, deadline_seconds: float = 5) -> RetrieverClient:
    return RetrieverClient(url, InternalTokens([token.encode()]), ClientTls(), deadline_seconds=deadline_seconds)


async def form(content: bytes) -> AsyncIterator[bytes]:
    yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    yield content
    yield b"\r\n--b--\r\n"


async def read(answer: HandedOn) -> bytes:
    try:
        return b"".join([piece async for piece in answer.body()])
    finally:
        await answer.close()


async def test_file_goes_in_and_comes_back_as_streams(client: RetrieverClient, tenant: str) -> None:
    answer = await client.forward(tenant, "POST", "/v1/files", headers=BOUNDARY, content=form(b"kept as it is"))
    assert answer.status == 200
    made = orjson.loads(await read(answer))
    content = await client.forward(tenant, "GET", f"/v1/files/{made['id']}/content")
    assert (content.status, await read(content)) == (200, b"kept as it is")
    listed = await client.forward(tenant, "GET", "/v1/files", query=[("purpose", "batch")])
    assert orjson.loads(await read(listed))["data"] == []


async def test_errors_come_back_as_they_are(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    file_id = upload(sdk, "a.txt", b"x")
    for owner, path in ((tenant, "/v1/files/file-" + "0" * 48), ("proj_other", f"/v1/files/{file_id}")):
        answer = await client.forward(owner, "GET", path)
        assert answer.status == 404
        assert orjson.loads(await read(answer))["error"]["code"] == "not_found"


async def test_wrong_token_is_the_stacks_own_fault(url: str, tenant: str) -> None:
    client = client_of(url, "wrong" * 8)
    with pytest.raises(UpstreamFailed):
        await client.forward(tenant, "GET", "/v1/files")
    await client.close()


async def test_readiness_is_asked_of_the_same_client(client: RetrieverClient) -> None:
    await client.check()
    nobody = client_of(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable):
        await nobody.check()
    with pytest.raises(Unavailable) as down:
        await nobody.forward("proj_a", "GET", "/v1/files")
    assert down.value.retry_after is not None
    await nobody.close()


async def test_body_that_breaks_off_is_the_callers_own_error(client: RetrieverClient, tenant: str) -> None:
    class Gone(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        raise Gone

    with pytest.raises(Gone):
        await client.forward(tenant, "POST", "/v1/files", headers=BOUNDARY, content=broken())


async def test_search_finds_a_connection_while_all_handed_on_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_common.clients.retriever._MOST_HANDED_ON", 2)
    monkeypatch.setattr("cloister_common.clients.retriever._CONNECTIONS", 4)
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await release.wait()

    with served(FakeRetriever(RETRIEVER_TOKEN)) as url:
        client = client_of(url, deadline_seconds=1)
        uploads = [
            asyncio.create_task(client.forward("proj_a", "POST", "/v1/files", headers=BOUNDARY, content=slow()))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await client.forward("proj_a", "GET", "/v1/files")
        await client.check()
        release.set()
        for answer in await asyncio.gather(*uploads):
            await answer.close()
            await answer.close()
        for _ in range(5):
            assert (await read(await client.forward("proj_a", "GET", "/v1/files"))).startswith(b"{")
        await client.close()
