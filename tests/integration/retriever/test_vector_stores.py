"""Vector stores through the official SDK, on Milvus Lite and on Milvus 2.3.5."""

from typing import Any

import openai
import pytest
from openai.types import VectorStore

from tests.support.documents import ingested, pdf, place, upload
from tests.support.milvus import MilvusLite
from tests.support.office import pptx
from tests.support.retriever import RetrieverMaker, RetrieverProcess
from tests.support.waiting import wait_until

ANIMALS = b"# Animals\n\nThe zebra is striped.\n\n## Diet\n\nIt eats grass every morning.\n"


def store_with(sdk: openai.OpenAI, *documents: tuple[str, bytes]) -> tuple[str, list[str]]:
    """A vector store with the documents ingested, and their file ids."""
    ids = [upload(sdk, name, content) for name, content in documents]
    store = sdk.vector_stores.create(name="zoo", file_ids=ids)
    counts = ingested(sdk, store.id).file_counts
    assert (counts.completed, counts.total) == (len(ids), len(ids))
    return store.id, ids


def test_text_markdown_and_pdf_are_found_with_their_place(sdk: openai.OpenAI) -> None:
    store, (markdown, text, paper) = store_with(
        sdk,
        ("animals.md", ANIMALS),
        ("ships.txt", "The lighthouse of Köln guides ships at night.".encode()),
        ("paper.pdf", pdf(["Introduction to volcanoes", "Obsidian is a glass made by volcanoes"])),
    )
    grass = sdk.vector_stores.search(store, query="grass every morning").data[0]
    assert (grass.file_id, grass.filename) == (markdown, "animals.md")
    assert grass.content[0].text == "## Diet\n\nIt eats grass every morning."
    assert place(grass)["section"] == "Animals > Diet"
    assert sdk.vector_stores.search(store, query="lighthouse ships").data[0].file_id == text
    obsidian = sdk.vector_stores.search(store, query="obsidian glass").data[0]
    assert (obsidian.file_id, place(obsidian)["page"]) == (paper, 2)
    for found in (grass, obsidian):
        [whole] = sdk.vector_stores.files.content(found.file_id, vector_store_id=store).data
        where = place(found)
        assert whole.text is not None
        assert whole.text[where["start"] : where["end"]] == found.content[0].text


def test_office_files_are_found_by_page_and_what_of_a_file_was_not_read_is_told(sdk: openai.OpenAI) -> None:
    slides = pptx([("Leave", "Twenty-five days", ""), ("Ships", "Harbours", "The lighthouse guides ships at night")])
    store, (paper, deck) = store_with(sdk, ("paper.pdf", pdf(["Introduction", "", "Volcanoes"])), ("deck.pptx", slides))
    told = sdk.vector_stores.files.retrieve(paper, vector_store_id=store).model_extra
    assert told is not None
    assert told["status_details"].startswith("Page 2 has no text")
    read = sdk.vector_stores.files.retrieve(deck, vector_store_id=store).model_extra
    assert read is not None
    assert "status_details" not in read
    found = sdk.vector_stores.search(store, query="lighthouse at night").data[0]
    assert (found.file_id, place(found)["page"], place(found)["section"]) == (deck, 2, "Ships")


def test_a_completed_file_is_found_by_the_next_search(sdk: openai.OpenAI) -> None:
    store = sdk.vector_stores.create(name="s").id
    for number in range(5):
        file_id = upload(sdk, f"{number}.txt", f"marker{number} unique{number}".encode())
        attached = sdk.vector_stores.files.create_and_poll(file_id, vector_store_id=store, poll_interval_ms=20)
        assert attached.status == "completed"
        assert sdk.vector_stores.search(store, query=f"marker{number} unique{number}").data[0].file_id == file_id


def test_a_deleted_file_is_gone_from_every_store_at_once(sdk: openai.OpenAI) -> None:
    store, (file_id, other) = store_with(sdk, ("a.md", ANIMALS), ("b.txt", b"grass too"))
    second = sdk.vector_stores.create(name="second", file_ids=[file_id]).id
    ingested(sdk, second)
    sdk.files.delete(file_id)
    assert {found.file_id for found in sdk.vector_stores.search(store, query="grass").data} == {other}
    assert sdk.vector_stores.search(second, query="grass").data == []
    assert sdk.vector_stores.retrieve(second).file_counts.total == 0
    assert sdk.vector_stores.retrieve(second).usage_bytes == 0


