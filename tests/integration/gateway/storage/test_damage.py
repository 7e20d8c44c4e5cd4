"""Whatever single thing of the stored state is taken away, cut, or replaced: right data, or an error that says so.

Never other data, never a reader that waits for ever, never a bare "server error".
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
from cloister_common.testing.retriever_answers import found
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from structlog.testing import capture_logs

from tests.integration.gateway.conftest import Installation
from tests.support.gateway import GatewayFixture
from tests.support.sockets import opened, receive, send
from tests.support.waiting import wait_until

SECONDS = 10
GARBAGE = b"\xff\xfe not what was written"
OK_OR_SAID = {None, "not_found", "stored_data_damaged", "previous_response_not_found", "conversation_locked"}


class Scene(NamedTuple):
    """A finished response with a search, in a conversation or alone, and the gateway that tells of it."""

    http: httpx.Client
    app: Any
    redis: Any
    response: str
    conversation: str | None

    @property
    def record(self) -> str:
        return f"resp:{{{self.response}}}"

    def reads(self) -> dict[str, Callable[[], Any]]:
        """Every read of it, each giving what is there, or an error's code."""
        path = f"/v1/responses/{self.response}"
        reads = {
            "response": lambda: self.get(f"{path}?include=file_search_call.results"),
            "input": lambda: self.get(f"{path}/input_items"),
            "cancel": lambda: _told(self.http.post(f"{path}/cancel")),
            "stream": lambda: self.stream(f"{path}?stream=true"),
            "resumed": lambda: self.stream(f"{path}?stream=true&starting_after=1"),
        }
        if self.conversation is not None:
            there = f"/v1/conversations/{self.conversation}"
            reads |= {
                "conversation": lambda: self.get(there),
                "items": lambda: self.get(f"{there}/items?include=file_search_call.results"),
                "one item": lambda: self.get(f"{there}/items/msg_unknown"),
            }
        return reads

    def get(self, path: str) -> Any:
        return _told(self.http.get(path))

    def stream(self, path: str) -> Any:
        """The events, the last of which ends the run or says what is wrong; or an error's code."""
        answer = self.http.get(path)
        if answer.status_code != 200:
            return _told(answer)
        return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def _told(answer: httpx.Response) -> Any:
    body = answer.json()
    if answer.status_code == 200:
        return body
    assert set(body) == {"error"}, body
    assert body["error"]["code"] in OK_OR_SAID, (answer.request.url, answer.status_code, body)
    assert body["error"]["message"]
    return body["error"]["code"]


@pytest.fixture(params=["in a conversation", "alone"])
def scene(request: Any, gateway: GatewayFixture, installation: Installation, search: Any) -> Iterator[Scene]:
    search.planted = {"vs_1": [found("a passage")]}
    app = create_app(gateway.settings)
    with (
        # (Drawing hundreds of tracebacks for a terminal would take minutes.)
        capture_logs(),
        served(app) as url,
        httpx.Client(base_url=url, headers=dict(gateway.headers()), timeout=SECONDS) as http,
        installation.redis.client() as redis,
    ):
        conversation = None
        if request.param == "in a conversation":
            asked = {"metadata": {"a": "b"}, "items": [{"role": "user", "content": text} for text in ("x", "y", "z")]}
            conversation = http.post("/v1/conversations", json=asked).json()["id"]
            last = http.get(f"/v1/conversations/{conversation}/items?limit=1").json()["data"][0]["id"]
            http.delete(f"/v1/conversations/{conversation}/items/{last}").raise_for_status()
        tools = [{"type": "file_search", "vector_store_ids": ["vs_1"]}]
        body = {"model": "fake", "input": "hi", "tools": tools}
        if conversation is not None:
            body["conversation"] = conversation
        made = http.post("/v1/responses", json=body).json()
        assert made["status"] == "completed", made
        yield Scene(http, app, redis, made["id"], conversation)


