"""What an ingestion uses: asked for before it embeds where there are limits, and told once when it ends."""

import asyncio
import contextlib
from collections import Counter

import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.payer import PAYER_HEADER, Payer, payer_of
from cloister_common.wire.ingestions import IngestionNote, Word
from cloister_retriever.ingestion.reading import Reading, Shelf
from cloister_retriever.parsing.chunking import Chunk
from cloister_retriever.parsing.parser import Parsed
from cloister_retriever.storage.layout import CHARGES
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord
from cloister_retriever.vector_stores.schemas import CreateStore
from starlette.requests import HTTPConnection

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until

TEXT = "the zebra eats grass every morning"
PAYER = Payer(key="key_1", user="ann")
ASKING = PAYER.model_copy(update={"asks": True})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.ingestion.worker._POLL_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.worker._EARLY_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.paying._LOOK_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.paying._WAITING_SECONDS", 0.005)


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


async def attach(process: MemoryProcess, payer: Payer | None, text: str = TEXT) -> str:
    """A store with one file, on its way."""
    file = await process.upload(text)
    return (await process.stores.create(TENANT, CreateStore(file_ids=[file.id]), payer)).id


async def attached(process: MemoryProcess, store: str) -> Attached:
    opened = await process.stores.get(TENANT, store)
    (file,) = await process.attachments.list(TENANT, store, opened.key)
    return file


async def note(process: MemoryProcess, state: str) -> IngestionNote:
    """The only note, when it says ``state``."""

    async def found() -> IngestionNote | None:
        return next((one for one in await process.charges.all() if one.state == state), None)

    one: IngestionNote = await until(found, what=f"it {state}")
    return one


async def ended(process: MemoryProcess) -> None:
    async def idle() -> bool:
        return not await process.objects.list("queue") and not await process.objects.list("leases")

    await until(idle, what="the queue is empty")


def test_a_payer_of_a_later_version_damages_no_attachment() -> None:
    later = AttachmentRecord.lost("vs_1", "file-1").model_dump() | {"payer": PAYER.model_dump() | {"later": True}}
    assert AttachmentRecord.model_validate(later).payer == PAYER


@pytest.mark.parametrize("value", ["%", "e30=", "bm9uZQ=="])
def test_a_head_that_says_nobody_who_pays_is_refused(value: str) -> None:
    call = HTTPConnection({"type": "http", "headers": [(PAYER_HEADER.encode(), value.encode())]})
    with pytest.raises(InvalidRequest):
        payer_of(call)