def test_a_detached_file_stays_a_file_and_can_come_back(sdk: openai.OpenAI) -> None:
    store, (file_id,) = store_with(sdk, ("a.md", ANIMALS))
    assert sdk.vector_stores.files.delete(file_id, vector_store_id=store).deleted
    assert sdk.vector_stores.search(store, query="grass").data == []
    assert sdk.files.retrieve(file_id).id == file_id
    sdk.vector_stores.files.create(file_id=file_id, vector_store_id=store)
    ingested(sdk, store)
    assert len(sdk.vector_stores.search(store, query="grass").data) == 2


def test_attributes_filter_exactly_and_change_at_once(sdk: openai.OpenAI) -> None:
    store = sdk.vector_stores.create(name="s").id
    ids = {}
    for year in (2022, 2023, 2024):
        ids[year] = upload(sdk, f"{year}.txt", f"annual report zebra {year}".encode())
        sdk.vector_stores.files.create(
            file_id=ids[year], vector_store_id=store, attributes={"year": year, "region": "eu", "draft": year == 2024}
        )
    ingested(sdk, store)

    def years(filters: dict[str, Any]) -> set[int]:
        found = sdk.vector_stores.search(store, query="annual report", filters=filters).data  # type: ignore[arg-type] # a plain dict is what callers send
        return {int(one.attributes["year"]) for one in found if one.attributes}

    recent = {"type": "gte", "key": "year", "value": 2023}
    final = {"type": "eq", "key": "draft", "value": False}
    assert years(recent) == {2023, 2024}
    assert years({"type": "and", "filters": [recent, final]}) == {2023}
    assert years({"type": "or", "filters": [recent, final]}) == {2022, 2023, 2024}
    assert years({"type": "in", "key": "year", "value": [2022, 1999]}) == {2022}
    assert years({"type": "eq", "key": "missing", "value": 1}) == set()
    sdk.vector_stores.files.update(ids[2024], vector_store_id=store, attributes={"year": 2024, "draft": False})
    assert years({"type": "and", "filters": [recent, final]}) == {2023, 2024}


def test_stores_do_not_see_each_others_passages(sdk: openai.OpenAI) -> None:
    first, _ = store_with(sdk, ("a.md", ANIMALS))
    second, _ = store_with(sdk, ("b.txt", b"nothing to eat here"))
    assert {one.filename for one in sdk.vector_stores.search(first, query="eats").data} == {"a.md"}
    assert {one.filename for one in sdk.vector_stores.search(second, query="eats").data} == {"b.txt"}


def test_several_queries_and_a_threshold(sdk: openai.OpenAI) -> None:
    store, _ = store_with(sdk, ("a.md", ANIMALS), ("b.txt", b"volcanoes make obsidian"))
    both = sdk.vector_stores.search(store, query=["zebra striped", "obsidian volcanoes"]).data
    assert {one.filename for one in both[:2]} == {"a.md", "b.txt"}
    top = both[0].score
    above = sdk.vector_stores.search(
        store, query=["zebra striped", "obsidian volcanoes"], ranking_options={"score_threshold": top - 1e-6}
    ).data
    assert above
    assert all(one.score >= top - 1e-6 for one in above)
    assert len(sdk.vector_stores.search(store, query="zebra", max_num_results=1).data) == 1


def test_a_code_is_found_among_those_that_look_like_it(sdk: openai.OpenAI) -> None:
    codes = [f"BX-{series}-{number}" for series in (40, 41) for number in range(1172, 1182)]
    store, _ = store_with(
        sdk,
        *((f"{n}.txt", f"Article {code} has a delivery time of {n} weeks.".encode()) for n, code in enumerate(codes)),
    )
    for code in codes:
        [best] = sdk.vector_stores.search(store, query=f"Delivery time of {code}?", max_num_results=1).data
        assert code in best.content[0].text
    by_words = {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}}
    [best] = sdk.vector_stores.search(store, query="bx411175", max_num_results=1, extra_body=by_words).data
    assert codes[13] in best.content[0].text


