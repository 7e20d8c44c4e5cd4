"""The text of a file, and an image, for one prompt, asked of the real retriever and of its fake."""

import io

import openai
import pytest
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, NotFound
from PIL import Image

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


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 24), "red").save(out, "PNG")
    return out.getvalue()


async def test_an_uploaded_image_and_one_that_is_sent(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    file_id = upload(sdk, "a.png", png())
    stored = await client.image(tenant, file_id=file_id)
    sent = await client.image(tenant, content=png(), detail="low")
    assert (stored.file_id, sent.file_id) == (file_id, None)
    for image in (stored, sent):
        assert (image.width, image.height) == (40, 24)
        assert image.url.startswith("data:image/png;base64,iVBORw0KGgo")


async def test_what_is_no_image_is_told(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    for file_id in ("file-" + "0" * 48, upload(sdk, "a.png", png())):
        with pytest.raises(NotFound) as unknown:
            await client.image("proj_other", file_id=file_id)
        assert unknown.value.param == "file_id"
    text = upload(sdk, "a.png", b"no image")
    for asked, code in (
        ({"file_id": text}, "unsupported_image_media_type"),
        ({"content": b""}, "unsupported_image_media_type"),
        ({"content": b"%PDF-1.7"}, "unsupported_image_media_type"),
        ({"content": png()[:16]}, "invalid_image"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await client.image(tenant, **asked)
        assert (refused.value.param, refused.value.error_code) == ("file", code)
