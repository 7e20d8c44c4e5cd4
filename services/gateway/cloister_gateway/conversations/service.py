"""The rules of conversations: every look-up is by tenant, and another tenant's id is an unknown id."""

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloister_common.errors import Conflict, NotFound
from cloister_common.ids import new_id
from cloister_common.vault import Keyring

from cloister_gateway.conversations.store import ConversationStore
from cloister_gateway.identity.fence import check_items
from cloister_gateway.identity.principal import Principal
from cloister_gateway.prompt import History
from cloister_gateway.runs.attached import check_all_images
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.inputs import Destination, InputItems
from cloister_gateway.runs.returned import check_returned, speaks_of_calls
from cloister_gateway.runs.unanswered import Spoken, shown_items
from cloister_gateway.storage import (
    CONVERSATION,
    ItemLog,
    KeyedObject,
    LogGoneError,
    LogLockedError,
    StoredLog,
    damage_told,
)
from cloister_gateway.wire.inputs import InputItem
from cloister_gateway.wire.items import item_messages, shown, shows_images
from cloister_gateway.wire.lists import page
from cloister_gateway.wire.query import Wanted

__all__ = ["ConversationService"]

_NOT_SHOWN = 3
"""How many items more than a page has are looked at first: the next one shows whether there are more."""


