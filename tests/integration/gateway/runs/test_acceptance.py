"""A turn is accepted in one write: it stands as a whole or not at all, and its claim belongs to one of many."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_common.vault import Keyring
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.conversations.store import ConversationStore
from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs import keeper
from cloister_gateway.runs.acceptance import (
    Acceptance,
    Claim,
    ClaimedError,
    Log,
    MovedOnError,
    NewTurn,
    UnreservedError,
)
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.inputs import InputItems
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.records import BODY, REQUEST, TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import ItemLog, KeyedObject, LogGoneError, LogLockedError, record_key
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.keys import RedisKeyStore
from cloister_gateway.storage.layout import new_response_id
from cloister_gateway.storage.lines import Lines
from cloister_gateway.streams.events import EventStream
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.gateway.conftest import Installation, MakeKeyed, item, sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

Make = Callable[..., Awaitable[NewTurn]]


@pytest.fixture
def make(redis: Redis, make_log: MakeKeyed) -> Make:
    """Makes turns in a conversation of their own, in one that there is, or in none."""

    async def make(
        conversation: KeyedObject | None = None, *, alone: bool = False, claim: str | None = None
    ) -> NewTurn:
        log = None
        if not alone:
            keyed = conversation or await make_log()
            head: Any = await redis.hget(record_key("conv", keyed.id), "head")
            log = Log(keyed, head)
        beside = None if log is None else record_key("conv", log.keyed.id)
        response_id = new_response_id(beside)
        header = Header(response_id, "proj_a", "" if log is None else log.keyed.id, True, False, False)
        body = {"id": response_id, "object": "response", "status": "in_progress", "output": []}
        claimed = None if claim is None else Claim(claim, new_id("claim_").encode(), b"", 60)
        return NewTurn(header, body, TurnRequest(model="fake", input=[item("question")]), log, claimed)

    return make


@pytest.fixture
def acceptance(redis: Redis, keyring: Keyring, items: ItemLog) -> Acceptance:
    return Acceptance(redis, keyring, items, Leases(redis))


async def traces(redis: Redis, turn: NewTurn) -> set[str]:
    """What there is in Redis of a turn, but for the list of runs."""
    keys: Any = await redis.keys(f"*{turn.header.id}*")
    found = {key.decode().replace(turn.header.id, "*") for key in keys}
    if turn.log is not None:
        place = record_key("conv", turn.log.keyed.id)
        holder: Any = await redis.hget(place, "run")
        found |= {"held"} if holder is not None else set()
        found |= {"asked"} if await redis.xlen(f"{place}:items") else set()
        members: Any = await redis.smembers(f"{place}:responses")
        found |= {"indexed"} if members else set()
    if turn.claim is not None and await redis.exists(turn.claim.key):
        found.add("claimed")
    return found


RECORD = {"resp:{*}", "resp:{*}:lease", "resp:{*}:events"}


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["in a conversation", "alone"])
async def test_a_gateway_that_dies_while_it_accepts_leaves_all_of_the_turn_or_nothing(
    where: str, answered: bool, make: Make, acceptance: Acceptance, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await make(alone=where == "alone", claim=f"idem:{new_id('')}")
    pipelines: Any = type(redis.pipeline())
    execute = pipelines.execute

    async def dying(self: Any, raise_on_error: bool = True) -> Any:
        if answered:
            await execute(self, raise_on_error)
        raise RedisConnectionError("dying")

    with monkeypatch.context() as death:
        death.setattr(pipelines, "execute", dying)
        with pytest.raises(RedisConnectionError):
            await acceptance.accept(turn)
    whole = RECORD | {"claimed"} | ({"vault:resp:*"} if where == "alone" else {"held", "asked", "indexed"})
    assert await traces(redis, turn) == (whole if answered else set())
    # Whoever looks for runs that lost their gateway finds it.
    assert (await redis.zscore("runs:active", turn.header.id) is not None) == answered


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("where", ["in a conversation", "alone"])
async def test_a_turn_without_the_reservation_it_needs_leaves_nothing(
    where: str, claimed: bool, make: Make, acceptance: Acceptance, redis: Redis
) -> None:
    turn = await make(alone=where == "alone", claim=f"idem:{new_id('')}" if claimed else None)
    turn = turn._replace(reserved_at=new_id("held_"))
    with pytest.raises(UnreservedError):
        await acceptance.accept(turn)
    assert await traces(redis, turn) == set()
    assert await redis.zscore("runs:active", turn.header.id) is None
    await cast("Any", redis.hset(str(turn.reserved_at), turn.header.id, "something"))
    await acceptance.accept(turn)
    assert await traces(redis, turn) >= RECORD
    assert ("claimed" in await traces(redis, turn)) == claimed


async def test_what_was_accepted_opens_for_others_and_has_its_first_events(
    make: Make, acceptance: Acceptance, redis: Redis, items: ItemLog
) -> None:
    turn = await make()
    accepted = await acceptance.accept(turn)
    assert turn.log is not None
    keyed = KeyedObject("resp", turn.header.id, turn.log.keyed.key)
    store = ResponseStore(redis, acceptance._keyring)  # the same keys
    assert await store.header(keyed.id) == turn.header
    assert (await store.read(keyed, REQUEST)) == turn.request
    assert (await store.read(keyed, BODY) or {})["status"] == "in_progress"
    groups = await EventStream(redis).read(keyed)
    assert [event for group in groups for event in group.events] == accepted.events
    assert [one.body for one in await ItemLog(redis).load(turn.log.keyed)] == turn.request.input


async def test_the_key_of_a_turn_alone_is_stored_with_it(
    make: Make, redis: Redis, items: ItemLog, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_store", RedisKeyStore(redis))
    turn = await make(alone=True)
    accepted = await Acceptance(redis, keyring, items, Leases(redis)).accept(turn)
    keyring.forget_all()
    found = await keyring.get("proj_a", "resp", turn.header.id)
    assert found is not None
    assert found.subkey("stream") == accepted.keyed.key.subkey("stream")
    assert f"resp:{turn.header.id}" in [name async for name in keyring.names("resp")]


async def test_of_many_gateways_with_one_claim_one_accepts_and_the_others_learn_which(
    make: Make, redis: Redis, redis_settings: RedisSettings, keyring: Keyring, make_log: MakeKeyed
) -> None:
    conversation, name = await make_log(), f"idem:{new_id('')}"
    clients = [command_client(redis_settings) for _ in range(2)]
    gateways = [Acceptance(client, keyring, ItemLog(client), Leases(client)) for client in clients]
    turns = [await make(conversation, claim=name) for _ in range(8)]
    results = await asyncio.gather(
        *(gateways[place % 2].accept(turn) for place, turn in enumerate(turns)), return_exceptions=True
    )
    (won,) = [turn for turn, result in zip(turns, results, strict=True) if not isinstance(result, BaseException)]
    assert won.claim is not None
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in lost] == [ClaimedError] * 7
    assert {error.args[0] for error in lost} == {won.claim.value}
    assert [one.body for one in await ItemLog(redis).load(conversation)] == won.request.input
    for turn in turns:
        assert bool(await redis.exists(record_key("resp", turn.header.id))) == (turn is won)
    for client in clients:
        await client.aclose()


async def test_a_claim_of_which_nothing_is_left_is_replaced_by_who_names_it_only(
    make: Make, acceptance: Acceptance, redis: Redis
) -> None:
    turn = await make(alone=True, claim=f"idem:{new_id('')}")
    assert turn.claim is not None
    await redis.set(turn.claim.key, b"old")
    for replaces in (b"", b"another"):
        with pytest.raises(ClaimedError):
            await acceptance.accept(turn._replace(claim=turn.claim._replace(replaces=replaces)))
        assert await traces(redis, turn) == {"claimed"}
    await acceptance.accept(turn._replace(claim=turn.claim._replace(replaces=b"old")))
    standing: Any = await redis.get(turn.claim.key)
    assert standing == turn.claim.value


async def test_a_turn_is_refused_as_a_whole_where_its_conversation_is_not_as_it_was(
    make: Make, acceptance: Acceptance, redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    conversation = await make_log()
    stale = await make(conversation)
    await items.append(conversation, [item("first")])
    with pytest.raises(MovedOnError):
        await acceptance.accept(stale)
    running = await make(conversation)
    await acceptance.accept(running)
    late = await make(conversation)
    with pytest.raises(LogLockedError) as locked:
        await acceptance.accept(late)
    assert locked.value.args == (running.header.id,)
    await items.destroy("conv", conversation.id)
    with pytest.raises(LogGoneError):
        await acceptance.accept(late)
    for refused in (stale, late):
        assert await redis.keys(f"*{refused.header.id}*") == []
        assert await redis.zscore("runs:active", refused.header.id) is None


def test_a_turn_asked_for_at_two_gateways_at_once_is_one_turn(client: Any, other: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    asked = {"model": "fake", "input": "once", "extra_headers": {"idempotency-key": new_id("key_")}}
    made: list[str] = []
    threads = [
        threading.Thread(
            target=lambda at=at: made.append(at.responses.create(**asked, conversation=conversation.id).id)
        )
        for at in (client, other) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(llm.chats()) == 1
    assert len(list(client.conversations.items.list(conversation.id))) == 2


_PLENTY = {"level": "project", "per": "day", "tokens": 10**9}


@pytest.mark.parametrize(
    ("sections", "reservations"),
    [({}, 0), ({"limits": {"rules": {"plenty": _PLENTY}}, "history": {"policy": "budget", "tokens": 1000}}, 1)],
    ids=["as it comes", "with limits and a history policy"],
)
def test_a_turn_takes_few_round_trips_and_one_write_before_the_model_is_asked(
    sections: dict[str, Any],
    reservations: int,
    make_gateway: Callable[..., GatewayFixture],
    llm: FakeLlm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh_gateway = make_gateway(**sections)
    sent: list[bytes] = []
    through = Lines.exchange

    async def counted(self: Any, commands: Any) -> list[Any]:
        sent.append(
            b" ".join(part if isinstance(part, bytes) else str(part).encode() for part in itertools.chain(*commands))
        )
        return await through(self, commands)

    monkeypatch.setattr(Lines, "exchange", counted)
    # What is renewed as the time goes by, leases and reservations, is not what is counted here.
    monkeypatch.setattr(keeper, "RENEW_SECONDS", 3600.0)
    monkeypatch.setattr("cloister_gateway.limits.service._RENEW_SECONDS", 3600.0)
    with fresh_gateway.serve() as url:
        client = sdk(url, fresh_gateway)
        conversation = client.conversations.create().id
        client.responses.create(model="fake", input="one", conversation=conversation)
        llm.hold_after = 0
        sent.clear()
        created = client.responses.create(
            model="fake",
            input="two",
            conversation=conversation,
            background=True,
            extra_headers={"idempotency-key": "k"},
        )
        wait_until(lambda: llm.running == 1)
        reserved = [raw for raw in sent if b"limits:" in raw and created.id.encode() in raw]
        assert len(reserved) == reservations
        of_the_turn = [raw for raw in sent if conversation.encode() in raw or b"idem:" in raw]
        # What it meets, with what its conversation has; and all of it. Four are a promise.
        assert len(of_the_turn) + len(reserved) <= 4
        assert len(of_the_turn) <= 3
        assert len([raw for raw in of_the_turn if b"EVAL" in raw or b"HSET" in raw]) == 1
        sent.clear()
        llm.release()
        wait_until(lambda: client.responses.retrieve(created.id).status == "completed")
        writes = [raw for raw in sent if created.id.encode() in raw and (b"EVAL" in raw or b"ZREM" in raw)]
        # Its first events, those that came meanwhile, its end, and the list that it goes to.
        assert len(writes) <= 4


def test_a_run_ends_in_its_conversation_whatever_was_deleted_from_it_meanwhile(
    client: Any, other: Any, llm: FakeLlm
) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": text} for text in ("one", "two")])
    first = next(iter(client.conversations.items.list(conversation.id, order="asc")))
    llm.hold_after = 1
    created = client.responses.create(model="fake", input="three", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    other.conversations.items.delete(first.id, conversation_id=conversation.id)
    llm.release()
    wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the end")
    texts = [one.content[0].text for one in other.conversations.items.list(conversation.id, order="asc")]
    assert texts == ["two", "three", "".join(llm.answer)]


def test_a_run_whose_conversation_is_deleted_meanwhile_ends_and_leaves_nothing(
    client: Any, other: Any, llm: FakeLlm, installation: Installation
) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    other.conversations.delete(conversation.id)
    llm.release()
    wait_until(lambda: llm.running == 0)
    with installation.redis.client() as redis:
        wait_until(lambda: redis.zscore("runs:active", created.id) is None, what="the end of the run")
        # (The lease, which may lie at another node than the list of runs, goes in a write of its own.)
        wait_until(lambda: not redis.keys(f"*{created.id}*"), what="the lease is given back")
        assert redis.keys(f"*{conversation.id}*") == []


@pytest.mark.parametrize("when", ["SMEMBERS", "DEL"])
async def test_a_turn_that_is_taken_while_its_conversation_is_deleted_leaves_nothing(
    when: str, make: Make, acceptance: Acceptance, redis: Redis, make_log: MakeKeyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await make_log()
    await redis.hset(record_key("conv", conversation.id), "tenant", "proj_a")
    turn = await make(conversation)
    store = ResponseStore(redis, acceptance._keyring)  # the same keys
    runs = SimpleNamespace(remove_those_of=store.destroy_those_of)
    inputs = cast("InputItems", None)  # nothing is put in
    service = ConversationService(
        ConversationStore(redis), ItemLog(redis), acceptance._keyring, cast("Engine", runs), inputs
    )
    exchange = Lines.exchange
    taken: list[str] = []

    async def beside(self: Any, commands: Any) -> list[Any]:
        if commands[0][0] == "DEL" == when and not taken:
            taken.append(when)
            await acceptance.accept(turn)
        replies = await exchange(self, commands)
        if commands[0][0] == "SMEMBERS" == when and not taken:
            taken.append(when)
            await acceptance.accept(turn)
        return replies

    monkeypatch.setattr(Lines, "exchange", beside)
    principal = cast("Principal", SimpleNamespace(tenant="proj_a"))
    await service.delete(principal, conversation.id)
    assert taken
    assert await redis.keys(f"*{conversation.id}*") == []
    # (Its lease runs out by itself, and whoever finds it on the list of runs takes it off.)
    assert await traces(redis, turn) <= {"resp:{*}:lease"}
