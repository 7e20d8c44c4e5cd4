"""What is sent for a batch may arrive late: once its files are chosen, nothing that they have changes any more."""

from typing import Any

import pytest
from cloister_common.vault import Keyring
from cloister_gateway.batches.opening import BATCHES
from cloister_gateway.batches.records import BatchCaller, BatchRecord, BatchState, LineResult
from cloister_gateway.batches.store import BatchStore, DeposedError
from cloister_gateway.runs.lease import Leases
from redis.asyncio import Redis

NOBODY = BatchCaller(subject="key_a", kind="api_key", key_id="key_a", expires_at=None, scopes=(), groups=(), user=None)
RECORD = BatchRecord(
    endpoint="/v1/embeddings",
    input_file_id="file-a",
    input_bytes=1,
    completion_window="24h",
    created_at=0,
    expires_at=1,
    metadata=None,
    file_seconds=None,
    caller=NOBODY,
)
CLOSING = BatchState(status="finalizing", total=3, ending="cancelled")
ANSWERED = LineResult(True, b"line", (1, 0, 1, 0))


async def test_no_result_is_taken_or_moved_once_the_files_are_chosen(redis: Redis, keyring: Keyring) -> None:
    store, leases = BatchStore(redis, keyring), Leases(redis, of=BATCHES)
    keyed = await store.create("proj_a", "batch_late", RECORD)
    assert await leases.take(keyed.id)

    async def stands() -> list[Any]:
        names: Any = await redis.keys(f"batch:{{{keyed.id}}}*")
        return [(name, await redis.dump(name)) for name in sorted(names) if not name.endswith(b":lease")]

    await store.add_result(keyed, leases.holder, 1, ANSWERED)
    seen = await store.read(keyed)
    assert seen is not None
    # One comes between the look at how many there are and the choice of files by that.
    await store.add_result(keyed, leases.holder, 2, ANSWERED)
    before = await stands()
    assert not await store.write(keyed, leases.holder, CLOSING, (seen.completed, seen.failed))
    assert await stands() == before
    assert await store.write(keyed, leases.holder, CLOSING, (2, 0))
    assert await store.write(keyed, leases.holder, CLOSING, (2, 0)), "its answer may have been lost"
    before = await stands()
    with pytest.raises(DeposedError):
        await store.add_result(keyed, leases.holder, 3, ANSWERED)
    with pytest.raises(DeposedError):
        await store.begin_part(keyed, leases.holder, "part_late")
    with pytest.raises(DeposedError):
        await store.move(keyed, leases.holder, "part_late", b"noted", [1, 2], 10)
    # (Written again the state is sealed anew.)
    assert await stands() == before
    assert await store.here(keyed.id) == {1, 2}
