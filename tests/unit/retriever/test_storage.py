"""Sealed contents and records, on a store in memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloister_common.buckets import open_bucket
from cloister_common.errors import PayloadTooLarge, Unavailable
from cloister_common.testing.serving import free_port
from cloister_common.vault import SEGMENT_BYTES, DataKey, VaultError
from cloister_retriever.settings import BlobSettings
from cloister_retriever.storage.backend import open_objects
from cloister_retriever.storage.content import SealedContent
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords
from cloister_retriever.vector_stores.records import Moment, Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore, S3Store
from pydantic import ValidationError

KEY = b"k" * 32
CONTEXT = b"which file"


async def in_chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


async def read(content: SealedContent, size: int, start: int = 0, stop: int | None = None) -> bytes:
    parts = content.read("c", key=KEY, context=CONTEXT, size=size, start=start, stop=stop)
    return b"".join([part async for part in parts])


sizes = st.sampled_from(
    [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 5 * SEGMENT_BYTES + 17]
)


@given(size=sizes, chunk=st.sampled_from([1000, 65_536, 300_000]), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=40, deadline=None)
def test_content_comes_back_whole_and_by_range(size: int, chunk: int, cut: tuple[float, float]) -> None:
    async def run() -> None:
        data = os.urandom(size)
        content = SealedContent(Objects(MemoryStore()))
        facts = await content.write("c", in_chunks(data, chunk), key=KEY, context=CONTEXT, max_bytes=size)
        assert facts.size == size
        assert await read(content, size) == data
        start, stop = sorted(int(part * size) for part in cut)
        assert await read(content, size, start, stop) == data[start:stop]

    asyncio.run(run())


async def test_content_over_the_limit_leaves_nothing() -> None:
    objects = Objects(MemoryStore())
    with pytest.raises(PayloadTooLarge):
        await SealedContent(objects).write("c", in_chunks(bytes(20), 7), key=KEY, context=CONTEXT, max_bytes=19)
    assert await objects.get("c") is None


async def test_content_that_was_cut_or_edited_does_not_open() -> None:
    objects = Objects(MemoryStore())
    content = SealedContent(objects)
    size = 2 * SEGMENT_BYTES + 100
    await content.write("c", in_chunks(os.urandom(size), 65_536), key=KEY, context=CONTEXT, max_bytes=size)
    sealed = await objects.get("c")
    assert sealed is not None
    segment = len(sealed) // 3
    whole = segment + 1
    for broken in (
        sealed[:-1],
        sealed[: 2 * whole],
        sealed[:500] + b"x" + sealed[501:],
        sealed[whole:] + sealed[:whole],
    ):
        await objects.put("c", broken)
        with pytest.raises(VaultError):
            await read(content, size)


async def test_create_has_one_winner() -> None:
    objects = Objects(MemoryStore())
    won = await asyncio.gather(*(objects.create("one", str(number).encode()) for number in range(20)))
    assert won.count(True) == 1
    assert await objects.get("one") == str(won.index(True)).encode()


async def test_key_store_keeps_the_first_value_under_a_name_that_says_nothing() -> None:
    objects = Objects(MemoryStore())
    store = ObjectKeyStore(objects)
    assert await store.put_if_absent("tenant:acme:1", b"first")
    assert not await store.put_if_absent("tenant:acme:1", b"second")
    assert await store.get("tenant:acme:1") == b"first"
    assert all("acme" not in listed.path for listed in await objects.list("keys"))
    await store.delete("tenant:acme:1")
    await store.delete("tenant:acme:1")
    assert await store.get("tenant:acme:1") is None


def outcome(status: str = "completed") -> Outcome:
    return Outcome.model_validate({"attachment_id": "vsf_1", "status": status, "finished_at": 1})


async def test_a_record_opens_only_at_its_path_as_its_kind_for_its_tenant() -> None:
    objects = Objects(MemoryStore())
    records = SealedRecords(objects)
    key = DataKey(KEY, tenant="proj_a")
    await records.put("t/x/one", Moment(at=5), key)
    assert await records.get("t/x/one", Moment, key) == Moment(at=5)
    sealed = await objects.get("t/x/one")
    assert sealed is not None
    await objects.put("t/x/two", sealed)
    with pytest.raises(VaultError):
        await records.get("t/x/two", Moment, key)
    with pytest.raises(VaultError):
        await records.get("t/x/one", Outcome, key)
    with pytest.raises(VaultError):
        await records.get("t/x/one", Moment, DataKey(KEY, tenant="proj_b"))


async def test_a_listing_sees_changes_and_leaves_out_what_does_not_open() -> None:
    objects = Objects(MemoryStore())
    records = SealedRecords(objects)
    key = DataKey(KEY, tenant="proj_a")

    async def key_of(_: str) -> DataKey:
        return key

    await records.put("t/x/one", Moment(at=1), key)
    assert await records.list("t/x", RecordKind(Moment, key_of)) == [Moment(at=1)]
    await SealedRecords(objects).put("t/x/one", Moment(at=2), key)  # another replica
    await objects.put("t/x/bad", b"not a record")
    assert await records.list("t/x", RecordKind(Moment, key_of)) == [Moment(at=2)]


async def test_of_two_outcomes_the_first_stands() -> None:
    records = SealedRecords(Objects(MemoryStore()))
    key = DataKey(KEY, tenant="proj_a")
    assert await records.create("o", outcome("cancelled"), key)
    assert not await records.create("o", outcome("completed"), key)
    found = await records.get("o", Outcome, key)
    assert found is not None
    assert found.status == "cancelled"


def s3(**changes: object) -> BlobSettings:
    return BlobSettings.model_validate({"url": "s3://bucket/some/prefix", "region": "eu-central-1", **changes})


def test_s3_is_opened_with_its_options(tmp_path: Path) -> None:
    for name in ("id", "secret"):
        (tmp_path / name).write_text("0123456789abcdef0123")
    store = open_bucket(
        s3(
            endpoint="https://objects.internal",
            access_key_id_file=tmp_path / "id",
            secret_access_key_file=tmp_path / "secret",
        )
    )
    assert isinstance(store, S3Store)
    assert store.prefix == "some/prefix"
    assert store.config["bucket"] == "bucket"
    assert store.config["access_key_id"] == "0123456789abcdef0123"
    assert dict(store.client_options or {}).get("allow_http") in {None, False, "false"}


async def test_an_object_store_that_is_down_is_unavailable(tmp_path: Path) -> None:
    for name in ("id", "secret"):
        (tmp_path / name).write_text("0123456789abcdef0123")
    keys = {"access_key_id_file": tmp_path / "id", "secret_access_key_file": tmp_path / "secret"}
    objects = open_objects(s3(endpoint=f"http://127.0.0.1:{free_port()}", **keys))
    with pytest.raises(Unavailable) as raised:
        await objects.check()
    assert raised.value.retry_after


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "file:///data", "endpoint": "https://objects.internal"},
        {"url": "s3://bucket", "access_key_id_file": "id"},
        {"url": "ftp://host/data"},
        {"url": "s3://bucket", "colour": "red"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BlobSettings.model_validate(wrong)
