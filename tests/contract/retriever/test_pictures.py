"""The whole chain over real parts: MiniLM, a small CLIP, Milvus Lite, the confined parser, the gateway's client.

The CLIP was trained for seconds on drawn squares and circles, and knows nothing else: it shows that pictures are found,
not how well a real model finds them.
"""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cloister_common.caller import Caller
from cloister_common.errors import NotFound
from cloister_common.wire.pictures import data_url
from PIL import Image

from tests.support.documents import ingested, upload
from tests.support.embedder_service import CLIP
from tests.support.illustrated import docx_with, html_with, pdf_with, pptx_with, scan
from tests.support.milvus import MilvusLite
from tests.support.retriever import TENANT, RetrieverProcess
from tests.support.tiny_models import drawn


def png(colour: str, shape: str) -> bytes:
    out = io.BytesIO()
    drawn(colour, shape).save(out, "PNG")
    return out.getvalue()


RED, BLUE, GREEN = png("red", "square"), png("blue", "circle"), png("green", "square")
PURPLE = png("purple", "circle")


@pytest.fixture(scope="module")
def retriever(
    milvus_lite: MilvusLite, real_embedder_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RetrieverProcess]:
    running = RetrieverProcess(
        tmp_path_factory.mktemp("pictures"),
        milvus_uri=milvus_lite.uri,
        embedder_url=real_embedder_url,
        embedder={"image_model": CLIP},
        search={"pictures": {"text_cosines": [0.4, 1.0], "picture_cosines": [0.5, 1.0]}},
    )
    yield running.start()
    running.stop()


@pytest.fixture(scope="module", params=["standard", "sealed"])
def library(request: pytest.FixtureRequest, retriever: RetrieverProcess) -> tuple[str, dict[str, str]]:
    """A vector store with a picture in a file of each kind, and the files' ids."""
    sdk = retriever.openai()
    files = {
        "pdf": ("a.pdf", pdf_with(RED, before="Minutes of the regatta.", alt="The winning yacht off the pier")),
        "docx": ("b.docx", docx_with(BLUE, before="Our bakery opened in 1901.", after="It still has the old oven.")),
        "pptx": ("c.pptx", pptx_with(GREEN, before="Budget", alt="Chart of the spending on school meals")),
        "html": ("d.html", html_with(PURPLE, before="How to prune apple trees in winter.")),
    }
    ids = {kind: upload(sdk, *file) for kind, file in files.items()}
    store = sdk.vector_stores.create(file_ids=list(ids.values()), extra_body={"protection": request.param})
    assert ingested(sdk, store.id).file_counts.completed == len(files)
    return store.id, ids


def hits(retriever: RetrieverProcess, store_id: str, query: Any, tenant: str = TENANT) -> list[dict[str, Any]]:
    with retriever.http(tenant) as http:
        answer = http.post(f"/v1/vector_stores/{store_id}/search", json={"query": query})
        assert answer.status_code == 200, answer.text
        return [hit for hit in answer.json()["data"] if "image" in hit]


@pytest.mark.parametrize(
    ("query", "kind", "way"),
    [
        ("yacht that won at the pier", "pdf", "description"),
        ("spending on school meals", "pptx", "description"),
        ("when did the bakery open", "docx", "surroundings"),
        ("pruning apple trees", "html", "surroundings"),
        ("a red square", "pdf", "image"),
        ("a blue circle", "docx", "image"),
        ("a green square", "pptx", "image"),
        ("a purple circle", "html", "image"),
        (RED, "pdf", "image"),
        (BLUE, "docx", "image"),
        (GREEN, "pptx", "image"),
        (PURPLE, "html", "image"),
    ],
)
def test_pictures_are_found_in_three_ways(
    retriever: RetrieverProcess, library: tuple[str, dict[str, str]], query: str | bytes, kind: str, way: str
) -> None:
    store_id, ids = library
    asked = query if isinstance(query, str) else {"type": "input_image", "image_url": data_url(query)}
    best = hits(retriever, store_id, asked)[0]
    assert (best["file_id"], best["found_by"]) == (ids[kind], way)


