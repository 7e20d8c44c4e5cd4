"""Another tenant's ids are 404 on every route, and no route answers without the token."""

import openai
import pytest
from cloister_retriever.app import create_app
from cloister_retriever.settings import RetrieverSettings
from fastapi.routing import APIRoute

from tests.support.documents import ingested, upload
from tests.support.retriever import RetrieverProcess

BODIES = {
    "/v1/vector_stores/{store_id}": {"name": "stolen"},
    "/v1/vector_stores/{store_id}/files": {"file_id": "FILE"},
    "/v1/vector_stores/{store_id}/files/{file_id}": {"attributes": {"a": "b"}},
    "/v1/vector_stores/{store_id}/file_batches": {"file_ids": ["FILE"]},
    "/v1/vector_stores/{store_id}/search": {"query": "zebra"},
    "/v1/uploads/{upload_id}/complete": {"part_ids": ["PART"]},
    "/internal/search": {"vector_store_ids": ["STORE"], "query": "zebra"},
    "/cloister/v1/vector_stores/{store_id}/reembed": {"model": "m"},
}
QUERIES = {"/internal/read": {"file_id": "FILE"}, "/internal/image": {"file_id": "FILE"}}
FILES = {"/v1/uploads/{upload_id}/parts": {"data": b"more"}}
OPEN = {"/health", "/livez", "/readyz"}
COLLECTIONS = {
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("POST", "/v1/uploads"),
    ("POST", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores"),
    ("PUT", "/internal/files/{file_id}"),
}
"""What makes or lists things, and names none that is there."""
OF_NO_TENANT = {
    ("GET", "/internal/ingestions"),
    ("POST", "/internal/ingestions/{attachment_id}"),
    ("DELETE", "/internal/ingestions/{attachment_id}"),
}
"""What a gateway asks for all tenants together. It takes nobody there."""


def routes() -> list[tuple[str, str]]:
    """Every (method, path) of the application."""
    section = {"url": "http://127.0.0.1:1", "token_file": "t", "model": "m"}
    settings = RetrieverSettings.model_validate(
        {
            "server": {"port": 1, "metrics_port": 2},
            "token_file": "t",
            "vault": {"root_key_file": "k"},
            "embedder": section,
            "milvus": {"uri": "http://127.0.0.1:1"},
            "blobs": {"url": "file:///nowhere"},
            "ingestion": {"tokenizer_path": "m"},
        }
    )
    found = []
    waiting = list(create_app(settings).routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found += [(method, route.path) for method in sorted(route.methods or ())]
        waiting += getattr(getattr(route, "original_router", None), "routes", [])
    return sorted(found)


ROUTES = routes()


def test_the_routes_were_found() -> None:
    assert len(ROUTES) >= 20
    assert ("POST", "/internal/search") in ROUTES


@pytest.fixture(scope="module")
def owned(lite_retriever: RetrieverProcess) -> dict[str, str]:
    """What the tenant ``proj_owner`` has."""
    sdk = lite_retriever.openai("proj_owner")
    file_id = upload(sdk, "secret.txt", b"the zebra is secret")
    store = sdk.vector_stores.create(name="secret", file_ids=[file_id]).id
    batch = sdk.vector_stores.file_batches.create(store, file_ids=[file_id]).id
    ingested(sdk, store)
    begun = sdk.uploads.create(bytes=6, filename="secret.txt", mime_type="text/plain", purpose="user_data").id
    part = sdk.uploads.parts.create(begun, data=b"secret").id
    return {"FILE": file_id, "STORE": store, "BATCH": batch, "UPLOAD": begun, "PART": part}


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] not in OPEN])
def test_no_route_answers_without_the_token(lite_retriever: RetrieverProcess, method: str, path: str) -> None:
    with lite_retriever.http() as http:
        for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}):
            answer = http.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("method", "path"), [route for route in ROUTES if route[1] not in OPEN and route not in COLLECTIONS | OF_NO_TENANT]
)
def test_another_tenants_id_looks_like_an_unknown_one(
    lite_retriever: RetrieverProcess, owned: dict[str, str], method: str, path: str
) -> None:
    kinds = {"FILE": "file-", "STORE": "vs_", "BATCH": "vsfb_", "UPLOAD": "upload_", "PART": "part_"}
    unknown = {name: kind + "0" * 48 for name, kind in kinds.items()}
    answers = []
    with lite_retriever.http("proj_thief") as http:
        for ids in (owned, unknown):
            named = {f"{name.lower()}_id": known for name, known in ids.items()} | {"number": "0"}
            body = _filled(BODIES.get(path), ids) if method == "POST" else None
            query = {name: ids[known] for name, known in QUERIES.get(path, {}).items()}
            answer = http.request(method, path.format(**named), params=query, json=body, files=FILES.get(path))
            text = answer.text
            for known in ids.values():
                text = text.replace(known, "ID")
            answers.append((answer.status_code, text))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_a_result_under_a_foreign_id_is_refused_and_changes_nothing(
    lite_retriever: RetrieverProcess, owned: dict[str, str]
) -> None:
    path, query = f"/internal/files/{owned['FILE']}", {"name": "out.jsonl", "like": owned["FILE"]}
    with lite_retriever.http("proj_thief") as http:
        # The file's key is the owner's, and opens for nobody else.
        assert not http.put(path, params=query, content=b"of the thief").is_success
        assert http.get(f"/v1/files/{owned['FILE']}").status_code == 404
    with lite_retriever.http("proj_owner") as http:
        assert http.get(f"/v1/files/{owned['FILE']}").json()["filename"] == "secret.txt"
        hits = http.post(f"/v1/vector_stores/{owned['STORE']}/search", json={"query": "zebra"}).json()["data"]
    assert [hit["content"][0]["text"] for hit in hits] == ["the zebra is secret"]


def test_a_foreign_file_cannot_be_put_into_an_own_store(
    lite_retriever: RetrieverProcess, owned: dict[str, str]
) -> None:
    sdk = lite_retriever.openai("proj_thief")
    store = sdk.vector_stores.create(name="mine").id
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.files.create(file_id=owned["FILE"], vector_store_id=store)
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.create(name="mine", file_ids=[owned["FILE"]])


def test_lists_show_only_the_tenants_own(lite_retriever: RetrieverProcess, owned: dict[str, str]) -> None:
    sdk = lite_retriever.openai("proj_nobody")
    assert list(sdk.files.list()) == []
    assert list(sdk.vector_stores.list()) == []
    assert owned["FILE"] in [file.id for file in lite_retriever.openai("proj_owner").files.list()]


@pytest.mark.parametrize("tenant", ["", "a/b", "../x", ":retriever", "x" * 129])
def test_a_tenant_that_is_no_id_is_refused(lite_retriever: RetrieverProcess, tenant: str) -> None:
    with lite_retriever.http() as http:
        assert http.get("/v1/files", headers={"x-cloister-tenant": tenant}).status_code == 400


def _filled(body: object, ids: dict[str, str]) -> object:
    if isinstance(body, dict):
        return {key: _filled(value, ids) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, ids) for value in body]
    return ids.get(body, body) if isinstance(body, str) else body
