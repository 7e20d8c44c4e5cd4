"""What the gateway reads of a batch's input, and the files that it writes of what became of it."""

import time
from collections.abc import AsyncIterator

import openai
import pytest
from cloister_common.caller import Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import NotFound
from cloister_common.ids import new_placed_id

from tests.support.documents import upload

LINES = b'{"custom_id":"a"}\n{"custom_id":"b"}\n'


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


def batch_file(sdk: openai.OpenAI) -> str:
    return sdk.files.create(file=("in.jsonl", LINES), purpose="batch").id


async def test_input_is_read_in_parts(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    file_id = batch_file(sdk)
    found = await client.file(tenant, file_id)
    assert (found["purpose"], found["bytes"], found["filename"]) == ("batch", len(LINES), "in.jsonl")
    assert await client.content(tenant, file_id, start=0, stop=len(LINES)) == LINES
    assert await client.content(tenant, file_id, start=3, stop=9) == LINES[3:9]
    for asked in (client.file("proj_other", file_id), client.content("proj_other", file_id, start=0, stop=2)):
        with pytest.raises(NotFound):
            await asked


async def test_results_are_one_file_however_often_they_are_written(
    sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    source, now = batch_file(sdk), time.time_ns()
    file_id = new_placed_id("file-", now)
    for _ in range(2):
        await client.put_file(tenant, file_id, pieces(b"one\n", b"two\n"), name="out.jsonl", like=source, seconds=3600)
    file = sdk.files.retrieve(file_id)
    assert (file.purpose, file.filename, file.bytes) == ("batch_output", "out.jsonl", 8)
    assert (file.created_at, file.expires_at) == (now // 10**9, now // 10**9 + 3600)
    assert sdk.files.content(file_id).read() == b"one\ntwo\n"
    assert [one.id for one in sdk.files.list(purpose="batch_output")] == [file_id]


async def test_results_are_seen_by_those_who_see_the_input(
    sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    ana, ben = Caller(user="ana"), Caller(user="ben")
    of_ana = sdk.with_options(default_headers=ana.headers())
    source = of_ana.files.create(file=("in.jsonl", LINES), purpose="batch", extra_body={"access": '{"users": []}'}).id
    file_id = new_placed_id("file-", time.time_ns())
    await client.put_file(tenant, file_id, pieces(b"x"), name="out.jsonl", like=source, caller=ana)
    assert (await client.file(tenant, file_id, caller=ana))["id"] == file_id
    with pytest.raises(NotFound):
        await client.file(tenant, file_id, caller=ben)


async def test_neither_is_a_document(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    source, file_id = batch_file(sdk), new_placed_id("file-", time.time_ns())
    await client.put_file(tenant, file_id, pieces(b"x"), name="out.jsonl", like=source)
    store = sdk.vector_stores.create(file_ids=[upload(sdk, "a.txt", b"a document")])
    for refused in (source, file_id):
        for attach in (
            lambda refused=refused: sdk.vector_stores.files.create(store.id, file_id=refused),
            lambda refused=refused: sdk.vector_stores.create(file_ids=[refused]),
            lambda refused=refused: sdk.vector_stores.file_batches.create(store.id, file_ids=[refused]),
        ):
            with pytest.raises(openai.BadRequestError) as error:
                attach()
            assert (error.value.param, error.value.code) == ("file_id", "invalid_purpose")