async def test_a_picture_is_fetched_from_its_hit_by_who_sees_the_file(
    retriever: RetrieverProcess, library: tuple[str, dict[str, str]]
) -> None:
    store_id, ids = library
    (hit, *_) = hits(retriever, store_id, "a red square")
    assert hit["image"]["url"] == f"/v1/vector_stores/{store_id}/files/{ids['pdf']}/images/0"
    with retriever.http() as http:
        answer = http.get(hit["image"]["url"])
    assert answer.headers["content-type"] == hit["image"]["media_type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "private, no-store"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (hit["image"]["width"], hit["image"]["height"]) == (128, 128)
    client = retriever.client()
    try:
        (first, *_) = [one for one in await client.search(TENANT, [store_id], "a red square") if one.image]
        assert first.image is not None
        assert (await client.picture(TENANT, first.image)).content == answer.content
        with pytest.raises(NotFound):
            await client.picture("proj_other", first.image)
    finally:
        await client.close()


def test_an_access_list_hides_pictures_and_refuses_to_give_them(retriever: RetrieverProcess, tenant: str) -> None:
    sdk = retriever.openai(tenant)
    ada, bob = Caller(user="ada"), Caller(user="bob")
    with retriever.http(tenant) as http:
        made = http.post(
            "/v1/files",
            files={"file": ("IMG_1.png", RED)},
            data={"purpose": "assistants", "access": '{"users": ["ada"]}'},
            headers=ada.headers(),
        )
        assert made.status_code == 200, made.text
        store = sdk.vector_stores.create()
        attached = http.post(
            f"/v1/vector_stores/{store.id}/files", json={"file_id": made.json()["id"]}, headers=ada.headers()
        )
        assert attached.status_code == 200, attached.text
        ingested(sdk, store.id)
        search = f"/v1/vector_stores/{store.id}/search"
        (seen,) = http.post(search, json={"query": "a red square"}, headers=ada.headers()).json()["data"]
        assert seen["found_by"] == "image"
        assert seen["content"] == []
        assert http.get(seen["image"]["url"], headers=ada.headers()).status_code == 200
        unseen = http.post(search, json={"query": "a red square"}, headers=bob.headers())
        assert (unseen.status_code, unseen.json().get("data")) == (200, []), unseen.text
        assert http.get(seen["image"]["url"], headers=bob.headers()).status_code == 404
        by_file = {"query": {"type": "input_image", "file_id": made.json()["id"]}}
        assert http.post(search, json=by_file, headers=bob.headers()).status_code == 404


def test_a_scan_is_found_by_what_it_shows(retriever: RetrieverProcess, tenant: str) -> None:
    sdk = retriever.openai(tenant)
    store = sdk.vector_stores.create(file_ids=[upload(sdk, "scan.pdf", scan(PURPLE))])
    assert ingested(sdk, store.id).file_counts.completed == 1
    (hit,) = hits(retriever, store.id, "a purple circle", tenant)
    assert (hit["found_by"], hit["passage"]["page"]) == ("image", 1)
    with retriever.http(tenant) as http:
        (file,) = http.get(f"/v1/vector_stores/{store.id}/files").json()["data"]
    assert "Page 1 has no text" in file["status_details"]


def test_pictures_are_gone_with_their_file(retriever: RetrieverProcess, tenant: str) -> None:
    sdk = retriever.openai(tenant)
    file_id = upload(sdk, "e.docx", docx_with(RED, before="Words."))
    store = sdk.vector_stores.create(file_ids=[file_id])
    ingested(sdk, store.id)
    (hit,) = hits(retriever, store.id, "a red square", tenant)
    sdk.files.delete(file_id)
    assert hits(retriever, store.id, "a red square", tenant) == []
    with retriever.http(tenant) as http:
        assert http.get(hit["image"]["url"]).status_code == 404


def test_a_query_that_is_no_picture_is_refused(retriever: RetrieverProcess, tenant: str) -> None:
    store = retriever.openai(tenant).vector_stores.create()
    with retriever.http(tenant) as http:
        for query, param in (
            ({"type": "input_image"}, "query.image_url"),
            ([{"type": "input_image", "image_url": "data:image/png;base64,"}], "query[0]"),
            (["words", {"type": "input_image", "image": "x"}], "query[1].image"),
            ({"type": "input_image", "image_url": data_url(RED[:300])}, "query"),
        ):
            answer: httpx.Response = http.post(f"/v1/vector_stores/{store.id}/search", json={"query": query})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == param, answer.text
