"""Nothing that a caller sent is readable where it is stored: a canary, searched for in every encoding."""

import base64
import secrets
from pathlib import Path

import pytest

from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite, MilvusServer235
from tests.support.retriever import RetrieverMaker


def encodings(text: str) -> list[bytes]:
    """``text`` as it might lie on a disk: raw, UTF-16, hex, base64 at each of its three alignments."""
    forms = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")]
    forms += [text.encode().hex().encode(), text.encode().hex().upper().encode()]
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + text.encode())
        # What the bytes around it take part in is cut off.
        forms.append(encoded[4 if shift else 0 : -4])
    return forms


def finds(folders: list[Path], canary: str) -> list[str]:
    forms = encodings(canary)
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if canary in path.name:
                found.append(f"name of {path}")
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                found += [f"{path}: form {number}" for number, form in enumerate(forms) if form in content]
    return found


def test_the_search_for_canaries_finds_them(tmp_path: Path) -> None:
    for number, form in enumerate(encodings("canary-0123456789")):
        (tmp_path / str(number)).write_bytes(b"x" + form + b"y")
    assert len(finds([tmp_path], "canary-0123456789")) >= 8


@pytest.mark.parametrize("server", [MilvusLite, MilvusServer235])
def test_no_canary_lies_readable_in_blobs_milvus_or_logs(
    server: type[MilvusLite] | type[MilvusServer235], make_retriever: RetrieverMaker, tmp_path: Path
) -> None:
    canaries = {
        what: f"canary{what}{secrets.token_hex(12)}"
        for what in ("content", "name", "store", "about", "key", "value", "query", "tenant")
    }
    folder = tmp_path / "milvus"
    folder.mkdir()
    milvus = server(folder)
    milvus.start()
    try:
        retriever = make_retriever(milvus.uri).start()
        sdk = retriever.openai(canaries["tenant"])
        file_id = upload(sdk, f"{canaries['name']}.md", f"# {canaries['content']}\n\n{canaries['content']}".encode())
        store = sdk.vector_stores.create(
            name=canaries["store"], description=canaries["about"], metadata={canaries["key"]: canaries["value"]}
        ).id
        sdk.vector_stores.files.create(
            file_id=file_id, vector_store_id=store, attributes={canaries["key"]: canaries["value"]}
        )
        ingested(sdk, store)
        [found] = sdk.vector_stores.search(store, query=canaries["query"]).data
        assert canaries["content"] in found.content[0].text
        assert canaries["name"] in found.filename
        retriever.stop()
    finally:
        milvus.stop()
    for what, canary in canaries.items():
        assert finds([retriever.blobs, folder], canary) == [], what
        assert canary not in retriever.log.read_text(), what
