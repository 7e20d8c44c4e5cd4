"""Documents in, cited answers out, and nothing readable on disk."""

import base64
import gzip
import os
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CHAT_MODEL, sdk
from tests.support.stack import Stack

HANDBOOK = b"""# Vacation policy

Every employee of Zorblatt Industries gets 31 days of paid vacation per year.

# Parking

Parking permits are issued by the Quux office in building 7.
"""


@pytest.fixture(scope="module")
def vector_store(client: Any, pdf: bytes) -> str:
    store = client.vector_stores.create(name="handbooks")
    for name, content in (("handbook.md", HANDBOOK), ("reactor.pdf", pdf)):
        file = client.files.create(file=(name, content), purpose="assistants")
        attached = client.vector_stores.files.create_and_poll(
            file_id=file.id, vector_store_id=store.id, attributes={"kind": name.split(".")[1]}, poll_interval_ms=200
        )
        assert attached.status == "completed", attached.last_error
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 2
    return str(store.id)


def test_search_finds_the_passage_with_its_place(client: Any, vector_store: str) -> None:
    best = client.vector_stores.search(vector_store, query="How many days of vacation do I get?").data[0]
    assert best.filename == "handbook.md"
    assert "31 days" in best.content[0].text
    assert best.model_extra
    assert best.model_extra["passage"]["section"] == "Vacation policy"
    only_pdf = client.vector_stores.search(
        vector_store, query="vacation", filters={"type": "eq", "key": "kind", "value": "pdf"}
    )
    assert {result.filename for result in only_pdf} == {"reactor.pdf"}


def test_an_answer_cites_the_document_it_comes_from(client: Any, vector_store: str) -> None:
    events = list(
        client.responses.create(
            model=CHAT_MODEL,
            input="What is the maximum output of the Glimmer reactor?",
            tools=[{"type": "file_search", "vector_store_ids": [vector_store], "max_num_results": 1}],
            include=["file_search_call.results"],
            temperature=0,
            max_output_tokens=60,
            stream=True,
        )
    )
    kinds = [event.type for event in events]
    assert kinds[:7] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
    ]
    search, message = events[-1].response.output
    assert search.results[0].filename == "reactor.pdf"
    assert "42 megawatts" in search.results[0].text
    assert "42" in message.content[0].text
    citation = message.content[0].annotations[0]
    assert citation.filename == "reactor.pdf"
    assert citation.page == 2
    assert 0 < citation.index <= len(message.content[0].text)
    assert "response.output_text.annotation.added" in kinds


def test_nothing_that_was_said_or_uploaded_is_readable_on_disk(stack: Stack, client: Any) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    text = f"The secret word is {canary}."
    file = client.files.create(file=(f"{canary}.md", f"# {canary}\n\n{text}".encode()), purpose="assistants")
    store = client.vector_stores.create(name=canary, metadata={"note": canary})
    attached = client.vector_stores.files.create_and_poll(
        file_id=file.id, vector_store_id=store.id, attributes={"word": canary}, poll_interval_ms=200
    )
    assert attached.status == "completed"
    conversation = client.conversations.create(metadata={"title": canary})
    client.responses.create(
        model=CHAT_MODEL,
        input=text,
        conversation=conversation.id,
        metadata={"note": canary},
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        max_output_tokens=16,
    )
    found = client.vector_stores.search(store.id, query=text).data[0]
    assert canary in found.content[0].text  # through the API, it is there
    assert client.files.retrieve(file.id).filename == f"{canary}.md"
    assert client.files.content(file.id).read().decode().endswith(text)
    forms = _forms(canary)
    places = [path for path in stack.var.rglob("*") if path.is_file() and any(form in _read(path) for form in forms)]
    assert places == []


def _forms(canary: str) -> list[bytes]:
    """The word as it could lie about: raw, hex, UTF-16, and base64 at each of the three alignments."""
    raw = canary.encode()
    encoded = [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.hex().encode(), canary.encode("utf-16-le"), *encoded]


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data += gzip.decompress(data)
    return data


def test_every_acknowledged_item_survives_kill_9_of_gateway_and_redis(stack: Stack) -> None:
    with sdk(base_url=stack.base_url, api_key=stack.api_key, max_retries=8, timeout=120) as client:
        conversation = client.conversations.create()
        said = []
        for number, part in enumerate(("gateway", "redis", "gateway")):
            client.responses.create(
                model=CHAT_MODEL, input=f"Turn {number}.", conversation=conversation.id, max_output_tokens=8
            )
            said.append(f"Turn {number}.")
            stream = client.responses.create(
                model=CHAT_MODEL,
                input=f"Long turn {number}.",
                conversation=conversation.id,
                max_output_tokens=60,
                background=True,
                stream=True,
            )
            next(iter(stream))  # response.created: acknowledged, and the answer is being made
            said.append(f"Long turn {number}.")
            stack.kill(part)
        deadline = time.monotonic() + 120
        while True:
            items = list(client.conversations.items.list(conversation.id, order="asc"))
            if len(items) == 2 * len(said) or time.monotonic() > deadline:
                break
            os.sched_yield()
    assert [item.role for item in items] == ["user", "assistant"] * len(said)
    assert [item.content[0].text for item in items if item.role == "user"] == said


def test_a_second_start_finds_everything_again(stack: Stack, vector_store: str) -> None:
    with sdk(base_url=stack.base_url, api_key=stack.api_key, max_retries=0, timeout=120) as client:
        conversation = client.conversations.create(metadata={"title": "kept"})
        client.conversations.items.create(
            conversation.id, items=[{"type": "message", "role": "user", "content": "Keep this."}]
        )
    assert stack.stop() == 0
    stack.start()
    with sdk(base_url=stack.base_url, api_key=stack.api_key, max_retries=0, timeout=120) as client:
        assert client.conversations.retrieve(conversation.id).metadata == {"title": "kept"}
        assert client.conversations.items.list(conversation.id).data[0].content[0].text == "Keep this."
        assert client.vector_stores.search(vector_store, query="parking permit").data[0].filename == "handbook.md"
