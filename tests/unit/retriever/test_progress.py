"""How far files are: what waits before them, what was read of how much, what was left out, and when to ask again."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from cloister_common.clients.embedder import Embeddings
from cloister_retriever.vector_stores.progress import Progress, poll_after_ms, progress_of, progress_of_all
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Chunking, Outcome, Reading
from cloister_retriever.vector_stores.schemas import CreateBatch, CreateStore

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until

LONG = " ".join(f"word{number}" for number in range(100))
"""So many passages that they go in two steps."""


def attached(name: str, outcome: Outcome | None) -> Attached:
    record = AttachmentRecord(
        id=f"vsf_{name}",
        store_id="vs_1",
        file_id=f"file-{name}",
        file_name="a.txt",
        created_at=1,
        attributes={},
        chunking=Chunking(max_tokens=200, overlap_tokens=40),
    )
    return Attached(record=record, outcome=outcome)


def ended(status: Any, **facts: Any) -> Outcome:
    return Outcome(attachment_id="vsf_1", status=status, finished_at=1, **facts)


async def test_files_that_wait_say_how_many_of_their_project_come_first() -> None:
    process = MemoryProcess(Stored(), MemoryRoot())
    files = [(await process.upload(f"text {number}")).id for number in range(3)]
    store = await process.stores.create(TENANT, CreateStore())
    opened = await process.stores.get(TENANT, store.id)
    batch, members = await process.batches.create(TENANT, store.id, opened.key, CreateBatch(file_ids=files))
    progress = await process.attachments.progress(TENANT, store.id, opened.key, members)
    shown = [progress_of(file, progress)["progress"] for file in members]
    assert sorted(one["files_ahead"] for one in shown) == [0, 1, 2]
    assert {one["stage"] for one in shown} == {"waiting"}
    whole = (await process.stores.describe(TENANT, opened)).wire()["progress"]
    assert (whole["files_waiting"], whole["files_reading"], whole["files_ahead"]) == (3, 0, 0)
    assert await process.queue.claim() is not None
    process.queue._looked = None
    whole = (await process.stores.describe(TENANT, opened)).wire()["progress"]
    assert (whole["files_waiting"], whole["files_reading"]) == (2, 1)
    assert batch.wire(members).file_counts.in_progress == 3


async def test_a_long_file_says_how_many_passages_are_done_and_leaves_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.ingestion.watch._NOTE_SECONDS", 0.005)
    process = MemoryProcess(Stored(), MemoryRoot())
    embed, gate = process.embedder.embed, asyncio.Event()
    steps = 0

    async def gated(texts: Sequence[str], **options: Any) -> Embeddings:
        nonlocal steps
        steps += 1
        if steps > 1:
            await gate.wait()
        return await embed(texts, **options)

    monkeypatch.setattr(process.embedder, "embed", gated)
    file = await process.upload(LONG)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file.id]))
    opened = await process.stores.get(TENANT, store.id)
    process.workers.start(process.supervisor)

    async def progress() -> dict[str, Any]:
        process.queue._looked = None
        found = await process.attachments.get(TENANT, store.id, opened.key, file.id)
        going = await process.attachments.progress(TENANT, store.id, opened.key, [found])
        shown = progress_of(found, going)["progress"]
        assert isinstance(shown, dict)
        return shown

    async def is_half_done() -> bool:
        return bool((await progress())["passages_done"] == 64)

    async def is_done() -> bool:
        return bool((await progress())["stage"] == "completed")

    await until(is_half_done)
    shown = await progress()
    assert (shown["stage"], shown["passages_total"], shown["files_ahead"]) == ("embedding", 100, None)
    assert (await process.stores.describe(TENANT, opened)).wire()["progress"]["passages_done"] == 64
    gate.set()
    await until(is_done)
    assert (await progress())["passages_done"] == 100
    await process.supervisor.close()
    assert [listed.path for listed in await process.objects.list("t") if "/readings/" in listed.path] == []


def test_what_was_left_out_is_said_of_the_whole() -> None:
    files = [
        attached("1", ended("completed", passages=3, pages=2)),
        attached("2", ended("completed", passages=4, details="Page 1 has no text.")),
        attached("3", ended("failed", code="invalid_file", message="It is damaged.")),
        attached("4", ended("failed", code="invalid_file", message="It is damaged.")),
        attached("5", None),
    ]
    reading = Reading(pages_done=5, pages=9)
    shown = progress_of_all(files, {"vsf_5": Progress(reading=reading)})
    assert shown["status_details"] == (
        "2 files were not read (last_error says why), and "
        "1 file was read in part, or perhaps wrongly (status_details says what)."
    )
    assert shown["progress"] == {
        "files_waiting": 0,
        "files_reading": 1,
        "files_ahead": None,
        "pages_done": 7,
        "pages_total": 11,
        "passages_done": 7,
        "passages_total": 7,
    }
    assert "status_details" not in progress_of_all(files[:1], {})
    assert progress_of(files[0], {})["progress"]["pages_total"] == 2
    assert progress_of(files[2], {}) == {}


def test_a_small_file_is_asked_for_again_soon_and_many_after_a_second_at_most() -> None:
    one, many = [attached("1", None)], [attached(str(number), None) for number in range(2000)]
    assert poll_after_ms(one, {}) == {"openai-poll-after-ms": "100"}
    assert poll_after_ms(one, {"vsf_1": Progress(files_ahead=4)}) == {"openai-poll-after-ms": "500"}
    assert poll_after_ms(many, {}) == {"openai-poll-after-ms": "1000"}
    assert poll_after_ms([attached("1", ended("completed"))], {}) == {}, "there is nothing to wait for"
