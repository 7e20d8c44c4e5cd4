"""A chain of responses whose links are kept opened: the same history, at the cost of what is new."""

from typing import Any

import pytest
from cloister_common.errors import NotFound
from cloister_common.ids import new_id
from cloister_common.vault import Keyring
from cloister_gateway.runs.history import HistoryReader, earlier_links
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.storage import ItemLog, Opened, record_key
from redis.asyncio import Redis

LENGTH = 150


class Chain:
    """Finished responses, each behind the one before it."""

    def __init__(self, redis: Redis, store: ResponseStore) -> None:
        self.redis = redis
        self.store = store
        self.made: list[Header] = []
        self.request = TurnRequest(model="fake", input=[], earlier=[])

    async def add(self, *, status: str = "completed") -> None:
        number = len(self.made)
        asked = self.request.model_copy(update={"input": [message("user", f"question {number}")]})
        header = Header(new_id("resp_"), "proj_a", "", True, False, True)
        output = [message("assistant", f"answer {number}")] if status == "completed" else []
        await self.store.create(header, body={"status": status, "output": output}, request=asked)
        await self.redis.hset(record_key("resp", header.id), "done", "1")
        self.made.append(header)
        links = earlier_links(header.id, asked)
        self.request = TurnRequest(model="fake", input=[], previous_response_id=header.id, earlier=links)


def message(role: str, text: str) -> dict[str, Any]:
    return {"id": new_id("msg_"), "type": "message", "role": role, "content": [{"type": "output_text", "text": text}]}


def texts(length: int) -> list[str]:
    return [f"{what} {number}" for number in range(length) for what in ("question", "answer")]


@pytest.fixture
async def chain(redis: Redis, keyring: Keyring) -> Chain:
    made = Chain(redis, ResponseStore(redis, keyring))
    for _ in range(LENGTH):
        await made.add()
    return made


@pytest.fixture
def opened() -> Opened:
    return Opened(8 * 1024 * 1024)


@pytest.fixture
def history(keyring: Keyring, items: ItemLog, chain: Chain, opened: Opened) -> HistoryReader:
    return HistoryReader(chain.store, items, keyring, opened)


async def said(history: HistoryReader, request: TurnRequest) -> list[str]:
    return [one["content"] for one in (await history.before("proj_a", request)).messages]


async def commands(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_commands_processed"])


async def test_only_new_links_are_read_and_the_others_are_there(
    redis: Redis, chain: Chain, history: HistoryReader
) -> None:
    assert await said(history, chain.request) == texts(LENGTH)
    await chain.add()
    before = await commands(redis)
    assert await said(history, chain.request) == texts(LENGTH + 1)
    await history.check_links("proj_a", chain.request)
    # Two for the new link, and whether the others are there: as often as it is asked, which ours are counted with.
    assert await commands(redis) - before <= 6


async def test_forks_of_a_kept_chain_have_their_own_history(chain: Chain, history: HistoryReader) -> None:
    await said(history, chain.request)
    trunk = chain.request
    await chain.add()
    assert await said(history, chain.request) == texts(LENGTH + 1)
    chain.request = trunk
    await chain.add(status="failed")
    await chain.add()
    fork = [*texts(LENGTH), f"question {LENGTH + 2}", f"answer {LENGTH + 2}"]
    assert await said(history, chain.request) == fork
    assert await said(history, trunk) == texts(LENGTH)
    assert await said(history, chain.request) == fork


@pytest.mark.parametrize("place", [0, 75, LENGTH - 1])
async def test_a_kept_link_that_was_deleted_elsewhere_breaks_the_chain_at_once(
    place: int, redis: Redis, chain: Chain, history: HistoryReader
) -> None:
    assert len(await said(history, chain.request)) == 2 * LENGTH
    # As another gateway does, before the word of it has come.
    await redis.delete(record_key("resp", chain.made[place].id))
    for ask in (history.check_links, history.before):
        with pytest.raises(NotFound) as refused:
            await ask("proj_a", chain.request)
        assert chain.made[place].id in refused.value.message


async def test_kept_links_are_no_other_tenants(chain: Chain, history: HistoryReader) -> None:
    await said(history, chain.request)
    for ask in (history.check_links, history.before):
        with pytest.raises(NotFound):
            await ask("proj_b", chain.request)


async def test_links_leave_the_memory_with_their_keys(
    chain: Chain, history: HistoryReader, keyring: Keyring, opened: Opened
) -> None:
    await said(history, chain.request)
    assert opened.in_memory > 0
    keyring.forget_all()
    assert opened.in_memory == 0
    assert await said(history, chain.request) == texts(LENGTH)
