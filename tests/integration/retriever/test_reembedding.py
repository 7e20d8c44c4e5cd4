"""A vector store moves to another embedding model while it is searched, on each Milvus, and when its process dies."""

from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder

from tests.integration.retriever.conftest import OTHER_MODEL
from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite, connected
from tests.support.models import MINILM
from tests.support.retriever import RetrieverMaker, RetrieverProcess
from tests.support.waiting import wait_until

ZEBRA = "The zebra eats grass every morning."
SHIPS = "A lighthouse guides ships at night."


def asked(http: httpx.Client, method: str, store: str, act: str = "", **body: str) -> dict[str, Any]:
    """What a route of ours answers."""
    path = f"/cloister/v1/vector_stores/{store}/reembed{act}"
    answer = http.request(method, path, json=body if method == "POST" else None)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settled(http: httpx.Client, store: str, status: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        seen = asked(http, "GET", store)
        return seen if seen["status"] == status else None

    seen = wait_until(there, seconds=60, what=f"the status {status}")
    assert isinstance(seen, dict)
    return seen


def found(sdk: openai.OpenAI, store: str, query: str) -> list[str]:
    return [one.content[0].text for one in sdk.vector_stores.search(store, query=query, max_num_results=50).data]


@pytest.mark.parametrize("protection", ["standard", "sealed"])
def test_a_store_is_searched_all_the_while_and_goes_back(
    retriever: RetrieverProcess, sdk: openai.OpenAI, tenant: str, protection: str
) -> None:
    files = [upload(sdk, f"{number}.txt", text.encode()) for number, text in enumerate((ZEBRA, SHIPS))]
    store = sdk.vector_stores.create(name="s", file_ids=files, extra_body={"protection": protection}).id
    assert ingested(sdk, store).file_counts.completed == 2
    with retriever.http(tenant) as http:
        assert asked(http, "GET", store)["status"] == "none"
        begun = asked(http, "POST", store, model=OTHER_MODEL)
        assert begun["beside"] == {"number": 1, "model": OTHER_MODEL}
        while asked(http, "GET", store)["status"] != "switched":
            assert found(sdk, store, "zebra grass")[0] == ZEBRA
        seen = asked(http, "GET", store)
        assert seen["file_counts"] == {"total": 2, "completed": 2}
        assert seen["comparison"]["after"] == seen["comparison"]["before"] == 1
        assert found(sdk, store, "zebra grass")[0] == ZEBRA
        seen = asked(http, "POST", store, "/back")
        assert seen["serving"] == {"number": 0, "model": MINILM}
        assert found(sdk, store, "ships at night")[0] == SHIPS
        refused = http.post(f"/cloister/v1/vector_stores/{store}/reembed", json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "reembedding_exists")
        assert asked(http, "DELETE", store)["status"] == "none"
        unknown = http.post(f"/cloister/v1/vector_stores/{store}/reembed", json={"model": "unknown"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        with retriever.http("proj_other") as other:
            assert other.get(f"/cloister/v1/vector_stores/{store}/reembed").status_code == 404
    sdk.files.delete(files[0])
    assert found(sdk, store, "zebra grass") == [SHIPS]


def test_one_that_is_killed_in_its_middle_goes_on_and_what_was_before_is_gone_when_it_is_given_up(
    make_retriever: RetrieverMaker, milvus_lite: MilvusLite, fake_embedder: FakeEmbedder
) -> None:
    retriever = make_retriever(milvus_lite.uri).start()
    sdk = retriever.openai()
    texts = [f"The zebra number {number} eats grass." for number in range(6)]
    files = [upload(sdk, f"{number}.txt", text.encode()) for number, text in enumerate(texts)]
    store = sdk.vector_stores.create(name="s", file_ids=files).id
    assert ingested(sdk, store).file_counts.completed == 6
    fake_embedder.delay_seconds = 0.5
    with retriever.http() as http:
        asked(http, "POST", store, model=OTHER_MODEL)
        wait_until(
            lambda: asked(http, "GET", store)["file_counts"]["completed"] > 0, what="a file that is brought over"
        )
    retriever.kill()
    fake_embedder.delay_seconds = 0.0
    sdk = retriever.start().openai()

    def is_searched() -> bool:
        # (The embedder's answers of before the kill may have it busy: a 503 that says to try again.)
        try:
            return sorted(found(sdk, store, "zebra")) == texts
        except openai.InternalServerError:
            return False

    wait_until(is_searched, what="the store is searched again")
    with retriever.http() as http:
        settled(http, store, "switched")
        assert sorted(found(sdk, store, "zebra")) == texts
        wait_until(lambda: not list(retriever.blobs.glob("queue/*")), what="an empty queue")
        asked(http, "DELETE", store)
    wait_until(lambda: not list(retriever.blobs.glob("queue/*")), what="an empty queue")
    assert not [path for path in retriever.blobs.rglob(f"words/{store}/*") if path.is_file()]
    client = connected(milvus_lite.uri)
    partitions = [name for one in client.list_collections() for name in client.list_partitions(one)]
    assert store not in partitions
    assert f"{store}_1" in partitions
    client.close()
    assert sorted(found(sdk, store, "zebra")) == texts
    sdk.vector_stores.delete(store)
    left = [path for path in retriever.blobs.rglob(f"*{store}*") if path.is_file() or any(path.iterdir())]
    assert left == []
