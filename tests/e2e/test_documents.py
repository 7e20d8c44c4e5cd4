"""Documents in, cited answers out."""

from typing import Any

import pytest

from tests.e2e.conftest import CHAT_MODEL

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