def test_a_question_longer_than_the_model_reads_is_searched_in_pieces(sdk: openai.OpenAI) -> None:
    store, _ = store_with(sdk, ("a.md", ANIMALS))
    question = "filler words about nothing. " * 200 + "It eats grass every morning."
    assert place(sdk.vector_stores.search(store, query=question).data[0])["section"] == "Animals > Diet"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"rewrite_query": True}, "rewrite_query"),
        ({"ranking_options": {"ranker": "default-2019-01-01"}}, "ranking_options.ranker"),
        ({"ranking_options": {"rewrite": True}}, "ranking_options.rewrite"),
        ({"stream": True}, "stream"),
    ],
)
def test_unsupported_search_options_are_refused_by_name(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI, tenant: str, changes: dict[str, Any], param: str
) -> None:
    store = lite_sdk.vector_stores.create(name="s").id
    with lite_retriever.http(tenant) as http:
        answer = http.post(f"/v1/vector_stores/{store}/search", json={"query": "q", **changes})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert answer.json()["error"]["param"] == param


def test_asked_chunk_sizes_are_capped_by_the_model_and_reported(lite_sdk: openai.OpenAI) -> None:
    store = lite_sdk.vector_stores.create(name="s").id
    text = "Every sentence of this long text has its own words. " * 100
    sizes = {}
    for tokens in (100, 800):
        file_id = upload(lite_sdk, "long.txt", text.encode())
        attached = lite_sdk.vector_stores.files.create_and_poll(
            file_id,
            vector_store_id=store,
            chunking_strategy={
                "type": "static",
                "static": {"max_chunk_size_tokens": tokens, "chunk_overlap_tokens": tokens // 2},
            },
        )
        assert attached.status == "completed"
        sizes[tokens] = attached.chunking_strategy.static  # type: ignore[union-attr] # always static here
    assert (sizes[100].max_chunk_size_tokens, sizes[100].chunk_overlap_tokens) == (100, 50)
    assert (sizes[800].max_chunk_size_tokens, sizes[800].chunk_overlap_tokens) == (254, 127)


def test_batches_report_true_counts_and_can_be_listed(lite_sdk: openai.OpenAI) -> None:
    store = lite_sdk.vector_stores.create(name="s").id
    good = [upload(lite_sdk, f"{number}.txt", f"words {number}".encode()) for number in range(3)]
    bad = upload(lite_sdk, "bad.zip", b"PK\x03\x04" + bytes(100))
    batch = lite_sdk.vector_stores.file_batches.create_and_poll(
        store, file_ids=[*good, bad], attributes={"source": "batch"}, poll_interval_ms=50
    )
    counts = batch.file_counts
    assert (batch.status, counts.completed, counts.failed, counts.total) == ("completed", 3, 1, 4)
    failed = lite_sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, filter="failed").data
    assert [file.id for file in failed] == [bad]
    assert failed[0].last_error is not None
    assert failed[0].last_error.code == "unsupported_file"
    assert failed[0].attributes == {"source": "batch"}
    own = lite_sdk.vector_stores.file_batches.create(store, files=[{"file_id": good[0], "attributes": {"n": 1}}])
    assert own.file_counts.total == 1
    assert lite_sdk.vector_stores.files.retrieve(good[0], vector_store_id=store).attributes == {"n": 1}


def test_the_sdks_helpers_are_told_when_to_ask_again_and_how_far_it_is(lite_sdk: openai.OpenAI) -> None:
    store = lite_sdk.vector_stores.create(name="s").id
    files = [upload(lite_sdk, f"{number}.txt", b"One short sentence.") for number in range(12)]
    raw = lite_sdk.vector_stores.file_batches.with_raw_response.create(store, file_ids=files)
    assert 100 <= int(raw.headers["openai-poll-after-ms"]) <= 1000
    batch = raw.parse()
    assert batch.model_extra is not None
    assert set(batch.model_extra["progress"]) >= {"files_waiting", "files_reading", "passages_done", "passages_total"}
    done = lite_sdk.vector_stores.file_batches.poll(batch.id, vector_store_id=store)
    assert (done.status, done.file_counts.completed) == ("completed", 12)
    ended = lite_sdk.vector_stores.file_batches.with_raw_response.retrieve(batch.id, vector_store_id=store)
    assert "openai-poll-after-ms" not in ended.headers, "there is nothing to wait for"
    uploaded = lite_sdk.vector_stores.files.upload_and_poll(vector_store_id=store, file=("a.pdf", pdf(["one", "two"])))
    assert uploaded.status == "completed"
    assert uploaded.model_extra is not None
    progress = uploaded.model_extra["progress"]
    assert (progress["stage"], progress["pages_done"], progress["pages_total"]) == ("completed", 2, 2)
    assert progress["passages_done"] == progress["passages_total"] == 2


