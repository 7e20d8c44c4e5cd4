"""Parts that die, runs that end and begin again: everything acknowledged is there afterwards, once and in order."""

import subprocess
import sys
from pathlib import Path

import pytest
from openai import OpenAI

from deploy.local.settings import REPOSITORY
from tests.e2e.conftest import CHAT_MODEL
from tests.support.stack import Stack
from tests.support.waiting import wait_until


@pytest.fixture
def conversation(client: OpenAI) -> str:
    """A conversation with one finished turn."""
    conversation = client.conversations.create()
    client.responses.create(
        model=CHAT_MODEL, conversation=conversation.id, input="My name is Ada.", max_output_tokens=8
    )
    return conversation.id


@pytest.fixture
def vector_store(client: OpenAI) -> str:
    """A vector store with one document in it."""
    file = client.files.create(
        file=("harbour.md", b"# Harbour\n\nThe lighthouse stands in Ostend."), purpose="assistants"
    )
    # In Milvus, which is killed here as every other part is.
    store = client.vector_stores.create(name="harbour", file_ids=[file.id], extra_body={"protection": "standard"})
    wait_until(
        lambda: client.vector_stores.retrieve(store.id).file_counts.completed == 1,
        seconds=180,
        what="the document is ingested",
    )
    return store.id


def item_ids(client: OpenAI, conversation: str) -> list[str | None]:
    return [item.id for item in client.conversations.items.list(conversation, order="asc")]


@pytest.mark.parametrize("part", ["redis", "gateway"])
def test_kill_9_loses_no_acknowledged_item(stack: Stack, client: OpenAI, conversation: str, part: str) -> None:
    before = item_ids(client, conversation)
    stack.kill(part)
    assert item_ids(client, conversation) == before
    client.responses.create(model=CHAT_MODEL, conversation=conversation, input="Who am I?", max_output_tokens=8)
    after = item_ids(client, conversation)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2


@pytest.mark.parametrize("part", ["milvus", "embedder", "retriever", "llm"])
def test_every_other_part_comes_back_and_answers(
    stack: Stack, client: OpenAI, conversation: str, vector_store: str, part: str
) -> None:
    stack.kill(part)
    hits = client.vector_stores.search(vector_store, query="Where is the lighthouse?").data
    assert "Ostend" in hits[0].content[0].text
    client.responses.create(model=CHAT_MODEL, conversation=conversation, input="Who am I?", max_output_tokens=8)


def test_a_second_start_finds_conversations_files_and_vectors(
    stack: Stack, client: OpenAI, conversation: str, vector_store: str
) -> None:
    items, files, key = item_ids(client, conversation), [file.id for file in client.files.list()], stack.api_key
    assert stack.stop() == 0
    stack.start()
    assert stack.api_key == key
    assert item_ids(client, conversation) == items
    assert [file.id for file in client.files.list()] == files
    hits = client.vector_stores.search(vector_store, query="Where is the lighthouse?").data
    assert "Ostend" in hits[0].content[0].text


def test_a_killed_runner_leaves_nothing_running_and_the_next_start_works(
    stack: Stack, client: OpenAI, conversation: str
) -> None:
    items = item_ids(client, conversation)
    stack.kill_runner()
    stack.start()
    assert item_ids(client, conversation) == items


def test_a_second_run_is_told_what_is_in_its_way(stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.local", "--config", str(stack.folder / "local.yaml"), "--var"]

    def said(var: Path) -> tuple[int, str]:
        done = subprocess.run(
            [*command, str(var)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stderr

    code, sentence = said(stack.var)
    assert (code, sentence.startswith("Another run (process ")) == (2, True)
    code, sentence = said(tmp_path)
    assert (code, sentence.startswith("Port ")) == (2, True)
    assert len(sentence.splitlines()) == 1