class ConversationService:
    """Creates, reads, changes and deletes conversations and their items."""

    def __init__(
        self, store: ConversationStore, items: ItemLog, keyring: Keyring, runs: Engine, inputs: InputItems
    ) -> None:
        self._store = store
        self._runs = runs
        self._items = items
        self._keyring = keyring
        self._inputs = inputs

    async def create(self, principal: Principal, metadata: dict[str, str], items: list[InputItem]) -> dict[str, Any]:
        """A new conversation, with its first items if there are any."""
        check_items(principal, items, "items")
        stored = await self._inputs.stored(principal, items, Destination("items"))
        check_returned(principal, History.of([]), stored, "items")
        conversation_id = new_id("conv_")
        key = await self._keyring.create(principal.tenant, CONVERSATION, conversation_id)
        keyed = KeyedObject(CONVERSATION, conversation_id, key)
        created = int(time.time())
        await self._store.create(keyed, created, metadata, self._items.new_head(keyed))
        if items:
            await self._items.append(keyed, stored)
        return _wire(conversation_id, created, metadata)

    async def find(self, principal: Principal, conversation_id: str) -> KeyedObject:
        """The conversation with its key. Raises `NotFound` for unknown, foreign and deleted ones alike."""
        if await self._store.tenant(conversation_id) == principal.tenant:
            with damage_told(f"the key of conversation '{conversation_id}'"):
                key = await self._keyring.get(principal.tenant, CONVERSATION, conversation_id)
            if key is not None:
                return KeyedObject(CONVERSATION, conversation_id, key)
        raise _not_found(conversation_id)

    async def running(self, conversation: KeyedObject) -> str | None:
        """The response that is being made in the conversation, if one is."""
        return await self._items.holder(conversation.kind, conversation.id)

    async def retrieve(self, principal: Principal, conversation_id: str) -> dict[str, Any]:
        """The conversation's own fields."""
        keyed = await self.find(principal, conversation_id)
        with _still_there(conversation_id):
            created, metadata = await self._store.read(keyed)
        return _wire(conversation_id, created, metadata)

    async def update(self, principal: Principal, conversation_id: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Replaces the metadata."""
        keyed = await self.find(principal, conversation_id)
        with _still_there(conversation_id):
            await self._store.write_metadata(keyed, metadata)
        return await self.retrieve(principal, conversation_id)

    async def delete(self, principal: Principal, conversation_id: str) -> None:
        """Destroys the conversation's key, and with it its items and its responses, then removes what is left.

        The record goes last, and needs no key here: where a gateway died in between, asking again removes the rest.
        """
        if await self._store.tenant(conversation_id) != principal.tenant:
            raise _not_found(conversation_id)
        await self._keyring.destroy(principal.tenant, CONVERSATION, conversation_id)
        await self._runs.remove_those_of(principal.tenant, conversation_id)
        await self._items.destroy(CONVERSATION, conversation_id)
        # A gateway that had not heard yet that the key is gone may have taken a turn until now.
        await self._runs.remove_those_of(principal.tenant, conversation_id)

    async def add_items(
        self, principal: Principal, conversation_id: str, items: list[InputItem]
    ) -> list[dict[str, Any]]:
        """Appends items. Refused while a response of the conversation is being made."""
        check_items(principal, items, "items")
        keyed = await self.find(principal, conversation_id)
        added = await self._inputs.stored(principal, items, Destination("items", keyed))
        try:
            with _still_there(conversation_id):
                calls, images = speaks_of_calls(added), shows_images(added)
                if calls or images:
                    before = Spoken.before(await self._items.load_log(keyed), frozenset())
                    if calls:
                        check_returned(principal, before, added, "items")
                    if images:
                        check_all_images(before, item_messages(added), param="items")
                stored = await self._items.append(keyed, added)
        except LogLockedError as error:
            raise Conflict(
                "A response of this conversation is being made. Wait for it to end, or cancel it.",
                code="conversation_locked",
                retry_after=2,
            ) from error
        return [shown(item.body) for item in stored]

    async def items(
        self,
        principal: Principal,
        conversation_id: str,
        *,
        limit: int,
        order: str,
        after: str | None,
        wanted: Wanted,
    ) -> dict[str, Any]:
        """A page of items, and with what is ``wanted`` beside them.

        What was asked in a turn that got no answer has the status ``incomplete``.

        Raises:
            InvalidRequest: ``after`` names no item that is or was in the conversation.
        """
        keyed = await self._find_items(principal, conversation_id, wanted)
        with _still_there(conversation_id):
            newest = order == "desc" and after is None
            log = await (self._end(keyed, limit) if newest else self._items.load_log(keyed))
        items = shown_items(log.items)
        numbers = [item.seq for item in items]
        listed = page(
            [item.body for item in items],
            limit=limit,
            order=order,
            after=after,
            gone={item_id: bisect_left(numbers, seq) for item_id, seq in log.removed.items()} if after else None,
        )
        return {**listed, "data": [shown(body, **wanted._asdict()) for body in listed["data"]]}

    async def item(self, principal: Principal, conversation_id: str, item_id: str, *, wanted: Wanted) -> dict[str, Any]:
        """One item, with what is ``wanted`` beside it."""
        keyed = await self._find_items(principal, conversation_id, wanted)
        with _still_there(conversation_id):
            log = await self._items.load_log(keyed)
        for item in shown_items(log.items):
            if item.id == item_id:
                return shown(item.body, **wanted._asdict())
        raise NotFound(f"Item with id '{item_id}' not found.", param="item_id")

    async def delete_item(self, principal: Principal, conversation_id: str, item_id: str) -> dict[str, Any]:
        """Deletes one item, and the summaries that were made with it; the conversation as it is then."""
        principal.keep_fence("delete items of a conversation")
        keyed = await self.find(principal, conversation_id)
        with _still_there(conversation_id):
            log = (await self._items.load_log(keyed)).items
            place = next((at for at, item in enumerate(log) if item.id == item_id), len(log))
            for item in log[place + 1 :]:
                if item.body["type"] == "compaction":
                    await self._items.remove(keyed, item.id)
            removed = await self._items.remove(keyed, item_id)
        if not removed:
            raise NotFound(f"Item with id '{item_id}' not found.", param="item_id")
        return await self.retrieve(principal, conversation_id)

    async def _find_items(self, principal: Principal, conversation_id: str, wanted: Wanted) -> KeyedObject:
        """As `find`, for those who may see what they ask for: the results of searches are documents."""
        if wanted.results:
            principal.require("vector_stores", param="include")
        return await self.find(principal, conversation_id)

    async def _end(self, keyed: KeyedObject, limit: int) -> StoredLog:
        """The end of the log with more items to show than ``limit``, or all of it. Few things of a log are not shown,
        and what says that an item got no answer stands behind it."""
        count = limit + _NOT_SHOWN
        while True:
            log = await self._items.newest(keyed, count)
            if not log.older or len(shown_items(log.items)) > limit:
                return log
            count *= 2


@contextmanager
def _still_there(conversation_id: str) -> Iterator[None]:
    """Raises `NotFound` for a conversation that somebody deleted after it was found."""
    try:
        yield
    except LogGoneError as error:
        raise _not_found(conversation_id) from error


def _wire(conversation_id: str, created: int, metadata: dict[str, str]) -> dict[str, Any]:
    return {"id": conversation_id, "object": "conversation", "created_at": created, "metadata": metadata}


def _not_found(conversation_id: str) -> NotFound:
    return NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation_id")
