"""Access lists on each Milvus: what is hidden is left out before anything is ranked, by either kind of filter."""

import httpx
import openai
import pytest
from cloister_common.caller import NOBODY, Caller

from tests.support.documents import ingested, upload
from tests.support.retriever import RetrieverProcess

ANNA = Caller(user="anna")
FILES = 6


@pytest.fixture
def store(sdk: openai.OpenAI) -> tuple[str, list[str]]:
    files = [upload(sdk, f"{number}.txt", f"Zebra {number} eats grass.".encode()) for number in range(FILES)]
    store = sdk.vector_stores.create(file_ids=files).id
    assert ingested(sdk, store).file_counts.completed == FILES
    return store, files


def test_the_nearest_that_are_hidden_take_no_place(
    retriever: RetrieverProcess, tenant: str, store: tuple[str, list[str]]
) -> None:
    store_id, files = store
    with retriever.http(tenant) as http:
        for hidden in (1, 4, FILES):
            for file_id in files[:hidden]:
                access = {"access": {"users": ["ben"], "groups": []}}
                place = f"/v1/vector_stores/{store_id}/files/{file_id}"
                assert http.post(place, json=access, headers=ANNA.headers()).status_code == 200
            for who, seen in (
                (NOBODY, files[hidden:]),
                (Caller(user="ben"), files),
                (Caller(user="x"), files[hidden:]),
            ):
                found = search(http, store_id, who)
                assert {one["file_id"] for one in found} == set(seen)
                of_one = {"filters": {"type": "ne", "key": "k", "value": 1}}
                assert {one["file_id"] for one in search(http, store_id, who, **of_one)} == set(seen)


def search(http: httpx.Client, store_id: str, who: Caller, **options: object) -> list[dict[str, str]]:
    path = f"/v1/vector_stores/{store_id}/search"
    answer = http.post(path, json={"query": "zebra", **options}, headers=who.headers())
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json()["data"]
    return found


def test_who_asks_must_be_said_as_the_gateway_says_it(lite_retriever: RetrieverProcess, tenant: str) -> None:
    for wrong in ("anna", "e30=x", '{"user":"anna"}', Caller(user="anna").headers()["x-cloister-caller"][:-3]):
        with lite_retriever.http(tenant) as http:
            answer = http.get("/v1/files", headers={"x-cloister-caller": wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-cloister-caller")
