"""Pictures in vector stores: how each is found, by whom, and what becomes of it. No process is started here."""

import pytest
from cloister_common.errors import InvalidRequest, NotFound, UnsupportedParameter
from cloister_common.supervisor import Supervisor
from cloister_common.wire.pictures import data_url
from cloister_common.wire.search import FoundPassage, SearchRequest
from cloister_retriever.damage import Damaged
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore
from cloister_retriever.vector_stores.service import OpenStore

from tests.support.illustrated import docx_with, html_with, picture
from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until
from tests.unit.retriever.test_pictures import AFTER, BEFORE, KINDS


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.ingestion.worker._POLL_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.worker._FIRST_PAUSE_SECONDS", 0.005)


def a_process(protection: Protection = "standard", *, sees: bool = True) -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot(), protection=protection, reads_pictures=True, sees=sees)


async def filled(process: MemoryProcess, files: dict[str, bytes], **attributes: str) -> tuple[OpenStore, list[str]]:
    """A vector store with these files, once they are read; and the files' ids."""
    ids = [(await process.upload(content, name=name)).id for name, content in files.items()]
    made = await process.stores.create(TENANT, CreateStore())
    store = await process.stores.get(TENANT, made.id)
    for file_id in ids:
        entry = AttachFile(file_id=file_id, attributes=dict(attributes) or None)
        await process.attachments.attach(TENANT, store.record.id, store.key, entry)
    await drained(process)
    return store, ids


async def drained(process: MemoryProcess) -> None:
    supervisor = Supervisor()
    process.workers.start(supervisor)

    async def is_empty() -> bool:
        return not await process.objects.list("queue")

    await until(is_empty)
    await supervisor.close()


async def found(process: MemoryProcess, store: OpenStore, query: object, **more: object) -> list[FoundPassage]:
    request = SearchRequest.model_validate({"query": query, **more})
    return await process.search.search(TENANT, [store.record.id], request)


def shown_in(results: list[FoundPassage]) -> list[tuple[str, int]]:
    return [(one.found_by, one.image.index) for one in results if one.image is not None]


BOTH = pytest.mark.parametrize("protection", ["standard", "sealed"])


@BOTH
@pytest.mark.parametrize("kind", ["pdf", "docx", "pptx", "html"])
async def test_a_picture_is_found_in_all_three_ways(kind: str, protection: Protection) -> None:
    name, made = KINDS[kind]
    process = a_process(protection)
    described = made(picture("blue"), before=BEFORE, after=AFTER, alt="Grandmother with her bicycle")
    plain = made(picture("red"), before="Our garden shed has a new roof.", after="It was mended in June.")
    store, (first, second) = await filled(process, {name: described, f"b-{name}": plain})

    best = (await found(process, store, "grandmother bicycle"))[:2]
    assert [(one.file_id, one.found_by) for one in best if one.image] == [(first, "description")]
    around = [one for one in await found(process, store, "new roof of the shed") if one.image]
    assert (around[0].file_id, around[0].found_by) == (second, "surroundings")
    seen = (await found(process, store, "red"))[0]
    assert (seen.file_id, seen.found_by) == (second, "image")
    assert seen.score == pytest.approx(1, abs=0.05)
    alike = await found(process, store, {"type": "input_image", "image_url": data_url(picture("blue", side=64))})
    assert [(one.file_id, one.found_by) for one in alike] == [(first, "image")] + [(second, "image")] * (len(alike) - 1)
    for hit in (best[0], around[0], seen, alike[0]):
        assert hit.passage.page == (2 if kind in {"pdf", "pptx"} else None)


@BOTH
async def test_a_picture_without_words_is_found_by_what_it_shows(protection: Protection) -> None:
    process = a_process(protection)
    store, (file_id,) = await filled(process, {"IMG_1.png": picture("green")})
    (hit,) = await found(process, store, "something green")
    assert (hit.file_id, hit.found_by, hit.text) == (file_id, "image", "")
    (attached,) = await process.attachments.list(TENANT, store.record.id, store.key)
    assert attached.status == "completed"
    assert "no description" in str(attached.wire()["status_details"])


async def test_a_picture_that_shows_nothing_of_what_is_asked_is_no_result() -> None:
    process = a_process()
    store, (file_id,) = await filled(process, {"IMG_8.png": picture("green")})
    assert await found(process, store, "something red") == []
    assert [one.file_id for one in await found(process, store, "something green")] == [file_id]


async def test_a_picture_is_asked_with_by_its_file_and_together_with_words() -> None:
    process = a_process()
    store, (red, blue) = await filled(process, {"a.png": picture("red"), "IMG_2.png": picture("blue")})
    asked = {"type": "input_image", "file_id": red}
    assert [one.file_id for one in await found(process, store, asked, max_num_results=1)] == [red]
    both = await found(process, store, ["blue", asked])
    assert {one.file_id for one in both if one.score > 0.9} == {red, blue}


