"""Reading responses: which of them a caller may see, and what they are, as a whole or event by event."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import orjson
from cloister_common.errors import NotFound

from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.shapes import last_event, snapshot
from cloister_gateway.runs.records import BODY, REQUEST, RESULTS
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.storage import RESPONSE, DamagedError, KeyedObject, RecordGoneError
from cloister_gateway.streams.events import StreamDroppedError, damaged_stream
from cloister_gateway.streams.fanout import Follower
from cloister_gateway.streams.feeds import Feed, Hub
from cloister_gateway.wire.items import Item, ResponseBody, has_searched, shown, with_results

__all__ = ["RUNNING", "ResponseReader", "no_response"]

RUNNING = frozenset({"queued", "in_progress"})
"""The states of a response that has not ended."""


class ResponseReader:
    """Finds and reads responses.

    Args:
        store: Their records.
        hub: Their events.
    """

    def __init__(self, store: ResponseStore, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def find(self, principal: Principal, response_id: str, *, unstored: Sequence[str] = ()) -> KeyedObject:
        """The response with its key. Raises `NotFound` for unknown, foreign, deleted and unstored ones alike.

        Raises `Forbidden` for one of a conversation, or with passages of documents, if the key lacks the scope of them.
        """
        header = await self.header(principal, response_id, unstored)
        keyed = None if header is None else await self._store.keyed(header)
        if keyed is None:
            raise no_response(response_id)
        return await self._permitted(principal, keyed)

    async def find_within(self, principal: Principal, conversation: KeyedObject, response_id: str) -> KeyedObject:
        """A response that Redis or its pub/sub says is of the conversation; `NotFound` unless it is.

        Who may read the conversation may read its responses, those with ``store: false`` too, and no others.
        """
        header = await self.header(principal, response_id, [response_id])
        if header is None or header.conversation != conversation.id:
            raise no_response(response_id)
        return await self._permitted(principal, KeyedObject(RESPONSE, response_id, conversation.key))

    async def retrieve(self, principal: Principal, response_id: str, *, results: bool) -> ResponseBody:
        """The response as it is now; with the ``results`` of its file search for those who ask now."""
        if results:
            principal.require("vector_stores", param="include")
        keyed = await self.find(principal, response_id)
        body = await self.body(keyed)
        if not results:
            return body
        found = await self._store.read(keyed, RESULTS)
        if found is None and body["status"] in RUNNING:
            # They come into the record at the end; until then they are kept for who may take the run over.
            found = await self._store.search_results(keyed)
        elif found is None and has_searched(body["output"]):
            raise DamagedError(f"the search results of response '{response_id}'")
        return {**body, "output": with_results(body["output"], found)}

    async def body(self, keyed: KeyedObject) -> ResponseBody:
        """The response's latest snapshot: from its record when it has ended, else from its events."""
        body = await self._body(keyed)
        if body["status"] not in RUNNING:
            return body
        try:
            async with self._watch(keyed) as feed:
                return snapshot(body, feed.events)
        except StreamDroppedError:
            return await self._body(keyed)

    async def events(self, keyed: KeyedObject, *, after: int) -> AsyncGenerator[list[bytes], None]:
        """The events after number ``after``, those of the past first, until the run has ended.

        After the stream of an ended run was dropped, what is left is its last event: the finished response.
        Close the iterator (``contextlib.aclosing``) to stop watching.

        Raises:
            NotFound: The response was deleted meanwhile.
            DamagedError: Events are missing or do not open.
        """
        number = after + 1
        ended = False
        try:
            while True:
                async with self._watch(keyed) as feed:
                    # (The feed of a run of this gateway has all there is.)
                    if not feed.local and not ended:
                        ended = (await self._body(keyed))["status"] not in RUNNING
                        if ended and not feed.final:
                            # It ended after its events were read, or they were cut: the next look tells, since the last
                            # of them and the finished response are written as one.
                            continue
                    if ended:
                        _check_end(keyed, feed)
                    async with aclosing(feed.follow(after)) as batches:
                        async for batch in batches:
                            number += len(batch)
                            yield batch
                    return
        except StreamDroppedError:
            yield [last_event(await self._body(keyed), number)]

    async def hand_on(self, keyed: KeyedObject, follower: Follower) -> None:
        """As `events`, but ``follower`` is handed them, and no task woken; returns when it was handed the end.

        Who asks for what comes after the last event, or after a later number, is handed that one again: a reader of
        several responses would not know otherwise that nothing comes.
        """
        # (The feed of a run of this gateway has all there is.)
        ended = not self._hub.is_own(keyed) and (await self._body(keyed))["status"] not in RUNNING
        first = follower.position
        try:
            async with self._watch(keyed) as feed:
                if ended:
                    _check_end(keyed, feed)
                await feed.hand_on(follower)
                if follower.position == first:
                    follower.hand(feed.events[-1:])
        except StreamDroppedError:
            follower.hand([last_event(await self._body(keyed), follower.position)])

    async def finish(self, keyed: KeyedObject) -> ResponseBody:
        """Waits for the end of the run; the final response."""
        if not self._hub.is_own(keyed):
            body = await self._body(keyed)
            if body["status"] not in RUNNING:
                return body
        try:
            async with self._watch(keyed) as feed:
                async with aclosing(feed.follow(len(feed.events) - 1)) as batches:
                    async for _ in batches:
                        pass
                final: ResponseBody = orjson.loads(feed.events[-1])["response"]
                return final
        except StreamDroppedError:
            return await self._body(keyed)

    async def input_items(self, principal: Principal, response_id: str, *, images: bool) -> list[Item]:
        """The input items of a response, in order; with the data of ``images`` for those who ask."""
        keyed = await self.find(principal, response_id)
        try:
            return [shown(item, images=images) for item in (await self._store.request(keyed)).input]
        except RecordGoneError as error:
            raise no_response(response_id) from error

    async def header(self, principal: Principal, response_id: str, unstored: Sequence[str]) -> Header | None:
        """The caller's response; None for unknown, foreign, deleted and unstored ones alike."""
        header = await self._store.header(response_id)
        if header is None or header.tenant != principal.tenant:
            return None
        if not header.whole:
            raise DamagedError(f"response '{response_id}'")
        if not header.stored and response_id not in unstored:
            return None
        if header.conversation:
            principal.require("conversations")
        return header

    async def _permitted(self, principal: Principal, keyed: KeyedObject) -> KeyedObject:
        """``keyed``, for those who may see what it shows: with ``results`` of a search these are documents."""
        if not principal.allows("vector_stores"):
            request = await self._store.read(keyed, REQUEST)
            if request is not None and request.show_results:
                principal.require("vector_stores")
        return keyed

    async def _body(self, keyed: KeyedObject) -> ResponseBody:
        """The body in the record. Raises `DamagedError` for a run that was given up, since its record does not open."""
        header = await self._store.header(keyed.id)
        body = await self._store.read(keyed, BODY)
        if header is None or (body is None and await self._store.header(keyed.id) is None):
            raise no_response(keyed.id)
        if body is None or (header.done and body["status"] in RUNNING):
            raise DamagedError(f"response '{keyed.id}'")
        return body

    @asynccontextmanager
    async def _watch(self, keyed: KeyedObject) -> AsyncIterator[Feed]:
        try:
            async with self._hub.watch(keyed) as feed:
                yield feed
        except RecordGoneError as error:
            raise no_response(keyed.id) from error


def _check_end(keyed: KeyedObject, feed: Feed) -> None:
    """Raises unless the feed of a run that has ended has its end too: it was cut, or is kept no longer."""
    if not feed.final:
        raise DamagedError(damaged_stream(keyed)) if feed.events else StreamDroppedError


def no_response(response_id: str) -> NotFound:
    """Unknown, foreign, deleted and unstored ones alike."""
    return NotFound(f"Response with id '{response_id}' not found.", param="response_id")
