"""What callers may rely on, asked of the real retriever and of its fake."""

from typing import Literal

import httpx
import openai
import pytest
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, NotFound, Unavailable, UnsupportedParameter, UpstreamFailed
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found
from cloister_common.testing.serving import free_port, served

from tests.support.documents import ingested, upload
from tests.support.retriever import RETRIEVER_TOKEN
from tests.support.sdk import closing

ZEBRA = b"The zebra eats grass every morning."
SHIPS = b"A lighthouse guides ships at night."


def filled(sdk: openai.OpenAI) -> tuple[str, str, str]:
    """A store with two files: (store, zebra, ships)."""
    zebra, ships = upload(sdk, "zebra.txt", ZEBRA), upload(sdk, "ships.txt", SHIPS)
    store = sdk.vector_stores.create(name="s").id
    sdk.vector_stores.files.create(file_id=zebra, vector_store_id=store, attributes={"kind": "animal", "n": 1})
    sdk.vector_stores.files.create(file_id=ships, vector_store_id=store, attributes={"kind": "building", "n": 2})
    assert ingested(sdk, store).file_counts.completed == 2
    return store, zebra, ships


def shape(value: object) -> object:
    """The keys and types of a JSON value, without its contents."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


async def test_search_gives_the_best_passages_of_all_stores_first(
    sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    first, zebra, _ = filled(sdk)
    second, _, ships = filled(sdk)
    passages = await client.search(tenant, [first, second], "the zebra eats grass", max_num_results=3)
    assert len(passages) == 2  # each text once
    sdk.vector_stores.files.delete(ships, vector_store_id=second)
    passages = await client.search(tenant, [second, first], "the zebra eats grass", max_num_results=3)
    assert [one.score for one in passages] == sorted((one.score for one in passages), reverse=True)
    assert passages[1].vector_store_id == first
    [best, _] = await client.search(tenant, [first], "the zebra eats grass", max_num_results=3)
    assert (best.file_id, best.filename, best.text) == (zebra, "zebra.txt", ZEBRA.decode())
    assert best.attributes == {"kind": "animal", "n": 1}
    assert (best.passage.index, best.passage.page, best.passage.section) == (0, None, None)
    assert (best.passage.start, best.passage.end) == (0, len(ZEBRA))


async def test_filters_and_thresholds_apply(sdk: openai.OpenAI, client: RetrieverClient, tenant: str) -> None:
    store, zebra, ships = filled(sdk)
    buildings = {"type": "eq", "key": "kind", "value": "building"}
    assert [one.file_id for one in await client.search(tenant, [store], "zebra", filters=buildings)] == [ships]
    both = {"type": "or", "filters": [buildings, {"type": "ne", "key": "kind", "value": "building"}]}
    assert {one.file_id for one in await client.search(tenant, [store], ["zebra", "ships"], filters=both)} == {
        zebra,
        ships,
    }
    every = await client.search(tenant, [store], ZEBRA.decode(), max_num_results=50)
    assert every[0].score == pytest.approx(1, abs=1e-3)
    assert all(0 <= one.score <= 1 for one in every)
    high = {"score_threshold": 0.99}
    assert await client.search(tenant, [store], "something else entirely", ranking_options=high) == []


async def test_unknown_stores_and_options_are_the_same_errors(
    sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    store, _, _ = filled(sdk)
    with pytest.raises(NotFound) as missing:
        await client.search(tenant, [store, "vs_" + "0" * 48], "q")
    assert missing.value.param == "vector_store_ids"
    with pytest.raises(NotFound):
        await client.search("proj_other", [store], "q")
    await client.check_stores(tenant, [store])
    for owner, stores in ((tenant, [store, "vs_" + "0" * 48]), (tenant, ["vs/../x"]), ("proj_other", [store])):
        with pytest.raises(NotFound):
            await client.check_stores(owner, stores)
    with pytest.raises(InvalidRequest) as refused:
        await client.search(tenant, [store], "q", ranking_options={"ranker": "default-2019-01-01"})
    assert (refused.value.error_code, refused.value.param) == (UnsupportedParameter.code, "ranking_options.ranker")


def test_every_answer_has_the_same_shape(real_url: str, fake_url: str, tenant: str) -> None:
    shapes = []
    for url in (real_url, fake_url):
        headers = InternalTokens([RETRIEVER_TOKEN.encode()]).headers(tenant)
        sdk = closing(
            openai.OpenAI(base_url=f"{url}/v1", api_key=RETRIEVER_TOKEN, default_headers=headers, max_retries=0)
        )
        store, zebra, _ = filled(sdk)
        batch = sdk.vector_stores.file_batches.create(store, file_ids=[zebra]).id
        in_store, in_batch = f"/v1/vector_stores/{store}", f"/v1/vector_stores/{store}/file_batches/{batch}"
        calls = [
            ("GET", f"/v1/files/{zebra}", None),
            ("GET", "/v1/files", None),
            ("GET", in_store, None),
            ("GET", "/v1/vector_stores", None),
            ("POST", in_store, {"name": "new", "expires_after": {"anchor": "last_active_at", "days": 2}}),
            ("GET", f"{in_store}/files", None),
            ("GET", f"{in_store}/files/{zebra}", None),
            ("POST", f"{in_store}/files/{zebra}", {"attributes": {"a": True}}),
            ("GET", f"{in_store}/files/{zebra}/content", None),
            ("GET", in_batch, None),
            ("GET", f"{in_batch}/files", None),
            ("POST", f"{in_batch}/cancel", {}),
            ("POST", f"{in_store}/search", {"query": "zebra", "max_num_results": 1}),
            ("POST", "/internal/search", {"vector_store_ids": [store], "query": "zebra", "max_num_results": 1}),
            ("DELETE", f"{in_store}/files/{zebra}", None),
            ("DELETE", in_store, None),
            ("DELETE", f"/v1/files/{zebra}", None),
            ("GET", f"/v1/files/{zebra}", None),
            ("GET", in_store, None),
            ("POST", "/v1/vector_stores", {"colour": "red"}),
            ("POST", "/internal/search", {"query": "zebra"}),
        ]
        with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
            answers = [http.request(method, path, json=body) for method, path, body in calls]
        shapes.append(
            [(call[0], answer.status_code, shape(answer.json())) for call, answer in zip(calls, answers, strict=True)]
        )
    for real, fake in zip(*shapes, strict=True):
        assert real == fake


def test_what_tests_plant_in_the_fake_looks_like_what_is_stored(real_url: str, tenant: str) -> None:
    headers = InternalTokens([RETRIEVER_TOKEN.encode()]).headers(tenant)
    sdk = closing(
        openai.OpenAI(base_url=f"{real_url}/v1", api_key=RETRIEVER_TOKEN, default_headers=headers, max_retries=0)
    )
    store, _, _ = filled(sdk)
    fake = FakeRetriever(RETRIEVER_TOKEN)
    fake.planted = {"vs_1": [found("The zebra eats grass.", attributes={"kind": "animal", "n": 1})]}
    shapes = []
    with served(fake) as fake_url:
        for url, name in ((real_url, store), (fake_url, "vs_1")):
            body = {"vector_store_ids": [name], "query": "the zebra eats grass", "max_num_results": 1}
            answers = [
                httpx.get(f"{url}/v1/vector_stores/{name}", headers=headers, timeout=30),
                httpx.post(f"{url}/internal/search", headers=headers, json=body, timeout=30),
            ]
            shapes.append([(answer.status_code, shape(answer.json())) for answer in answers])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_whoever_deletes_while_listing_deletes_everything(sdk: openai.OpenAI, order: Literal["asc", "desc"]) -> None:
    files = [upload(sdk, f"{number}.txt", b"x") for number in range(5)]
    newest_first = files[::-1] if order == "desc" else files
    stores = [sdk.vector_stores.create(name=f"s{number}").id for number in range(5)]
    for file_id in files:
        sdk.vector_stores.files.create(file_id=file_id, vector_store_id=stores[0])
    batch = sdk.vector_stores.file_batches.create(stores[1], file_ids=files).id

    detached = []
    for attached in sdk.vector_stores.files.list(stores[0], limit=2, order=order):
        sdk.vector_stores.files.delete(attached.id, vector_store_id=stores[0])
        detached.append(attached.id)
    members = []
    for member in sdk.vector_stores.file_batches.list_files(batch, vector_store_id=stores[1], limit=2, order=order):
        sdk.vector_stores.files.delete(member.id, vector_store_id=stores[1])
        members.append(member.id)
    deleted = []
    for file in sdk.files.list(limit=2, order=order):
        sdk.files.delete(file.id)
        deleted.append(file.id)
    assert detached == members == deleted == newest_first
    for store in sdk.vector_stores.list(limit=2, order=order):
        sdk.vector_stores.delete(store.id)
    assert sdk.vector_stores.list().data == []


@pytest.mark.parametrize("purpose", ["fine-tune", "nonsense"])
def test_refused_uploads_are_the_same_errors(sdk: openai.OpenAI, purpose: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(file=("a.txt", b"x"), purpose=purpose)  # type: ignore[arg-type] # wrong on purpose
    assert refused.value.param == "purpose"
    assert refused.value.code == ("unsupported_parameter" if purpose == "fine-tune" else "invalid_request")


def test_no_token_no_answer(url: str) -> None:
    assert httpx.get(f"{url}/v1/files").status_code == 401
    assert httpx.get(f"{url}/livez").status_code == 200


async def test_a_retriever_that_is_down_or_odd_is_said_so() -> None:
    tokens = InternalTokens([RETRIEVER_TOKEN.encode()])
    nobody = RetrieverClient(f"http://127.0.0.1:{free_port()}", tokens, ClientTls(), deadline_seconds=1)
    with pytest.raises(Unavailable):
        await nobody.search("proj_a", ["vs_1"], "q")
    await nobody.close()
    fake = FakeRetriever(RETRIEVER_TOKEN)
    fake.errors.append(UpstreamFailed("odd"))
    with served(fake) as url:
        client = RetrieverClient(url, tokens, ClientTls())
        with pytest.raises(UpstreamFailed):
            await client.search("proj_a", ["vs_1"], "q")
        await client.close()
