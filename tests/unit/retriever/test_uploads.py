"""Uploads in parts: one file comes of one, whatever is repeated, cut off or killed. And what expires."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cloister_common.caller import NOBODY
from cloister_common.errors import InvalidRequest, NotFound, PayloadTooLarge
from cloister_retriever.audience.service import Sight
from cloister_retriever.files.schemas import FilesQuery
from cloister_retriever.uploads.schemas import CompleteUpload, CreateUpload
from openai.types import Upload

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored, form_of

DAY = 86_400


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


def sight(process: MemoryProcess, tenant: str = TENANT) -> Sight:
    return Sight(process.audiences, tenant, NOBODY)


async def created(process: MemoryProcess, size: int, **more: Any) -> str:
    asked = {"bytes": size, "filename": "../all.txt", "mime_type": "text/plain", "purpose": "assistants", **more}
    return (await process.uploads.create(TENANT, CreateUpload.model_validate(asked), sight(process))).id


async def part(process: MemoryProcess, upload: str, text: str) -> str:
    return (await process.uploads.add_part(TENANT, upload, form_of(text, file_field="data"), sight(process))).id


async def complete(process: MemoryProcess, upload: str, parts: list[str], md5: str | None = None) -> Upload:
    return await process.uploads.complete(TENANT, upload, CompleteUpload(part_ids=parts, md5=md5), sight(process))


async def content(process: MemoryProcess, file_id: str) -> bytes:
    record = await process.files.get(TENANT, file_id)
    return b"".join([chunk async for chunk in process.files.content(TENANT, record)])


async def files(process: MemoryProcess) -> list[str]:
    listed, _ = await process.files.list(TENANT, FilesQuery())
    return [file.id for file in listed]


async def left(process: MemoryProcess) -> list[str]:
    """What is stored, but for the keys of tenants, which stay."""
    paths = [listed.path for folder in ("t", "due", "key-names") for listed in await process.objects.list(folder)]
    return [path for path in paths if not path.startswith("key-names/system")]


async def test_parts_become_a_file_in_the_order_asked_for(process: MemoryProcess) -> None:
    upload = await created(process, 9)
    parts = [await part(process, upload, text) for text in ("ghi", "abc", "def", "extra")]
    order = [parts[1], parts[2], parts[0]]
    done = await complete(process, upload, order, hashlib.md5(b"abcdefghi").hexdigest().upper())
    assert (done.status, done.bytes, done.filename, done.object) == ("completed", 9, "all.txt", "upload")
    assert done.expires_at == done.created_at + 3600
    assert done.file is not None
    assert await content(process, done.file.id) == b"abcdefghi"
    assert await complete(process, upload, order, hashlib.md5(b"abcdefghi").hexdigest().upper()) == done
    assert await files(process) == [done.file.id]
    assert not [path for path in await left(process) if "/parts/" in path]


async def test_another_digest_is_refused_and_the_upload_goes_on(process: MemoryProcess) -> None:
    upload = await created(process, 6)
    parts = [await part(process, upload, text) for text in ("abc", "def")]
    with pytest.raises(InvalidRequest) as refused:
        await complete(process, upload, parts, hashlib.md5(b"defabc").hexdigest())
    assert refused.value.param == "md5"
    assert await files(process) == []
    done = await complete(process, upload, parts[::-1], hashlib.md5(b"defabc").hexdigest())
    assert done.file is not None
    assert await content(process, done.file.id) == b"defabc"


async def test_what_does_not_make_up_the_file_is_refused_by_name(process: MemoryProcess) -> None:
    upload, other = await created(process, 6), await created(process, 3)
    parts = [await part(process, upload, text) for text in ("abc", "def")]
    foreign = await part(process, other, "def")
    for chosen, kind, param in (
        (parts[:1], InvalidRequest, "part_ids"),
        ([parts[0], parts[0]], InvalidRequest, "part_ids"),
        ([parts[0], foreign], NotFound, "part_ids[1]"),
        ([parts[0], "../x"], NotFound, "part_ids[1]"),
    ):
        with pytest.raises(kind) as refused:
            await complete(process, upload, chosen)
        assert refused.value.param == param
    with pytest.raises(NotFound):
        await process.uploads.complete("proj_b", upload, CompleteUpload(part_ids=parts), sight(process, "proj_b"))
    with pytest.raises(NotFound):
        await process.uploads.cancel("proj_b", upload, sight(process, "proj_b"))
    assert (await complete(process, upload, parts)).status == "completed"


async def test_the_first_ending_of_several_counts(process: MemoryProcess) -> None:
    one, two = await created(process, 3), await created(process, 6)
    first = await part(process, one, "abc")
    assert (await process.uploads.cancel(TENANT, one, sight(process))).status == "cancelled"
    assert (await process.uploads.cancel(TENANT, one, sight(process))).status == "cancelled"
    second = [await part(process, two, "abc") for _ in range(2)]
    await complete(process, two, second)
    for act in (
        lambda: complete(process, one, [first]),
        lambda: part(process, one, "abc"),
        lambda: process.uploads.cancel(TENANT, two, sight(process)),
        lambda: part(process, two, "abc"),
        lambda: complete(process, two, second[::-1]),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await act()
        assert refused.value.error_code == "upload_ended"
    assert len(await files(process)) == 1


async def test_sizes_and_numbers_have_bounds(process: MemoryProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PayloadTooLarge):
        await created(process, 1001)
    with pytest.raises(InvalidRequest):
        await created(process, 10, purpose="fine-tune")
    upload = await created(process, 10)
    await part(process, upload, "0123456789")
    with pytest.raises(PayloadTooLarge) as refused:
        await part(process, upload, "0123456789.")
    assert refused.value.param == "data"
    # One whose answer was lost is sent again.
    again = await part(process, upload, "0123456789")
    monkeypatch.setattr("cloister_retriever.uploads.service.MOST_PARTS", 2)
    with pytest.raises(InvalidRequest):
        await part(process, upload, "")
    monkeypatch.setattr("cloister_retriever.uploads.service.MOST_PARTS", 3)
    with pytest.raises(InvalidRequest) as refused_field:
        await process.uploads.add_part(TENANT, upload, form_of("", file_field="data", colour="red"), sight(process))
    assert refused_field.value.param == "colour"
    assert (await complete(process, upload, [again])).status == "completed"


async def test_whoever_is_killed_while_completing_leaves_an_upload_that_can_be_completed() -> None:
    for writes in range(100):
        stored, root = Stored(), MemoryRoot()
        dying, fresh = MemoryProcess(stored, root), MemoryProcess(stored, root)
        upload = await created(dying, 6, expires_after={"anchor": "created_at", "seconds": DAY})
        parts = [await part(dying, upload, text) for text in ("abc", "def")]
        dying.fuse.writes_left = writes
        try:
            await complete(dying, upload, parts)
        except Killed:
            done = await complete(fresh, upload, parts)
            assert done.file is not None
            assert done.file.expires_at == done.file.created_at + DAY
            assert await files(fresh) == [done.file.id]
            assert await content(fresh, done.file.id) == b"abcdef"
            await fresh.files.delete(TENANT, done.file.id, fresh.stores.detach_file)
            await fresh.end(TENANT, upload)
            assert [path for path in await left(fresh) if not path.startswith("due")] == []
        else:
            assert writes > 3
            return
    raise AssertionError("it was never done")


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Has the retriever think that it is later."""
    import time

    real: Callable[[], float] = time.time
    for module in ("files.service", "uploads.service", "jobs.due"):
        monkeypatch.setattr(f"cloister_retriever.{module}.time", _Clock(lambda: real() + seconds))


