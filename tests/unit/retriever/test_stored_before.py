"""What the version before has stored opens, is found and listed, and work it left is done.

`stored_before.json` holds every object and every row of the index, written by the services as they were before they
spoke to the index through a protocol: two files that are searchable, by themselves and in a batch, one that waits in
the queue, a store that expires, and a file of a still older version, whose id says no time. It is never made anew.
"""

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cloister_common.wire.search import SearchRequest
from cloister_retriever.files.schemas import FilesQuery
from cloister_retriever.pages import ListQuery
from cloister_retriever.vector_stores.schemas import FilesInStoreQuery

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until
from tests.unit.retriever.test_ingestion import queue_is_empty, short_pauses

__all__ = ["short_pauses"]

BEFORE: dict[str, Any] = json.loads((Path(__file__).parent / "stored_before.json").read_text())
ZEBRA, LION, WAITS = BEFORE["files"]
STORE = BEFORE["store"]


@pytest.fixture
async def process() -> MemoryProcess:
    stored = Stored()
    stored.rows = {row["id"]: row for row in BEFORE["rows"]}
    process = MemoryProcess(stored, MemoryRoot(bytes.fromhex(BEFORE["root_key"])))
    for path, data in BEFORE["objects"].items():
        await process.objects.put(path, base64.b64decode(data))
    return process


async def test_files_are_listed_and_read(process: MemoryProcess) -> None:
    listed, _ = await process.files.list(TENANT, FilesQuery())
    assert [(file.id, file.name, file.damage) for file in listed] == [
        *((name, "a.txt", None) for name in (WAITS, LION, ZEBRA)),
        (BEFORE["old_file"], "old.txt", None),
    ]
    for before, behind in pairwise(listed):
        [found] = (await process.files.list(TENANT, FilesQuery(after=before.id, limit=1)))[0]
        assert found == behind
    contents = [b"".join([part async for part in process.files.content(TENANT, file)]) for file in listed]
    assert contents == [b"waits in the queue", b"the lion sleeps", b"the zebra eats grass", b"an old file"]


async def test_stores_their_files_and_batches_are_what_they_were(process: MemoryProcess) -> None:
    stores, _ = await process.stores.list(TENANT, ListQuery(order="asc"))
    assert [(store.id, store.record.name) for store in stores] == [(STORE, "zoo"), (BEFORE["lent"], "lent")]
    wire = stores[0].wire()
    assert (wire["metadata"], wire["file_counts"]["completed"], wire["status"]) == ({"k": "v"}, 2, "in_progress")
    key = (await process.stores.get(TENANT, STORE)).key
    files, _ = await process.attachments.page(TENANT, STORE, key, FilesInStoreQuery(order="asc"))
    assert [(file.record.file_id, file.status) for file in files] == [
        (ZEBRA, "completed"),
        (LION, "completed"),
        (WAITS, "in_progress"),
    ]
    batch = await process.batches.get(TENANT, STORE, key, BEFORE["batch"])
    members, _ = await process.batches.page(TENANT, key, batch, FilesInStoreQuery())
    assert [(file.record.file_id, file.record.attributes) for file in members] == [(LION, {"n": 1})]
    text = await process.attachments.text(TENANT, STORE, key, ZEBRA)
    assert b"".join([part async for part in text]) == b"the zebra eats grass"


async def test_passages_are_found_and_work_that_was_left_is_done(process: MemoryProcess) -> None:
    found = await process.search.search(TENANT, [STORE], SearchRequest(query="zebra", max_num_results=50))
    assert (found[0].text, found[0].file_id, len(found)) == ("zebra", ZEBRA, 6)  # and "the" once
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    found = await process.search.search(TENANT, [STORE], SearchRequest(query="queue", max_num_results=50))
    assert (found[0].text, found[0].file_id, len(found)) == ("queue", WAITS, 9)


async def test_what_expires_is_still_watched(process: MemoryProcess) -> None:
    watched: list[tuple[str, str]] = []

    async def settle(tenant: str, store_id: str) -> bool:
        watched.append((tenant, store_id))
        return False

    await process.expiries.sweep(settle)
    assert watched == [(TENANT, BEFORE["lent"])]


async def test_everything_can_be_deleted(process: MemoryProcess) -> None:
    for file in (await process.files.list(TENANT, FilesQuery()))[0]:
        await process.files.delete(TENANT, file.id, process.stores.detach_file)
    for store in (await process.stores.list(TENANT, ListQuery()))[0]:
        await process.stores.delete(TENANT, store.id)
    assert process.stored.rows == {}
    assert await process.objects.list("t") == []
