"""``/v1/files`` through the official SDK."""

import os
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.support.documents import upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker, RetrieverProcess


def test_a_file_comes_back_as_it_was(lite_sdk: openai.OpenAI) -> None:
    content = os.urandom(3_000_001)
    file = lite_sdk.files.create(file=("../Bericht für 日本.bin", content), purpose="user_data")
    assert (file.filename, file.bytes, file.purpose, file.status) == (
        "Bericht für 日本.bin",
        3_000_001,
        "user_data",
        "processed",
    )
    assert lite_sdk.files.retrieve(file.id) == file
    assert lite_sdk.files.content(file.id).read() == content


def test_a_range_of_a_file(lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI, tenant: str) -> None:
    content = os.urandom(1_000_000)
    file_id = upload(lite_sdk, "a.bin", content)
    with lite_retriever.http(tenant) as http:
        part = http.get(f"/v1/files/{file_id}/content", headers={"range": "bytes=262000-524399"})
        assert (part.status_code, part.content) == (206, content[262_000:524_400])
        assert part.headers["content-range"] == "bytes 262000-524399/1000000"
        assert http.get(f"/v1/files/{file_id}/content", headers={"range": "bytes=1000000-"}).status_code == 416


def test_an_empty_file_is_a_file(lite_sdk: openai.OpenAI) -> None:
    file_id = upload(lite_sdk, "empty.txt", b"")
    assert lite_sdk.files.content(file_id).read() == b""


def test_files_are_listed_in_pages_by_time_and_purpose(lite_sdk: openai.OpenAI) -> None:
    ids = [upload(lite_sdk, f"{number}.txt", b"x") for number in range(5)]
    batch = lite_sdk.files.create(file=("b.jsonl", b"{}"), purpose="batch").id
    listed = [file.id for file in lite_sdk.files.list(order="asc", limit=2)]
    assert sorted(listed) == sorted([*ids, batch])
    assert listed == list(reversed([file.id for file in lite_sdk.files.list(order="desc")]))
    assert [file.id for file in lite_sdk.files.list(purpose="batch")] == [batch]


def test_a_deleted_file_is_gone_with_its_key_and_content(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI
) -> None:
    before = {path for path in lite_retriever.blobs.rglob("*") if path.is_file()}
    file_id = upload(lite_sdk, "a.txt", b"x" * 1000)
    assert lite_sdk.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        lite_sdk.files.retrieve(file_id)
    with pytest.raises(openai.NotFoundError):
        lite_sdk.files.content(file_id)
    left = {path for path in lite_retriever.blobs.rglob("*") if path.is_file()} - before
    assert all(path.parent.name == "keys" for path in left), "only the new tenant's own key stays"
    assert len(left) <= 1


def test_a_damaged_file_is_listed_with_its_error_and_keeps_no_other_back(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI
) -> None:
    record, content, good = [upload(lite_sdk, f"{number}.txt", b"x" * 1000) for number in range(3)]
    for path in lite_retriever.blobs.glob("t/*/files/*"):
        if path.name == record:
            path.write_bytes(b"damaged")
    for path in lite_retriever.blobs.glob("t/*/contents/*"):
        if path.name == content:
            path.write_bytes(path.read_bytes()[:-1])
    listed = list(lite_sdk.files.list(order="asc", limit=2))
    assert [(file.id, file.status) for file in listed] == [(record, "error"), (content, "error"), (good, "processed")]
    assert content in (listed[1].status_details or "")
    assert lite_sdk.files.retrieve(record) == listed[0]
    for file_id in (record, content):
        with pytest.raises(openai.InternalServerError) as damaged:
            lite_sdk.files.content(file_id)
        assert damaged.value.code == "stored_data_damaged"
        assert file_id in damaged.value.message
        assert lite_sdk.files.delete(file_id).deleted
    assert [file.id for file in lite_sdk.files.list()] == [good]


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"purpose": "fine-tune"}, "unsupported_parameter", "purpose"),
        ({"purpose": "batch_output"}, "unsupported_parameter", "purpose"),
        ({"purpose": "nonsense"}, "invalid_request", "purpose"),
        ({}, "missing_required_parameter", "purpose"),
        (
            {"purpose": "assistants", "expires_after[anchor]": "created_at"},
            "missing_required_parameter",
            "expires_after.seconds",
        ),
        ({"purpose": "assistants", "colour": "red"}, "unsupported_parameter", "colour"),
    ],
)
def test_a_refused_upload_names_the_field_and_leaves_nothing(
    lite_retriever: RetrieverProcess, tenant: str, form: dict[str, str], code: str, param: str
) -> None:
    with lite_retriever.http(tenant) as http:
        answer = http.post("/v1/files", data=form, files={"file": ("a.txt", b"x" * 600_000)})
        assert answer.status_code == 400
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
        assert http.get("/v1/files").json()["data"] == []


def test_an_upload_over_the_limit_is_413(milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str) -> None:
    retriever = make_retriever(milvus_lite.uri, ingestion=_limits(max_file_bytes=1000), role="api").start()
    with pytest.raises(openai.APIStatusError) as refused:
        upload(retriever.openai(tenant), "big.txt", b"x" * 1001)
    assert refused.value.status_code == 413
    assert upload(retriever.openai(tenant), "small.txt", b"x" * 1000)


def test_an_upload_that_breaks_off_leaves_nothing(lite_retriever: RetrieverProcess, tenant: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 700_000
        raise ConnectionError("the client died")

    with lite_retriever.http(tenant) as http:
        with pytest.raises(ConnectionError):
            http.post("/v1/files", content=broken(), headers={"content-type": "multipart/form-data; boundary=b"})
        assert http.get("/v1/files").json()["data"] == []


def test_unknown_query_parameters_and_bodies_are_refused_by_name(lite_retriever: RetrieverProcess, tenant: str) -> None:
    with lite_retriever.http(tenant) as http:
        answers: list[httpx.Response] = [
            http.get("/v1/files", params={"colour": "red"}),
            http.post("/v1/vector_stores", json={"colour": "red"}),
            http.get("/v1/vector_stores", params={"colour": "red"}),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unsupported_parameter"
        assert answer.json()["error"]["param"] == "colour"


def _limits(**changes: int) -> dict[str, int]:
    return changes
