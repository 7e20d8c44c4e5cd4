"""``/v1/uploads`` through the official SDK."""

import hashlib
import io
import os
from pathlib import Path

import openai
import pytest
from cloister_common.caller import Caller

from tests.support.retriever import RetrieverProcess


def test_the_sdk_uploads_a_file_in_chunks(lite_sdk: openai.OpenAI, tmp_path: Path) -> None:
    content = os.urandom(1_500_000)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    upload = lite_sdk.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=400_000
    )
    assert (upload.status, upload.bytes, upload.filename) == ("completed", 1_500_000, "large.bin")
    assert upload.file is not None
    assert lite_sdk.files.retrieve(upload.file.id) == upload.file
    assert lite_sdk.files.content(upload.file.id).read() == content
    of_memory = lite_sdk.uploads.upload_file_chunked(
        file=content,
        filename="memory.bin",
        bytes=len(content),
        mime_type="text/plain",
        purpose="assistants",
        md5=hashlib.md5(content).hexdigest(),
    )
    assert of_memory.status == "completed"


def test_parts_are_sealed_and_gone_when_the_upload_has_ended(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI
) -> None:
    plain = b"nobody may read this where it lies" * 100
    upload = lite_sdk.uploads.create(bytes=len(plain), filename="a.txt", mime_type="text/plain", purpose="assistants")
    assert (upload.status, upload.expires_at, upload.file) == ("pending", upload.created_at + 3600, None)
    part = lite_sdk.uploads.parts.create(upload.id, data=io.BytesIO(plain))
    assert (part.object, part.upload_id) == ("upload.part", upload.id)
    (stored,) = lite_retriever.blobs.glob(f"t/*/parts/{upload.id}/*")
    assert stored.name == part.id
    assert b"nobody" not in stored.read_bytes()
    assert lite_sdk.uploads.cancel(upload.id).status == "cancelled"
    assert not stored.exists()
    with pytest.raises(openai.BadRequestError) as ended:
        lite_sdk.uploads.complete(upload.id, part_ids=[part.id])
    assert ended.value.code == "upload_ended"


def test_an_upload_goes_on_after_the_retriever_was_killed(
    lite_retriever: RetrieverProcess, lite_sdk: openai.OpenAI
) -> None:
    upload = lite_sdk.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="assistants")
    first = lite_sdk.uploads.parts.create(upload.id, data=b"abc").id
    lite_retriever.kill()
    lite_retriever.start()
    second = lite_sdk.uploads.parts.create(upload.id, data=b"def").id
    done = lite_sdk.uploads.complete(upload.id, part_ids=[first, second])
    assert done.file is not None
    assert lite_sdk.files.content(done.file.id).read() == b"abcdef"


def test_wrong_bodies_are_refused_by_name(lite_retriever: RetrieverProcess, tenant: str) -> None:
    create = {"bytes": 6, "filename": "a", "mime_type": "text/plain", "purpose": "assistants"}
    with lite_retriever.http(tenant) as http:
        made = http.post("/v1/uploads", json=create).json()["id"]
        for path, body, param in (
            ("", {**create, "bytes": 0}, "bytes"),
            ("", {**create, "bytes": "6"}, "bytes"),
            ("", {**create, "purpose": "nonsense"}, "purpose"),
            ("", {**create, "colour": "red"}, "colour"),
            ("", {"bytes": 6}, "filename"),
            ("", {**create, "expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
            (f"/{made}/complete", {}, "part_ids"),
            (f"/{made}/complete", {"part_ids": []}, "part_ids"),
            (f"/{made}/complete", {"part_ids": ["part_1"], "md5": "x"}, "md5"),
        ):
            answer = http.post(f"/v1/uploads{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert http.post(f"/v1/uploads/{made}/complete", content=b"[" * 300_000).status_code == 413
        assert http.post("/v1/uploads/upload_1/cancel").status_code == 404


def test_a_file_says_when_it_expires(lite_sdk: openai.OpenAI) -> None:
    file = lite_sdk.files.create(
        file=("a.txt", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 86_400}
    )
    assert file.expires_at == file.created_at + 86_400
    assert lite_sdk.files.retrieve(file.id) == file
    assert lite_sdk.files.create(file=("a.txt", b"x"), purpose="assistants").expires_at is None


def test_an_upload_with_an_access_list_is_its_owners_and_so_is_its_file(
    lite_retriever: RetrieverProcess, tenant: str
) -> None:
    anna, ben = Caller(user="anna").headers(), Caller(user="ben").headers()
    asked = {"bytes": 3, "filename": "a.txt", "mime_type": "text/plain", "purpose": "assistants"}
    access = {"users": ["ben"], "groups": []}
    with lite_retriever.http(tenant) as http:
        assert (
            http.post("/v1/uploads", json={**asked, "access": access}).json()["error"]["code"] == "access_without_user"
        )
        wrong = http.post("/v1/uploads", json={**asked, "access": {"people": []}}, headers=anna)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "access.people")
        upload = http.post("/v1/uploads", json={**asked, "access": access}, headers=anna).json()["id"]
        place, data = f"/v1/uploads/{upload}", {"data": ("a", b"abc")}
        for who in (ben, {}):
            assert http.post(f"{place}/parts", files=data, headers=who).status_code == 404
            assert http.post(f"{place}/cancel", headers=who).status_code == 404
        part = http.post(f"{place}/parts", files=data, headers=anna).json()["id"]
        for who in (ben, {}):
            assert http.post(f"{place}/complete", json={"part_ids": [part]}, headers=who).status_code == 404
        file = http.post(f"{place}/complete", json={"part_ids": [part]}, headers=anna).json()["file"]
        assert file["access"] == {"owner": "anna", **access}
        seen = [http.get(f"/v1/files/{file['id']}", headers=who).status_code for who in (anna, ben, {})]
        assert seen == [200, 200, 404]
        changed = http.delete(f"/v1/files/{file['id']}", headers=ben)
        assert (changed.status_code, changed.json()["error"]["code"]) == (403, "not_the_owner")