class _Clock:
    def __init__(self, now: Callable[[], float]) -> None:
        self.time = now
        self.time_ns = lambda: int(now() * 10**9)


async def test_an_upload_expires_after_an_hour_and_leaves_nothing(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, completed = await created(process, 3), await created(process, 3)
    parts = [await part(process, upload, "abc")]
    done = await complete(process, completed, [await part(process, completed, "def")])
    assert done.file is not None
    later(monkeypatch, 3601)
    with pytest.raises(InvalidRequest, match="expired"):
        await complete(process, upload, parts)
    with pytest.raises(InvalidRequest, match="expired"):
        await part(process, upload, "abc")
    later(monkeypatch, 3600 + 660)
    await process.due.sweep(process.end)
    with pytest.raises(NotFound):
        await complete(process, upload, parts)
    assert await content(process, done.file.id) == b"def"
    await process.files.delete(TENANT, done.file.id, process.stores.detach_file)
    assert await left(process) == []


async def test_a_file_is_gone_when_it_expires_and_leaves_nothing(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = await process.upload("abc", **fields)
    stays = await process.upload("def")
    assert file.wire().expires_at == file.created_at + 3600
    assert await process.due.sweep(process.end) == 60
    assert await files(process) == [stays.id, file.id]
    later(monkeypatch, 3590)
    assert 0 < await process.due.sweep(process.end) <= 11
    later(monkeypatch, 3601)
    assert await files(process) == [stays.id]
    for act in (process.files.get, process.files.describe):
        with pytest.raises(NotFound):
            await act(TENANT, file.id)
    await process.due.sweep(process.end)
    assert await process.objects.list("due") == []
    await process.files.delete(TENANT, stays.id, process.stores.detach_file)
    assert await left(process) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 5000}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"}, "expires_after.seconds"),
        ({"expires_after[colour]": "red"}, "expires_after[colour]"),
        ({"expires_after": "3600"}, "expires_after"),
    ],
)
async def test_a_wrong_expiry_is_named_and_leaves_nothing(
    process: MemoryProcess, fields: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await process.upload("abc", **fields)
    assert refused.value.param == param
    assert await left(process) == []