def alterations(redis: Any, key: bytes) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every single thing that can be done to a key, by what it is."""
    kind = redis.type(key)
    yield "gone", partial(redis.delete, key)
    yield "of another type", partial(_replace, redis, key)
    if kind == b"hash":
        fields = redis.hgetall(key)
        for field, value in fields.items():
            yield f"{field!r} gone", partial(redis.hdel, key, field)
            for how, other in _others(value):
                yield f"{field!r} {how}", partial(redis.hset, key, field, other)
            sealed = [other for name, other in fields.items() if name != field and other.startswith(b"CLO1")]
            if sealed and value.startswith(b"CLO1"):
                yield f"{field!r} swapped", partial(redis.hset, key, field, sealed[0])
    elif kind == b"string":
        for how, other in _others(redis.get(key)):
            yield how, partial(redis.set, key, other)
    elif kind == b"stream":
        entries = redis.xrange(key)
        for place, (entry, written) in enumerate(entries):
            yield f"entry {place} gone", partial(redis.xdel, key, entry)
            for field in written:
                rest = {name: value for name, value in written.items() if name != field}
                yield f"entry {place} without {field!r}", partial(_rewrite, redis, key, entries, place, rest)
                changed = {**written, field: GARBAGE}
                yield f"entry {place} other {field!r}", partial(_rewrite, redis, key, entries, place, changed)
        yield "one more", partial(redis.xadd, key, entries[0][1])
    elif kind == b"set":
        yield "other", partial(redis.sadd, key, GARBAGE)


def _others(value: bytes) -> list[tuple[str, bytes]]:
    return [("cut", value[: len(value) // 2]), ("empty", b""), ("other", GARBAGE)]


def _replace(redis: Any, key: bytes) -> None:
    redis.delete(key)
    redis.rpush(key, "x")


def _rewrite(redis: Any, key: bytes, entries: list[Any], place: int, fields: dict[Any, Any]) -> None:
    redis.delete(key)
    for number, (entry, written) in enumerate(entries):
        redis.xadd(key, fields if number == place else written, id=entry)


def _keys(scene: Scene) -> list[bytes]:
    names = [scene.response, *([scene.conversation] if scene.conversation else [])]
    return sorted(key for name in names for key in scene.redis.keys(f"*{name}*"))


@contextlib.contextmanager
def altered(scene: Scene, key: bytes, alter: Callable[[], Any]) -> Iterator[None]:
    """The key altered, for as long as the block runs. (Keys that were opened before are read anew.)"""
    kept = scene.redis.dump(key)
    alter()
    scene.app.state.context.keyring.forget_all()
    try:
        yield
    finally:
        scene.redis.restore(key, 0, kept, replace=True)
        scene.app.state.context.keyring.forget_all()


def check(what: str, right: Any, read: Callable[[], Any]) -> None:
    found = read()
    if found == right or isinstance(found, str):
        return
    assert isinstance(found, list), (what, found)
    # A stream: what came is right, as far as it goes, and then its reader is told.
    *events, last = found
    if last["type"] == "error":
        assert last["code"] in OK_OR_SAID - {None}, (what, last)
        assert events == right[: len(events)], what
    else:
        # Where nothing is left of the stream, its last event is.
        assert (events, last["response"]) == ([], right[-1]["response"]), what


def test_any_damage_to_a_stored_response_is_told_and_shows_nothing_else(scene: Scene) -> None:
    reads = scene.reads()
    right = {name: read() for name, read in reads.items()}
    looked = 0
    for key in _keys(scene):
        for how, alter in alterations(scene.redis, key):
            with altered(scene, key, alter):
                for name, read in reads.items():
                    check(f"{key!r} {how}: {name}", right[name], read)
            looked += 1
    assert looked > 50
    assert {name: read() for name, read in reads.items()} == right


@pytest.mark.parametrize("end", [-1, 0, 1])
def test_a_stream_with_a_hole_ends_with_an_error_that_names_it(
    end: int, scene: Scene, gateway: GatewayFixture, installation: Installation
) -> None:
    key = f"{scene.record}:events".encode()
    entry = scene.redis.xrange(key)[end][0]
    with altered(scene, key, lambda: scene.redis.xdel(key, entry)):
        events = scene.stream(f"/v1/responses/{scene.response}?stream=true")
        assert (events[-1]["type"], events[-1]["code"]) == ("error", "stored_data_damaged")
        assert scene.response in events[-1]["message"]
        with opened(installation.urls[0], gateway) as socket:
            send(socket, "response.subscribe", response_id=scene.response)
            told = receive(socket)
            assert (told["type"], told["error"]["code"]) == ("error", "stored_data_damaged")
            assert scene.response in told["error"]["message"]
        # The finished response is whole all the same, and the next turn knows it.
        assert scene.get(f"/v1/responses/{scene.response}")["status"] == "completed"
        following = {"model": "fake", "input": "next", "previous_response_id": scene.response}
        assert scene.http.post("/v1/responses", json=following).json()["status"] == "completed"


def test_a_reader_of_a_running_response_learns_of_the_hole_too(
    gateway: GatewayFixture, installation: Installation, llm: Any, client: Any
) -> None:
    llm.hold_after = 2
    created = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: client.responses.retrieve(created.id).output_text == "Hello,")
    key = f"resp:{{{created.id}}}:events"
    with opened(installation.urls[1], gateway) as socket, installation.redis.client() as redis:
        send(socket, "response.subscribe", response_id=created.id)
        events = [receive(socket)]
        while not events[-1].get("delta"):
            events.append(receive(socket))
        wait_until(lambda: redis.pubsub_numsub(f"run:{created.id}")[0][1] == 1)
        # What is written next is taken away before the reader elsewhere looks: its gateway hears of it, and reads on.
        last = redis.xrevrange(key, count=1)[0][0]
        number = int(last.split(b"-")[0])
        redis.xadd(key, {"n": 1, "d": b"garbage", "f": 0}, id=f"{number + 50}-0")
        redis.publish(f"run:{created.id}", b"")
        while events[-1]["type"] != "error":
            events.append(receive(socket))
    llm.release()
    assert events[-1]["error"]["code"] == "stored_data_damaged"


@pytest.mark.parametrize("scene", ["in a conversation"], indirect=True)
def test_damage_of_one_conversation_leaves_others_and_its_deletion_alone(
    scene: Scene, client: Any, installation: Installation
) -> None:
    other = client.conversations.create(items=[{"role": "user", "content": "whole"}])
    key = f"conv:{{{scene.conversation}}}"
    scene.redis.hset(key, "head", GARBAGE)
    answer = scene.http.get(f"/v1/conversations/{scene.conversation}/items")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "stored_data_damaged")
    assert scene.conversation in answer.json()["error"]["message"]
    turn = {"model": "fake", "input": "x", "conversation": scene.conversation}
    refused = scene.http.post("/v1/responses", json=turn).json()
    assert refused["error"]["code"] == "stored_data_damaged"
    assert len(list(client.conversations.items.list(other.id))) == 1
    assert client.responses.create(model="fake", input="x", conversation=other.id).status == "completed"
    scene.redis.delete(f"{key}:responses")
    scene.redis.set(f"{key}:responses", "x")
    assert scene.http.delete(f"/v1/conversations/{scene.conversation}").json()["deleted"]
    assert not scene.redis.exists(key)
