"""Sealed vector stores on a real object store: searched while Milvus is away, whole after a kill, nothing readable."""

import secrets

import openai
import pytest
from cloister_common.testing.serving import free_port

from tests.integration.retriever.test_at_rest import encodings, finds
from tests.support.documents import ingested, upload
from tests.support.retriever import TENANT, RetrieverMaker, RetrieverProcess
from tests.support.waiting import wait_until

SEALED = {"protection": "sealed"}


@pytest.fixture
def lonely(make_retriever: RetrieverMaker) -> RetrieverProcess:
    """A retriever whose Milvus is not there."""
    return make_retriever(f"http://127.0.0.1:{free_port()}").start()


def passages(text: str, count: int) -> bytes:
    """A Markdown file that becomes so many passages."""
    return "".join(f"# {number}\n\n{text} {number}\n\n" for number in range(count)).encode()


def packs(retriever: RetrieverProcess) -> list[str]:
    """The names of the packs that there are: first position and number of passages."""
    return sorted(path.name for path in retriever.blobs.rglob("packs/**/*") if path.is_file())


def found(sdk: openai.OpenAI, store: str, query: str) -> list[str]:
    return [one.content[0].text for one in sdk.vector_stores.search(store, query=query, max_num_results=50).data]


def test_a_sealed_store_is_filled_searched_and_deleted_without_milvus(lonely: RetrieverProcess) -> None:
    sdk = lonely.openai()
    files = [upload(sdk, f"{word}.txt", f"the {word} eats grass".encode()) for word in ("zebra", "gnu")]
    store = sdk.vector_stores.create(name="s", file_ids=files, extra_body=SEALED)
    assert store.model_dump()["protection"] == "sealed"
    assert ingested(sdk, store.id).file_counts.completed == 2
    assert found(sdk, store.id, "the gnu eats grass")[0] == "the gnu eats grass"
    sdk.vector_stores.files.delete(files[0], vector_store_id=store.id)
    assert found(sdk, store.id, "the zebra eats grass") == ["the gnu eats grass"]
    sdk.files.delete(files[1])
    assert found(sdk, store.id, "the gnu eats grass") == []
    sdk.vector_stores.delete(store.id)
    assert packs(lonely) == []
    wait_until(lambda: not list(lonely.blobs.glob("queue/*")), what="an empty queue")


def test_protection_is_one_of_two_words(lonely: RetrieverProcess) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        lonely.openai().vector_stores.create(name="s", extra_body={"protection": "none"})
    assert refused.value.param == "protection"
    assert "sealed" in str(refused.value)


def test_an_ingestion_killed_in_its_middle_leaves_every_passage_once(make_retriever: RetrieverMaker) -> None:
    retriever = make_retriever(f"http://127.0.0.1:{free_port()}").start()
    sdk = retriever.openai()
    store = sdk.vector_stores.create(name="s", extra_body=SEALED).id
    # More than one pack, so that a first one is there while the second is made: ten seconds on two cores.
    file = upload(sdk, "many.md", passages("the zebra eats grass", 2100))
    sdk.vector_stores.files.create(store, file_id=file)
    wait_until(lambda: packs(retriever), what="the first pack")
    retriever.kill()
    sdk = retriever.start().openai()
    assert ingested(sdk, store).file_counts.completed == 1
    ends = [tuple(map(int, name.split("-"))) for name in packs(retriever)]
    assert [first for first, _ in ends] == [sum(count for _, count in ends[:number]) for number in range(len(ends))]
    texts = found(sdk, store, "the zebra eats grass 7")
    assert len(texts) == len(set(texts)) == 50


def test_no_canary_of_a_sealed_store_lies_readable(lonely: RetrieverProcess) -> None:
    canaries = {what: f"canary{what}{secrets.token_hex(12)}" for what in ("content", "name", "query")}
    sdk = lonely.openai(TENANT)
    file_id = upload(sdk, f"{canaries['name']}.md", f"# {canaries['content']}\n\n{canaries['content']}".encode())
    store = sdk.vector_stores.create(name="s", file_ids=[file_id], extra_body=SEALED).id
    ingested(sdk, store)
    assert canaries["content"] in found(sdk, store, canaries["query"])[0]
    lonely.stop()
    assert packs(lonely)
    for what, canary in canaries.items():
        assert len(encodings(canary)) >= 8
        assert finds([lonely.blobs], canary) == [], what
        assert canary not in lonely.log.read_text(), what