async def test_a_picture_that_is_asked_with_is_refused_by_name() -> None:
    process, blind = a_process(), a_process(sees=False)
    store, (text,) = await filled(process, {"a.txt": b"words"})
    other, _ = await filled(blind, {"a.txt": b"words"})
    for query, error, param in (
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, InvalidRequest, "query"),
        (["x", {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}], InvalidRequest, "query[1]"),
        ({"type": "input_image", "file_id": text}, InvalidRequest, "query"),
        ({"type": "input_image", "file_id": "file-x"}, NotFound, "query"),
    ):
        with pytest.raises(error) as refused:
            await found(process, store, query)
        assert refused.value.param == param
    with pytest.raises(UnsupportedParameter, match=r"embedder\.image_model"):
        await found(blind, other, {"type": "input_image", "image_url": data_url(picture("red"))})


async def test_attributes_describe_a_picture_and_describe_it_anew() -> None:
    process = a_process(sees=False)
    store, (file_id,) = await filled(process, {"IMG_3.png": picture("red")}, description="zebra")
    assert shown_in(await found(process, store, "zebra")) == [("description", 0)]
    await process.attachments.set_attributes(TENANT, store.record.id, store.key, file_id, {"description": "walrus"})
    await drained(process)
    (hit,) = await found(process, store, "walrus")
    assert (hit.text, hit.found_by, hit.attributes) == ("walrus", "description", {"description": "walrus"})


async def test_a_file_beside_a_picture_brings_it_to_who_sees_both() -> None:
    process = a_process(sees=False)
    files = {"IMG_4.jpg": picture("red", "JPEG"), "IMG_4.jpg.txt": b"zebra at noon"}
    store, (image, beside) = await filled(process, files)
    (hit,) = await found(process, store, "zebra")
    assert (hit.file_id, hit.found_by) == (beside, "description")
    assert hit.image is not None
    assert hit.image.file_id == image
    request = SearchRequest(query="zebra")
    (hit,) = await process.search.search(TENANT, [store.record.id], request, hidden=frozenset({image}))
    assert (hit.found_by, hit.image) == ("text", None)


@BOTH
async def test_hidden_files_show_no_pictures(protection: Protection) -> None:
    process = a_process(protection)
    store, (file_id,) = await filled(process, {"IMG_5.png": picture("red")})
    request = SearchRequest(query="red")
    assert await process.search.search(TENANT, [store.record.id], request, hidden=frozenset({file_id})) == []


@BOTH
async def test_a_picture_is_fetched_and_gone_with_its_file(protection: Protection) -> None:
    process = a_process(protection)
    store, (file_id,) = await filled(process, {"a.docx": docx_with(picture("red"), before=BEFORE)})
    got = await process.pictures.get(TENANT, store.record.id, store.key, file_id, 0)
    assert got.media_type == "image/png"
    with pytest.raises(NotFound):
        await process.pictures.get(TENANT, store.record.id, store.key, file_id, 1)
    stored = [one.path for one in await process.objects.list("t") if "/pictures/" in one.path]
    assert len(stored) == 1
    assert b"PNG" not in (await process.objects.get(stored[0]) or b"")
    sealed = await process.objects.get(stored[0]) or b""
    await process.objects.put(stored[0], sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(Damaged):
        await process.pictures.get(TENANT, store.record.id, store.key, file_id, 0)
    await process.files.delete(TENANT, file_id, process.stores.detach_file)
    await drained(process)
    left = [one.path for one in await process.objects.list("t") if "pictures" in one.path]
    assert (left, process.stored.rows) == ([], {})


@BOTH
async def test_deleting_a_vector_store_deletes_its_pictures(protection: Protection) -> None:
    process = a_process(protection)
    store, _ = await filled(process, {"IMG_6.png": picture("red"), "b.html": html_with(picture("blue"), after=AFTER)})
    await process.stores.delete(TENANT, store.record.id)
    await drained(process)
    left = [one.path for one in await process.objects.list("t") if "pictures" in one.path]
    assert (left, process.stored.rows) == ([], {})


async def test_the_index_knows_nothing_of_what_pictures_show() -> None:
    """What stands in the index is turned by a rotation that is not the passages', and sealed by other keys."""
    process = a_process()
    store, (file_id,) = await filled(process, {"IMG_7.png": picture("red")})
    (row,) = process.stored.rows.values()
    assert process.space is not None
    (exact,) = await process.space.of_pictures([picture("red")], bulk=False)
    assert sum(one * other for one, other in zip(exact, row["dense"], strict=True)) < 0.999
    keys = await process.keys.get(TENANT, store.key, file_id)
    own = await process.space.keys_of(TENANT, store.key, file_id)
    assert keys is not None
    assert own is not None
    assert not set(keys) & set(own)
