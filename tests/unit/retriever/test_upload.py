"""Multipart uploads read as a stream."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from cloister_common.errors import InvalidRequest
from cloister_retriever.files.service import clean_name
from cloister_retriever.files.upload import MultipartUpload
from hypothesis import given, settings
from hypothesis import strategies as st

TYPE = 'multipart/form-data; boundary="xx--yy"'


def field(name: str, value: str) -> bytes:
    return f'--xx--yy\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def file(content: bytes, filename: str = "a.txt", name: str = "file") -> bytes:
    head = f'--xx--yy\r\ncontent-disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    return head.encode() + b"content-type: text/plain\r\n\r\n" + content + b"\r\n"


END = b"--xx--yy--\r\n"


async def arriving(body: bytes, size: int) -> AsyncIterator[bytes]:
    for first in range(0, len(body), size):
        yield body[first : first + size]


async def received(body: bytes, size: int = 7) -> tuple[str | None, bytes, dict[str, str]]:
    form = MultipartUpload(TYPE, arriving(body, size))
    name = await form.find_file()
    content = b"".join([chunk async for chunk in form.chunks()]) if name is not None else b""
    await form.finish()
    return name, content, form.fields


@given(content=st.binary(max_size=300), size=st.integers(1, 50), first=st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_file_arrives_whole_however_the_body_is_cut(content: bytes, size: int, first: bool) -> None:
    content = content.replace(b"--xx--yy", b"")
    purpose = field("purpose", "assistants")
    body = purpose + file(content) + END if first else file(content) + purpose + END
    assert asyncio.run(received(body, size)) == ("a.txt", content, {"purpose": "assistants"})


async def test_a_name_in_any_script_arrives() -> None:
    name, _, _ = await received(file(b"x", filename="Bericht für 日本.pdf") + END)
    assert name == "Bericht für 日本.pdf"


async def test_a_body_without_a_file_has_none() -> None:
    assert await received(field("purpose", "assistants") + END) == (None, b"", {"purpose": "assistants"})


@pytest.mark.parametrize(
    "body",
    [
        file(b"half a file")[:-4],
        file(b"one") + file(b"two") + END,
        file(b"x", name="document") + END,
        b"no multipart at all",
        field("purpose", "x" * 70_000) + END,
        b"".join(field(f"f{number}", "1") for number in range(40)) + END,
    ],
)
async def test_a_malformed_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await received(body, 1000)


async def test_another_content_type_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="multipart"):
        MultipartUpload("application/json", arriving(b"{}", 1))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\docs\\a.txt", "a.txt"),
        ("a\x00b\u202egnp.exe", "abgnp.exe"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("x" * 300, "x" * 255),
        ("x" * 300 + ".md", "x" * 252 + ".md"),
        ("x" * 300 + ".tar.gz", "x" * 252 + ".gz"),
        ("x" * 250 + ".markdown", "x" * 246 + ".markdown"),
        ("a." + "x" * 300, "a." + "x" * 253),
        ("." + "x" * 300, "." + "x" * 254),
    ],
)
def test_names_are_cleaned(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept
