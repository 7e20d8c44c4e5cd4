"""Access lists of files, asked of the real retriever and of its fake: the same answers to the same callers."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.caller import NOBODY, Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import TENANT_HEADER

from tests.contract.retriever.test_contract import ZEBRA, filled, shape
from tests.support.retriever import RETRIEVER_TOKEN

Asking = Callable[[Caller], httpx.Client]

ANNA = Caller(user="anna")
BEN = Caller(user="ben", groups=("hr",))
OFFICER = Caller(all_files=True)


@pytest.fixture
def asking(url: str, tenant: str) -> Iterator[Asking]:
    """Gives a client that asks as somebody."""
    with contextlib.ExitStack() as stack:

        def of(who: Caller) -> httpx.Client:
            headers = {"authorization": f"Bearer {RETRIEVER_TOKEN}", TENANT_HEADER: tenant, **who.headers()}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield of


def said(answer: httpx.Response) -> tuple[int, str | None]:
    """The status, and what is in the error for programs."""
    body: dict[str, Any] = answer.json()
    return answer.status_code, body.get("error", {}).get("code")


async def test_everybody_sees_what_lists_let_them_see(
    asking: Asking, sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    store, zebra, ships = filled(sdk)
    anna, ben, nobody, officer = (asking(who) for who in (ANNA, BEN, NOBODY, OFFICER))
    place, file = f"/v1/vector_stores/{store}/files/{zebra}", f"/v1/files/{zebra}"
    access = {"users": ["cleo"], "groups": ["hr"]}
    assert said(nobody.post(place, json={"access": access})) == (403, "access_without_user")
    listed = anna.post(place, json={"access": access})
    assert listed.json()["access"] == {"owner": "anna", **access}
    assert listed.json()["attributes"] == {"kind": "animal", "n": 1}
    for who, sees in ((ANNA, True), (BEN, True), (OFFICER, True), (NOBODY, False), (Caller(user="dora"), False)):
        results = await client.search(tenant, [store], "the zebra eats grass", caller=who)
        assert {one.file_id for one in results} == ({zebra, ships} if sees else {ships})
        asked = asking(who)
        expected = 200 if sees else 404
        for path in (place, file, f"{place}/content", f"{file}/content"):
            assert asked.get(path).status_code == expected
        assert asked.post(f"/internal/read?file_id={zebra}").status_code == expected
        for path in (f"/v1/vector_stores/{store}/files", "/v1/files"):
            assert (zebra in [one["id"] for one in asked.get(path).json()["data"]]) is sees
        assert asked.post("/v1/vector_stores", json={"file_ids": [zebra]}).status_code == expected
        assert asked.post(f"/v1/vector_stores/{store}/files", json={"file_id": zebra}).status_code == expected
    assert shape(anna.get(file).json())["access"] == {"owner": "str", "users": ["str"], "groups": ["str"]}  # type: ignore[index]
    assert "access" not in ben.get(place).json()
    for answer in (ben.post(place, json={"attributes": {}}), ben.delete(place), ben.delete(file)):
        assert said(answer) == (403, "not_the_owner")
    assert said(nobody.delete(file)) == said(nobody.delete("/v1/files/file-" + "0" * 48))
    assert officer.post(place, json={"access": None}).status_code == 200
    assert nobody.get(f"{file}/content").content == ZEBRA


def test_a_file_has_its_list_from_its_upload_on(asking: Asking) -> None:
    form: dict[str, Any] = {
        "files": {"file": ("a.txt", ZEBRA)},
        "data": {"purpose": "assistants", "access": '{"users": ["ben"]}'},
    }
    assert said(asking(NOBODY).post("/v1/files", **form)) == (403, "access_without_user")
    made = asking(ANNA).post("/v1/files", **form).json()
    assert made["access"] == {"owner": "anna", "users": ["ben"], "groups": []}
    seen = [asking(who).get(f"/v1/files/{made['id']}/content").status_code for who in (ANNA, BEN, NOBODY)]
    assert seen == [200, 200, 404]


async def test_a_batch_puts_its_list_on_every_file(
    asking: Asking, sdk: openai.OpenAI, client: RetrieverClient, tenant: str
) -> None:
    store, zebra, ships = filled(sdk)
    anna, nobody = asking(ANNA), asking(NOBODY)
    batches = f"/v1/vector_stores/{store}/file_batches"
    batch = anna.post(batches, json={"file_ids": [zebra, ships], "access": {}}).json()
    assert await client.search(tenant, [store], "zebra") == []
    path = f"{batches}/{batch['id']}/files"
    assert [len(who.get(path).json()["data"]) for who in (anna, nobody)] == [2, 0]
    entries = [{"file_id": zebra, "access": {"users": ["ben"]}}, {"file_id": ships}]
    anna.post(batches, json={"files": entries})
    results = await client.search(tenant, [store], "zebra", caller=BEN)
    assert [one.file_id for one in results] == [zebra]