async def test_what_the_embedder_counted_is_told_when_a_file_has_ended(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    store = await attach(process, PAYER)
    told = await note(process, "ended")
    await ended(process)
    file = await attached(process, store)
    assert (told.id, told.tenant, told.key, told.user) == (file.record.id, TENANT, "key_1", "ann")
    assert (told.tokens, told.exact, told.ending) == (len(TEXT.split()), True, "completed")
    assert file.status == "completed"
    await process.charges.drop(told.id)
    assert await process.charges.all() == []
    await process.supervisor.close()


async def test_nothing_is_told_of_what_nobody_pays(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    asked: list[str] = []
    get = process.objects.get

    async def counted(path: str) -> bytes | None:
        asked.append(path)
        return await get(path)

    process.objects.get = counted  # type: ignore[method-assign]
    await attach(process, None)
    await ended(process)
    assert not [path for path in asked if path.startswith(CHARGES)]
    assert await process.charges.all() == []
    await process.supervisor.close()


async def test_a_file_under_limits_embeds_nothing_before_it_may(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    store = await attach(process, ASKING)
    asked = await note(process, "asks")
    assert asked.tokens >= len(TEXT.split())
    assert process.embedder.calls == []
    await process.charges.tell(asked.id, Word(state="waits", message="Later."))
    assert (await attached(process, store)).status == "in_progress"
    await process.charges.tell(asked.id, Word(state="runs"))
    told = await note(process, "ended")
    assert told.tokens == len(TEXT.split()) <= asked.tokens
    await ended(process)
    assert (await attached(process, store)).status == "completed"
    await process.supervisor.close()


async def test_a_note_that_is_taken_away_or_ended_too_late_is_written_again(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    await attach(process, ASKING)
    asked = await note(process, "asks")
    await process.charges.drop(asked.id)
    assert await note(process, "asks") == asked
    await MemoryProcess(process.stored, process.root).pipeline._paying.end(asked.id, "completed")
    assert await note(process, "asks") == asked
    await process.charges.tell(asked.id, Word(state="runs"))
    assert (await note(process, "ended")).ending == "completed"
    await process.supervisor.close()


async def test_a_file_over_a_limit_says_so_as_its_error(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    store = await attach(process, ASKING)
    asked = await note(process, "asks")
    await process.charges.tell(asked.id, Word(state="refused", message="Rate limit reached."))
    told = await note(process, "ended")
    await ended(process)
    wire = (await attached(process, store)).wire()
    assert (wire["status"], wire["last_error"]) == (
        "failed",
        {"code": "rate_limit_exceeded", "message": "Rate limit reached."},
    )
    assert (told.tokens, told.ending) == (0, "failed")
    assert process.embedder.calls == []
    await process.supervisor.close()


async def test_one_that_is_cancelled_while_it_asks_has_used_nothing(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    store = await attach(process, ASKING)
    await note(process, "asks")
    opened = await process.stores.get(TENANT, store)
    await process.attachments.cancel(TENANT, opened.key, [(await attached(process, store)).record])
    told = await note(process, "ended")
    assert (told.tokens, told.ending) == (0, "cancelled")
    await process.charges.tell(told.id, Word(state="runs"))
    assert (await note(process, "ended")).tokens == 0, "a word that comes too late changes nothing"
    await process.supervisor.close()


async def test_files_that_wait_for_a_limit_keep_no_turn_from_others(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    for _ in range(8):
        await attach(process, ASKING)

    async def all_wait() -> bool:
        for one in await process.charges.all():
            if one.state == "asks":
                await process.charges.tell(one.id, Word(state="waits"))
        turns = process.workers.turns
        return any(one.state == "waits" for one in await process.charges.all()) and turns.is_free and turns.has_room

    await until(all_wait, what="no turn is taken")
    assert len(await process.charges.all()) <= 2, "further files of the project stay in the queue"
    going = asyncio.create_task(_let_run(process))
    await ended(process)
    going.cancel()
    assert {one.state for one in await process.charges.all()} == {"ended"}
    assert len(await process.charges.all()) == 8
    await process.supervisor.close()


def parsed(length: int) -> Parsed:
    return Parsed("x" * length, [Chunk(start=0, end=length, page=None, section=None)])


async def test_of_what_waits_beyond_a_number_of_bytes_the_largest_is_read_again() -> None:
    shelf = Shelf(40_000)
    reads: Counter[int] = Counter()

    def reading(length: int) -> Reading:
        async def read() -> Parsed:
            reads[length] += 1
            return parsed(length)

        return Reading(read, shelf)

    files = [reading(length) for length in (5_000, 30_000, 10_000)]
    with contextlib.ExitStack() as stack:
        for file in files:
            await file.parsed()
            wait = stack.enter_context(file.waiting())
            wait()
            wait()
        assert [file.size > 0 for file in files] == [True, False, True]
        assert [len(list(file.texts())) for file in files] == [1, 0, 1]
    for file in files:
        await file.parsed()
    assert reads == {5_000: 1, 30_000: 2, 10_000: 1}
    with files[1].waiting() as wait:
        wait()
        assert files[1].size > 0, "what waits no more takes no room"


async def test_a_file_that_was_let_go_while_it_waited_is_ingested_as_all_others(process: MemoryProcess) -> None:
    process.pipeline._shelf = Shelf(0)
    process.workers.start(process.supervisor)
    store = await attach(process, ASKING)
    asked = await note(process, "asks")
    await process.charges.tell(asked.id, Word(state="waits"))

    async def is_parked() -> bool:
        return process.workers.turns.is_free

    await until(is_parked, what="it has no turn")
    await process.charges.tell(asked.id, Word(state="runs"))
    assert (await note(process, "ended")).tokens == len(TEXT.split())
    await ended(process)
    assert (await attached(process, store)).status == "completed"
    await process.supervisor.close()


async def test_what_is_removed_waits_for_no_limit(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    store = await attach(process, ASKING)
    asked = await note(process, "asks")
    await process.charges.tell(asked.id, Word(state="waits"))

    async def is_parked() -> bool:
        return process.workers.turns.is_free

    await until(is_parked, what="it has no turn")
    job = await process.queue.put("purge", TENANT, store, attachment_id="vsf_gone", protection="standard")

    async def is_done() -> bool:
        return not await process.queue.waits(job)

    await until(is_done, what="it is removed")
    assert (await note(process, "waits")).id == asked.id
    await process.supervisor.close()


async def test_a_note_of_what_is_given_up_does_not_stay_open_when_its_file_is_gone(process: MemoryProcess) -> None:
    store = await attach(process, ASKING)
    claim = await process.queue.claim()
    assert claim is not None
    file = await attached(process, store)
    opened = await process.stores.get(TENANT, store)
    asking = asyncio.create_task(process.pipeline.work(claim.job, process.workers.turns.begin("share")))
    await note(process, "asks")
    asking.cancel()
    await process.attachments.detach(TENANT, store, opened.key, file.record.file_id)
    await process.pipeline.give_up(claim.job)
    assert (await note(process, "ended")).tokens == 0


async def test_a_process_that_is_stopped_keeps_nothing_of_what_it_did(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    await attach(process, ASKING)
    await note(process, "asks")
    paying = process.pipeline._paying
    assert paying._open
    await process.supervisor.close()
    assert not paying._open


@pytest.mark.parametrize("payer", [PAYER, ASKING], ids=["", "asks"])
async def test_an_ingestion_killed_at_any_write_is_told_once_with_what_it_embedded(payer: Payer) -> None:
    writes = 0
    while True:
        process = MemoryProcess(Stored(), MemoryRoot())
        store = await attach(process, payer)
        dying, heir = (MemoryProcess(process.stored, process.root) for _ in range(2))
        dying.fuse.writes_left = writes
        answering = asyncio.create_task(_let_run(process))
        with contextlib.suppress(Killed):
            dying.workers.start(dying.supervisor)

            async def is_over(dying: MemoryProcess = dying) -> bool:
                return dying.fuse.blown or not await dying.objects.list("queue")

            await until(is_over, what="it is killed, or done")
        await dying.supervisor.close()
        heir.workers.start(heir.supervisor)
        await ended(heir)
        await heir.supervisor.close()
        answering.cancel()
        (told,) = await process.charges.all()
        assert (told.state, told.tokens, told.ending) == ("ended", len(TEXT.split()), "completed")
        assert (await attached(process, store)).status == "completed"
        if not dying.fuse.blown:
            assert writes > 4
            return
        writes += 1


async def _let_run(process: MemoryProcess) -> None:
    """A gateway that lets everything run."""
    while True:
        for one in await process.charges.all():
            await process.charges.tell(one.id, Word(state="runs"))
        await asyncio.sleep(0.005)
