"""A gateway may die at any of its writes: whoever takes the run over ends it once, and the same for everyone."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from cloister_common.errors import UpstreamFailed
from cloister_common.ids import new_id
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.records import BODY, PROMPT, RESULTS, Outcome, PreparedPrompt, TokenCount, TurnRequest
from cloister_gateway.runs.run import Run, RunParts
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.settings import RedisSettings, ResponsesSettings
from cloister_gateway.storage import RESPONSE, ItemLog, KeyedObject, LogLockedError, record_key
from cloister_gateway.storage.client import command_client
from cloister_gateway.streams.commits import Commits
from cloister_gateway.streams.events import EventStream
from cloister_gateway.streams.feeds import Feed
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.gateway.conftest import MakeKeyed, item

FOUND = [{"file_id": "file-1", "text": "one"}]
ANSWER = ["one", " two", " three", " four"]
MOST_WRITES = 60
SECONDS = 15.0


class Words:
    """The work of a run without a model: a search, then the words that readers have not seen."""

    def __init__(self, end: str, store: ResponseStore) -> None:
        self.end = end
        self.store = store
        self.cancel: Callable[[], None] = lambda: None

    async def perform(self, keyed: KeyedObject, _request: TurnRequest, transcript: Transcript) -> Outcome:
        prepared = PreparedPrompt(messages=[], passages=[], dropped=0, results=FOUND)
        transcript.results = (await self.store.write_once(keyed, PROMPT, prepared)).results
        if transcript.item_index("file_search_call") is None:
            transcript.close_search(transcript.open_search(new_id("fs_"), ["q"]), results=None, coverage="found")
        index = transcript.item_index("message")
        if index is None:
            index = transcript.open_message(new_id("msg_"))
        so_far = transcript.text(index)
        transcript.tokens = TokenCount(prompt=3, output=len(ANSWER))
        for place, word in enumerate(ANSWER):
            if len("".join(ANSWER[: place + 1])) > len(so_far):
                transcript.delta(index, word)
                await asyncio.sleep(0.002)
        if self.end == "failed":
            raise UpstreamFailed("The model failed.")
        if self.end == "cancelled":
            self.cancel()
            await asyncio.sleep(0)
        return Outcome(status="incomplete" if self.end == "incomplete" else "completed")


class Dying:
    """Lets a client's commands through until the process "dies" at one of them, before or after Redis took it."""

    def __init__(self, redis: Redis, *, at: int, answered: bool) -> None:
        self.left = at
        self.dead = False
        self.answered = answered
        self._execute: Callable[..., Awaitable[Any]] = redis.execute_command
        redis.execute_command = self.execute  # type: ignore[method-assign]  # every command goes through it

    async def execute(self, *args: Any, **options: Any) -> Any:
        self.left -= 1
        self.dead = self.dead or self.left <= 0
        if self.left < 0:
            raise RedisConnectionError("dead")
        if self.left > 0:
            return await self._execute(*args, **options)
        if self.answered:
            await self._execute(*args, **options)
        raise RedisConnectionError("dying")


@dataclasses.dataclass
class Scene:
    """A response in a conversation, and the gateways that try to make it."""

    conversation: KeyedObject
    keyed: KeyedObject
    question: dict[str, Any]
    end: str
    keyring: Keyring
    connect: Callable[[], Redis]

    async def gateway(self, *, dies_at: int | None = None, answered: bool = False) -> bool:
        """One gateway that takes the run; says whether it came to the end."""
        redis = self.connect()
        dying = None if dies_at is None else Dying(redis, at=dies_at, answered=answered)
        stream, store = EventStream(redis), ResponseStore(redis, self.keyring)
        work = Words(self.end, store)
        supervisor = Supervisor()
        try:
            commits = Commits(stream, tick_seconds=0)
            commits.start(supervisor)
            parts = RunParts(
                stream=stream,
                commits=commits,
                leases=Leases(redis),
                store=store,
                items=ItemLog(redis),
                turn=work,  # type: ignore[arg-type]  # all that a run asks of a turn
                settings=ResponsesSettings(),
                bus=_Silence(),  # type: ignore[arg-type]  # all that a run asks of a bus
            )
            await parts.leases.take(self.keyed.id)
            feed = Feed(self.keyed)
            await feed.pull(stream)
            request, body = await store.turn(self.keyed)
            run = Run(self.keyed, self.conversation, request, body, parts, feed)
            work.cancel = run.cancel
            async with asyncio.timeout(SECONDS):
                await run.execute()
        except RedisConnectionError:
            return False
        finally:
            await supervisor.close()
            await redis.aclose()
        return dying is None or not dying.dead


class _Silence:
    async def publish(self, _channel: str, _payload: bytes) -> None: ...


MakeScene = Callable[[str], Awaitable[Scene]]


