"""One open socket: what its client asks is done in tasks, what it watches goes out without one (`outlet`).

Nothing waits for a slow client but its own answers, and that only for a bounded time: then the socket is closed with
code 1013, and the client resumes with ``response.subscribe`` from the last number it saw. Runs belong to leases, so
they go on meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import orjson
from cloister_common.bodies import aside, parse_json
from cloister_common.doors.frame_writer import FrameWriter
from cloister_common.errors import CloisterError, Forbidden, InvalidRequest, NotFound, TooManyRequests
from cloister_common.validation import validation_error
from cloister_common.values import check_values
from pydantic import ValidationError
from starlette.types import Receive
from starlette.websockets import WebSocketDisconnect

from cloister_gateway.admission import Admission
from cloister_gateway.bus.connection import Bus
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import SocketCreate
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.sockets.outlet import Outlet
from cloister_gateway.sockets.schemas import (
    CLIENT_EVENT,
    Cancel,
    ClientEvent,
    SubscribeConversation,
    SubscribeResponse,
)
from cloister_gateway.sockets.waiting import WaitingBytes
from cloister_gateway.storage import KeyedObject
from cloister_gateway.storage.layout import conversation_channel
from cloister_gateway.wire.faults import fault_of

__all__ = ["Session", "SessionParts", "Shutdown"]

_MOST_WAITING = 16
_MOST_FOLLOWED = 64
_MOST_AT_ONCE = 256
"""More than all that may be followed. It bounds what a client asks for again and again without waiting."""
_MOST_UNSTORED = 1024
"""Responses with ``store: false`` that it may go on from, the latest: older ones have gone with their streams."""
_TRY_AGAIN_LATER = 1013


class Shutdown(NamedTuple):
    """How the server ends a session.

    Attributes:
        code: The WebSocket close code.
        reason: A short sentence for the client.
    """

    code: int
    reason: str


class SessionParts(NamedTuple):
    """What every session of this gateway uses.

    Attributes:
        responses: Makes what it asks for.
        conversations: Finds those it follows.
        bus: Brings word of their runs.
        admission: Has the places for what it asks for.
        waiting: Where the turns that wait are counted.
        most_values: JSON values that one message may have.
        send_seconds: How long something may wait for a client that does not read.
    """

    responses: ResponseService
    conversations: ConversationService
    bus: Bus
    admission: Admission
    waiting: WaitingBytes
    most_values: int
    send_seconds: float


class Session:
    """One socket of one authenticated client.

    Args:
        receive: Gives what the client sends. The socket is accepted already.
        writer: Sends to it.
        principal: Who it is.
        parts: What it works with.
    """

    __slots__ = (
        "_at_once",
        "_followed",
        "_following",
        "_lanes",
        "_last",
        "_outlet",
        "_parts",
        "_patience",
        "_principal",
        "_receive",
        "_tasks",
        "_unstored",
        "_waiting",
    )

    def __init__(self, receive: Receive, writer: FrameWriter, principal: Principal, parts: SessionParts) -> None:
        self._receive = receive
        self._principal = principal
        self._parts = parts
        self._patience = asyncio.timeout(None)
        self._tasks = asyncio.TaskGroup()
        self._outlet = Outlet(writer, patience=parts.send_seconds, give_up=self._end)
        self._lanes: dict[str | None, deque[bytes]] = {}
        self._unstored: deque[str] | None = None
        self._last: str | None = None
        self._followed: set[str] = set()
        self._following = 0
        self._at_once = 0
        self._waiting = 0

    async def run(self) -> Shutdown | None:
        """Serves until the client leaves (None) or the server ends it."""
        try:
            async with self._patience, self._tasks:
                await self._read()
        except* WebSocketDisconnect:
            pass  # The usual end: the client has left.
        except* TimeoutError:
            if not self._patience.expired():
                raise
        finally:
            self._outlet.close()
            self._wait_no_longer(self._waiting)
        if not self._patience.expired():
            return None
        return Shutdown(_TRY_AGAIN_LATER, "You read too slowly. Reconnect and resume with starting_after.")

    def _end(self) -> None:
        """The client does not read: interrupts whatever the session is at."""
        self._patience.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            text = message.get("text")
            await self._take(text.encode() if text is not None else message.get("bytes") or b"")

    async def _take(self, raw: bytes) -> None:
        data: Any = None
        try:
            await check_values(raw, self._parts.most_values)
            data = parse_json(raw)
            await self._handle(await aside(len(raw), _parse, data), raw)
        except CloisterError as error:
            await self._send_error(error, _stream_id(data))

    async def _handle(self, event: ClientEvent, raw: bytes) -> None:
        if isinstance(event, SocketCreate):
            self._enqueue(event, raw)
        elif isinstance(event, SubscribeResponse):
            self._spawn(self._subscribe_response(event), event.stream_id)
        elif isinstance(event, SubscribeConversation):
            self._principal.require("conversations", param="conversation_id")
            if self._following >= _MOST_FOLLOWED:
                raise TooManyRequests(f"This connection follows {_MOST_FOLLOWED} conversations, the most it may.")
            self._spawn(self._subscribe_conversation(event), event.stream_id)
            self._following += 1
        elif isinstance(event, Cancel):
            self._spawn(self._cancel(event), None)

    def _enqueue(self, event: SocketCreate, raw: bytes) -> None:
        """One response at a time in each lane; those without a ``stream_id`` share one. Empty lanes end."""
        lane = self._lanes.get(event.stream_id)
        if lane is None:
            if len(self._lanes) >= _MOST_WAITING:
                raise TooManyRequests(f"This connection has {_MOST_WAITING} lanes at work, the most it may.")
            self._wait(len(raw))
            lane = self._lanes[event.stream_id] = deque()
            self._tasks.create_task(self._work_lane(event, len(raw), lane), name="socket-lane")
        elif len(lane) >= _MOST_WAITING:
            raise TooManyRequests("Too many responses wait on this connection. Wait for one to end.")
        else:
            self._wait(len(raw))
            lane.append(raw)

    def _wait(self, size: int) -> None:
        """A turn of this size waits: for those before it in its lane, a place, or its conversation."""
        self._parts.waiting.add(self._principal.tenant, size)
        self._waiting += size

    def _wait_no_longer(self, size: int) -> None:
        self._waiting -= size
        self._parts.waiting.remove(self._principal.tenant, size)

    async def _work_lane(self, event: SocketCreate, size: int, lane: deque[bytes]) -> None:
        stream_id = event.stream_id
        work = self._create(event, size)
        # Whoever holds an event while its response is followed holds what may be megabytes for as long.
        del event
        await self._guarded(work, stream_id)
        while lane:
            await self._guarded(self._create_waiting(lane), stream_id)
        del self._lanes[stream_id]

    async def _create_waiting(self, lane: deque[bytes]) -> None:
        raw = lane.popleft()
        size = len(raw)
        event = await aside(size, _parse, parse_json(raw))
        del raw
        assert isinstance(event, SocketCreate)
        work = self._create(event, size)
        del event
        await work

    async def _create(self, event: SocketCreate, size: int) -> None:
        try:
            async with self._parts.admission.accepting(self._principal.tenant):
                created = await self._parts.responses.create(self._principal, event, own_unstored=self._unstored or ())
        finally:
            self._wait_no_longer(size)
        self._last = created.keyed.id
        if event.store is False:
            if self._unstored is None:
                self._unstored = deque(maxlen=_MOST_UNSTORED)
            self._unstored.append(created.keyed.id)
        stream_id = event.stream_id
        del event
        await self._follow(created.keyed, -1, stream_id)

    async def _subscribe_response(self, event: SubscribeResponse) -> None:
        keyed = await self._parts.responses.find(self._principal, event.response_id, unstored=self._unstored or ())
        after = -1 if event.starting_after is None else event.starting_after
        await self._follow(keyed, after, event.stream_id)

    async def _subscribe_conversation(self, event: SubscribeConversation) -> None:
        try:
            await self._follow_conversation(event)
        finally:
            self._following -= 1

    async def _follow_conversation(self, event: SubscribeConversation) -> None:
        conversation = await self._parts.conversations.find(self._principal, event.conversation_id)
        begun: asyncio.Queue[str | None] = asyncio.Queue(maxsize=_MOST_FOLLOWED)

        def on_run(response_id: str | None) -> None:
            if not begun.full():
                begun.put_nowait(response_id)

        async with AsyncExitStack() as stack:
            subscription = await self._parts.bus.subscribe(
                conversation_channel(conversation.id, sharded=self._parts.bus.sharded),
                lambda payload: on_run(payload.decode()),
                lambda: on_run(None),
            )
            stack.push_async_callback(self._parts.bus.unsubscribe, subscription)
            on_run(None)
            while True:
                response_id = await begun.get()
                if response_id is None:
                    # The beginning, or words may have been lost: say from when on nothing is, and look for oneself.
                    subscribed = {"type": "conversation.subscribed", "conversation_id": conversation.id}
                    await self._outlet.send(orjson.dumps(subscribed), event.stream_id)
                    response_id = await self._parts.conversations.running(conversation)
                if response_id is not None:
                    await self._follow_new(conversation, response_id, event.stream_id)

    async def _follow_new(self, conversation: KeyedObject, response_id: str, stream_id: str | None) -> None:
        """Follows a response of a subscribed conversation, unless this socket does so already."""
        try:
            keyed = await self._parts.responses.find_within(self._principal, conversation, response_id)
        except NotFound:
            return  # Deleted, refused after all, or no response of this conversation: whoever said so is not believed.
        except Forbidden as error:
            # This one shows documents; the conversation's others may not.
            await self._send_error(error, stream_id)
            return
        if response_id not in self._followed:
            self._followed.add(response_id)
            self._spawn(self._follow(keyed, -1, stream_id), stream_id)

    async def _cancel(self, event: Cancel) -> None:
        response_id = event.response_id or self._last
        if response_id is None:
            raise InvalidRequest("There is no response to cancel on this connection.", param="response_id")
        await self._parts.responses.request_cancel(self._principal, response_id, unstored=self._unstored or ())

    async def _follow(self, keyed: KeyedObject, after: int, stream_id: str | None) -> None:
        self._followed.add(keyed.id)
        try:
            if len(self._followed) > _MOST_FOLLOWED:
                raise TooManyRequests(f"This connection follows {_MOST_FOLLOWED} responses, the most it may.")
            with self._outlet.follower(stream_id, after=after) as follower:
                await self._parts.responses.hand_on(keyed, follower)
        finally:
            self._followed.discard(keyed.id)

    def _spawn(self, work: Coroutine[Any, Any, None], stream_id: str | None) -> None:
        if self._at_once >= _MOST_AT_ONCE:
            work.close()
            raise TooManyRequests(f"This connection does {_MOST_AT_ONCE} things at once, the most it may. Wait.")
        self._at_once += 1
        self._tasks.create_task(self._guarded(work, stream_id), name="socket-task").add_done_callback(self._spawned)

    def _spawned(self, _: asyncio.Task[None]) -> None:
        self._at_once -= 1

    async def _guarded(self, work: Coroutine[Any, Any, None], stream_id: str | None) -> None:
        """Tells the client what went wrong; the socket goes on."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request only, and is told
            await self._send_error(fault_of(error, route="/v1/responses"), stream_id)

    async def _send_error(self, error: CloisterError, stream_id: str | None) -> None:
        event: dict[str, Any] = {"type": "error", "status": type(error).status, **error.body()}
        if headers := error.headers():
            event["headers"] = headers  # as OpenAI's sockets have them; there is no other place for Retry-After
        await self._outlet.send(orjson.dumps(event), stream_id)


def _parse(data: Any) -> ClientEvent:
    if not isinstance(data, dict):
        raise InvalidRequest("A message must be a JSON object with a 'type'.", code="invalid_json")
    try:
        return CLIENT_EVENT.validate_python(data)
    except ValidationError as error:
        findings = [{**finding, "loc": finding["loc"][1:]} for finding in error.errors(include_url=False)]
        if findings[0]["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            raise InvalidRequest(
                "'type' must be response.create, response.subscribe, conversation.subscribe or response.cancel.",
                param="type",
            ) from error
        raise validation_error(findings) from error


def _stream_id(data: Any) -> str | None:
    """The lane of a message that could not be taken, so that the error reaches it."""
    found = data.get("stream_id") if isinstance(data, dict) else None
    return found if isinstance(found, str) and len(found) <= 128 else None
