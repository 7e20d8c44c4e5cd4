"""Items that a caller names by their ids: looked up where they are kept, under the caller's tenant and rights.

That is the conversation of the turn; the response that put an item out or was asked with it, which the id tells
(`cloister_gateway.runs.item_ids`); or the conversation of that response, since what was deleted there is not there to
be named. One place is looked into at a time, and of what it holds only what is named stays in memory.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson
from cloister_common.errors import InvalidRequest, NotFound
from cloister_common.vault import Keyring

from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs.item_ids import response_of
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.runs.unanswered import shown_items
from cloister_gateway.storage import (
    CONVERSATION,
    DamagedError,
    ItemLog,
    KeyedObject,
    LogGoneError,
    RecordGoneError,
    damage_told,
)
from cloister_gateway.wire.items import CALL_OF_CALLER, Item

__all__ = ["Named", "References"]

_MOST_BYTES = 8 * 1024 * 1024
"""Of what one request names, in all: as much as its body could hold (``bodies.json_bytes``), which a few ids would
otherwise stand for many times over."""


class Named(NamedTuple):
    """An item that is named.

    Attributes:
        id: Its id.
        param: Where the request names it.
    """

    id: str
    param: str


class References:
    """Looks named items up. One instance serves all callers.

    Args:
        store: The records of responses.
        items: The logs of conversations.
        keyring: Their keys.
    """

    def __init__(self, store: ResponseStore, items: ItemLog, keyring: Keyring) -> None:
        self._store = store
        self._items = items
        self._keyring = keyring

    async def find(
        self, principal: Principal, named: Sequence[Named], conversation: KeyedObject | None, unstored: Collection[str]
    ) -> Mapping[str, Item]:
        """The items by their ids.

        Args:
            principal: Who names them.
            named: Which.
            conversation: The conversation that they are to become part of, if they are.
            unstored: Responses with ``store: false`` whose items the caller may name.

        Raises:
            NotFound: One is not the caller's: unknown, foreign, deleted and unstored ones alike.
            InvalidRequest: They are too large together.
            Forbidden: The caller may not read one, or its fence keeps it out of a prompt.
        """
        wanted: dict[str, list[str]] = {}
        for one in named:
            wanted.setdefault(one.id, []).append(one.param)
        found = _Found(wanted)
        if conversation is not None:
            found.take(await self._log(conversation))
        responses = list(dict.fromkeys(response_of(item_id) for item_id in found.left()))
        conversations: dict[str, None] = {}
        for header in await self._store.headers(responses) if responses else []:
            if header is None or header.tenant != principal.tenant:
                continue
            if not header.whole:
                raise DamagedError(f"response '{header.id}'")
            if not header.stored and header.id not in unstored:
                continue
            if header.conversation:
                param = next(one.param for one in named if response_of(one.id) == header.id)
                principal.require("conversations", param=param)
                conversations[header.conversation] = None
            else:
                found.take(await self._response(header))
        for conversation_id in conversations:
            found.take(await self._conversation(principal.tenant, conversation_id))
        for item_id in found.left():
            raise NotFound(
                f"Item with id '{item_id}' not found. (Those of a response with 'store': false are not kept.)",
                param=f"{wanted[item_id][0]}.id",
            )
        for one in named:
            _check_fence(principal, found.items[one.id], one.param)
        return found.items

    async def _response(self, header: Header) -> list[Item]:
        """What a response was asked with and has put out, if it has ended."""
        keyed = await self._store.keyed(header)
        if keyed is None:
            return []
        try:
            request, body = await self._store.turn(keyed)
        except RecordGoneError:
            return []
        return [*request.input, *body["output"]]

    async def _conversation(self, tenant: str, conversation_id: str) -> list[Item]:
        with damage_told(f"the key of conversation '{conversation_id}'"):
            key = await self._keyring.get(tenant, CONVERSATION, conversation_id)
        return [] if key is None else await self._log(KeyedObject(CONVERSATION, conversation_id, key))

    async def _log(self, conversation: KeyedObject) -> list[Item]:
        """What a conversation shows."""
        try:
            log = await self._items.load_log(conversation)
        except LogGoneError:
            return []
        return [item.body for item in shown_items(log.items)]


class _Found:
    """What was found so far.

    Args:
        wanted: The ids, and where the request names each.
    """

    def __init__(self, wanted: Mapping[str, Sequence[str]]) -> None:
        self.items: dict[str, Item] = {}
        self._wanted = wanted
        self._bytes = 0

    def left(self) -> list[str]:
        """The ids that were not found."""
        return [item_id for item_id in self._wanted if item_id not in self.items]

    def take(self, items: Iterable[Item]) -> None:
        """Keeps those that are wanted. Raises `InvalidRequest` where they become too many."""
        for item in items:
            if item["id"] not in self._wanted or item["id"] in self.items:
                continue
            self.items[item["id"]] = item
            params = self._wanted[item["id"]]
            self._bytes += len(params) * len(orjson.dumps(item))
            if self._bytes > _MOST_BYTES:
                raise InvalidRequest(
                    f"The items that are named have over {_MOST_BYTES // 2**20} MiB together. Name fewer.",
                    param=params[0],
                )


def _check_fence(principal: Principal, item: Item, param: str) -> None:
    """Who is behind a fence repeats what users and the model said, and no more."""
    if item.get("role") in {"system", "developer"}:
        principal.keep_fence(f"repeat messages with role '{item['role']}'", param=param)
    if item["id"].startswith(CALL_OF_CALLER):
        principal.keep_fence("repeat calls that the model did not make", param=param)
