"""The text of a file for one prompt, asked of the real retriever and of its fake."""

import openai
import pytest
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, NotFound

from tests.support.documents import upload


async def test_text_of_an_uploaded_file_and_of_one_that_is_sent(
    sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    file_id = upload(sdk, "zoo.md", "# Zoo\n\nthe zebra eats grass ü".encode())
    stored = await client.read(tenant, file_id=file_id)
    assert (stored.file_id, stored.filename) == (file_id, "zoo.md")
    assert "the zebra eats grass ü" in stored.text
    sent = await client.read(tenant, name="Bericht 日本.txt", content=b"the yak eats moss")
    assert (sent.file_id, sent.filename, sent.text.strip()) == (None, "Bericht 日本.txt", "the yak eats moss")


async def test_what_cannot_be_read_is_told(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    foreign = upload(sdk, "a.txt", b"x")
    for file_id in ("file-" + "0" * 48, foreign):
        with pytest.raises(NotFound) as unknown:
            await client.read("proj_other", file_id=file_id)
        assert unknown.value.param == "file_id"
    for content, code in ((b" \n", "invalid_file"), (b"\x00\x01\x02binary\x00" * 50, "unsupported_file")):
        with pytest.raises(InvalidRequest) as refused:
            await client.read(tenant, name="a", content=content)
        assert (refused.value.param, refused.value.error_code) == ("file", code)