@pytest.fixture
def make_scene(
    redis: Redis, keyring: Keyring, items: ItemLog, make_log: MakeKeyed, redis_settings: RedisSettings
) -> MakeScene:
    async def make(end: str) -> Scene:
        conversation, question = await make_log(), item("question")
        response_id = new_id("resp_")
        body = {
            "id": response_id,
            "object": "response",
            "status": "in_progress",
            "output": [],
            "truncation_details": {"dropped_messages": 0},
        }
        header = Header(response_id, "proj_a", conversation.id, True, False, False)
        keyed = await ResponseStore(redis, keyring).create(
            header, body=body, request=TurnRequest(model="fake", input=[])
        )
        await items.append(conversation, [question], hold_for=response_id)

        return Scene(conversation, keyed, question, end, keyring, lambda: command_client(redis_settings))

    return make


async def check(scene: Scene, redis: Redis, items: ItemLog) -> None:
    """What readers saw, what the conversation has, and what the record says are one and the same story, told once."""
    store = ResponseStore(redis, scene.keyring)
    groups = await EventStream(redis).read(scene.keyed)
    events = [orjson.loads(event) for group in groups for event in group.events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [group.final for group in groups] == [False] * (len(groups) - 1) + [True]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    for kind in ("response.created", "response.output_text.done", "response.file_search_call.completed"):
        assert kinds.count(kind) == 1, kind
    final = events[-1]["response"]
    assert final["status"] == scene.end
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == "".join(ANSWER)
    assert final["usage"]["output_tokens"] == len(ANSWER)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == final["output"]
    stored = [one.body for one in await items.load(scene.conversation)]
    assert stored[0] == scene.question
    call, message = final["output"]
    assert stored[1:3] == [{**call, "results": FOUND}, message]
    header = await store.header(scene.keyed.id)
    assert header is not None
    assert header.done
    assert await store.read(scene.keyed, BODY) == final
    assert await store.read(scene.keyed, RESULTS) == FOUND
    # Whoever died: a gateway finds it again, so that its stream does not stay for ever.
    listed = [await redis.zscore(name, scene.keyed.id) for name in ("runs:active", "runs:ended")]
    assert listed != [None, None]


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("end", ["completed", "incomplete", "failed", "cancelled"])
async def test_death_at_every_write_leaves_one_whole_response(
    end: str, answered: bool, make_scene: MakeScene, redis: Redis, items: ItemLog
) -> None:
    for write in range(1, MOST_WRITES):
        scene = await make_scene(end)
        survived = await scene.gateway(dies_at=write, answered=answered)
        await redis.delete(f"{record_key(RESPONSE, scene.keyed.id)}:lease")
        header = await ResponseStore(redis, scene.keyring).header(scene.keyed.id)
        assert header is not None
        if not header.done:
            # Others may write once the log is free, before anyone takes the run over.
            freed = not await redis.hexists(record_key("conv", scene.conversation.id), "run")
            if freed:
                await items.append(scene.conversation, [item("next question")])
            assert await scene.gateway()
        await check(scene, redis, items)
        try:
            await items.append(scene.conversation, [item("afterwards")])
        except LogLockedError:
            pytest.fail(f"the conversation stayed locked after a death at write {write}")
        if survived:
            assert write > 8
            return
    pytest.fail("the run never came to its end")


async def test_two_deaths_in_a_row_change_nothing(make_scene: MakeScene, redis: Redis, items: ItemLog) -> None:
    for first in range(4, 16, 3):
        for second in range(2, 16, 3):
            scene = await make_scene("completed")
            for death in (first, second):
                await scene.gateway(dies_at=death, answered=True)
                await redis.delete(f"{record_key(RESPONSE, scene.keyed.id)}:lease")
            header = await ResponseStore(redis, scene.keyring).header(scene.keyed.id)
            assert header is not None
            if not header.done:
                assert await scene.gateway()
            await check(scene, redis, items)


async def test_a_slow_owner_that_was_deposed_stops_and_changes_nothing(
    make_scene: MakeScene, redis: Redis, items: ItemLog
) -> None:
    scene = await make_scene("completed")
    first = asyncio.create_task(scene.gateway())
    stream = EventStream(redis)
    while not await stream.read(scene.keyed):
        await asyncio.sleep(0)
    await redis.delete(f"{record_key(RESPONSE, scene.keyed.id)}:lease")
    await asyncio.gather(first, scene.gateway())
    header = await ResponseStore(redis, scene.keyring).header(scene.keyed.id)
    assert header is not None
    if not header.done:
        # Each deposed the other: the next one finds the lease free again.
        await redis.delete(f"{record_key(RESPONSE, scene.keyed.id)}:lease")
        assert await scene.gateway()
    await check(scene, redis, items)