def test_a_cancelled_batch_leaves_no_passages(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str
) -> None:
    api = make_retriever(milvus_lite.uri, role="api").start()
    sdk = api.openai(tenant)
    store = sdk.vector_stores.create(name="s").id
    ids = [upload(sdk, f"{number}.txt", b"zebra") for number in range(3)]
    batch = sdk.vector_stores.file_batches.create(store, file_ids=ids)
    assert (batch.status, batch.file_counts.in_progress) == ("in_progress", 3)
    cancelled = sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 3)
    api.stop()
    worker = make_retriever(milvus_lite.uri).start()
    wait_until(lambda: not list((worker.blobs / "queue").rglob("*-*")), seconds=30, what="the queue is empty")
    assert worker.openai(tenant).vector_stores.search(store, query="zebra").data == []
    assert worker.openai(tenant).vector_stores.retrieve(store).file_counts.cancelled == 3


def test_stores_are_listed_updated_and_deleted(lite_sdk: openai.OpenAI) -> None:
    stores = [
        lite_sdk.vector_stores.create(name=f"s{number}", description="about", metadata={"n": str(number)})
        for number in range(3)
    ]
    listed = list(lite_sdk.vector_stores.list(limit=2, order="asc"))
    assert sorted(store.id for store in listed) == sorted(store.id for store in stores)
    first = lite_sdk.vector_stores.list(limit=2, order="asc").data
    before = lite_sdk.vector_stores.list(limit=2, order="asc", before=listed[2].id).data
    assert [store.id for store in before] == [store.id for store in first]
    changed = lite_sdk.vector_stores.update(
        stores[0].id, name="new", expires_after={"anchor": "last_active_at", "days": 1}
    )
    assert (changed.name, changed.metadata, changed.status) == ("new", {"n": "0"}, "completed")
    assert changed.expires_at == (changed.last_active_at or 0) + 86_400
    assert lite_sdk.vector_stores.delete(stores[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        lite_sdk.vector_stores.retrieve(stores[0].id)


def test_deleting_a_store_leaves_the_file_and_frees_everything_else(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI
) -> None:
    file_id = upload(lite_sdk, "a.md", ANIMALS)
    before = {path for path in lite_retriever.blobs.rglob("*") if path.is_file()}
    store: VectorStore = lite_sdk.vector_stores.create(name="s", file_ids=[file_id])
    ingested(lite_sdk, store.id)
    lite_sdk.vector_stores.delete(store.id)
    assert lite_sdk.files.retrieve(file_id).id == file_id
    left = {path for path in lite_retriever.blobs.rglob("*") if path.is_file()} - before
    assert [path for path in left if store.id in str(path)] == []


def test_repeating_an_attachment_does_not_ingest_twice(lite_sdk: openai.OpenAI) -> None:
    store, (file_id,) = store_with(lite_sdk, ("a.md", ANIMALS))
    again = lite_sdk.vector_stores.files.create(file_id=file_id, vector_store_id=store, attributes={"k": "v"})
    assert (again.status, again.attributes) == ("completed", {"k": "v"})
    assert lite_sdk.vector_stores.retrieve(store).file_counts.total == 1


def test_a_batch_with_an_unknown_file_attaches_none(lite_sdk: openai.OpenAI) -> None:
    store = lite_sdk.vector_stores.create(name="s").id
    good = upload(lite_sdk, "a.txt", b"x")
    with pytest.raises(openai.NotFoundError) as refused:
        lite_sdk.vector_stores.file_batches.create(store, file_ids=[good, "file-" + "0" * 48])
    assert refused.value.param == "file_id"
    assert lite_sdk.vector_stores.retrieve(store).file_counts.total == 0
