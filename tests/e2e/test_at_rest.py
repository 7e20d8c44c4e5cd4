"""Nothing that was said can be read in what is stored: files of Redis, Milvus and the blobs, logs, caches."""

import base64
import json
import secrets
import string
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI

from tests.e2e.conftest import CHAT_MODEL
from tests.support.stack import Stack
from tests.support.waiting import wait_until

_ALPHABET = string.ascii_lowercase + "äöü"


def encodings(text: str) -> dict[str, bytes]:
    """The text as it could lie in a file: raw, escaped, in other character sets, in base 16 and in base 64."""
    raw = text.encode()
    forms = {
        "utf-8": raw,
        "utf-16": text.encode("utf-16-le"),
        "latin-1": text.encode("latin-1"),
        "json": json.dumps(text)[1:-1].encode(),
        "url": urllib.parse.quote(text).encode(),
        "hex": raw.hex().encode(),
    }
    for offset in range(3):
        # Base 64 of a longer text has the same letters for its middle, in one of three alignments.
        coded = base64.b64encode(b"\0" * offset + raw)
        forms[f"base64+{offset}"] = coded[4 * bool(offset) : -4]
        forms[f"urlsafe64+{offset}"] = base64.urlsafe_b64encode(b"\0" * offset + raw)[4 * bool(offset) : -4]
    return forms


def stored(var: Path) -> Iterator[Path]:
    """Every file of the installation but the person's own keys."""
    return (path for path in var.rglob("*") if path.is_file() and path.name != "client.env")


def secret_text() -> str:
    """A text of letters that is nowhere by chance, with letters beyond ASCII."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(40))


def test_nothing_that_was_said_lies_in_any_file(stack: Stack, client: OpenAI) -> None:
    message, instruction, document, file_name, title = (secret_text() for _ in range(5))
    conversation = client.conversations.create(metadata={"title": title})
    client.responses.create(
        model=CHAT_MODEL, conversation=conversation.id, input=message, instructions=instruction, max_output_tokens=8
    )
    file = client.files.create(file=(f"{file_name}.md", f"# Notes\n\n{document}".encode()), purpose="assistants")
    # In Milvus, whose files are searched too.
    store = client.vector_stores.create(
        name=title, file_ids=[file.id], metadata={"title": title}, extra_body={"protection": "standard"}
    )
    wait_until(
        lambda: client.vector_stores.retrieve(store.id).file_counts.completed == 1,
        seconds=180,
        what="the document is ingested",
    )
    client.vector_stores.search(store.id, query=document)

    found = [
        f"{what} as {form} in {path.relative_to(stack.var)}"
        for path in stored(stack.var)
        for content in [path.read_bytes()]
        for what, text in {
            "message": message,
            "instruction": instruction,
            "document": document,
            "file name": file_name,
            "title": title,
        }.items()
        for form, needle in encodings(text).items()
        if needle in content
    ]
    assert found == []

    assert client.conversations.retrieve(conversation.id).metadata == {"title": title}
    assert client.files.retrieve(file.id).filename == f"{file_name}.md"
    assert document in client.files.content(file.id).text
    assert document in client.vector_stores.search(store.id, query=document).data[0].content[0].text
