"""Input items as they are stored: what a reference names, and what sealed reasoning says.

A reference becomes a copy of the item it names, at its place in the input, as that stands where it is kept: in the
conversation of the turn, in the response that put it out or was asked with it, or in the conversation of that response.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import InvalidRequest, NotFound
from cloister_common.ids import new_id
from cloister_common.vault import Keyring

from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs.item_ids import input_id, prefix_of, response_of
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.store import ResponseStore
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
from cloister_gateway.wire.inputs import InputItem, input_item
from cloister_gateway.wire.items import CALL_OF_CALLER, Item, without_results
from cloister_gateway.wire.own import ItemReference, Reasoning

__all__ = ["Destination", "InputItems"]


class Destination(NamedTuple):
    """Where items go.

    Attributes:
        field: The parameter that they came in.
        conversation: The conversation that they become part of, if they do.
        response_id: The response that they are the input of, if they are.
        model: Its model.
        unstored: Responses with ``store: false`` that this caller's connection may name.
    """

    field: str
    conversation: KeyedObject | None = None
    response_id: str | None = None
    model: str | None = None
    unstored: Sequence[str] = ()


class InputItems:
    """Makes stored items of those that callers send. One instance serves all callers.

    Args:
        store: The records of responses.
        items: The logs of conversations.
        keyring: Their keys.
        seals: Opens sealed reasoning.
    """

    def __init__(self, store: ResponseStore, items: ItemLog, keyring: Keyring, seals: ReasoningSeals) -> None:
        self._store = store
        self._items = items
        self._keyring = keyring
        self._seals = seals

    async def stored(self, principal: Principal, sent: Sequence[InputItem], to: Destination) -> list[Item]:
        """What is stored of the items.

        Raises:
            NotFound: A reference names no item of the caller's: unknown, foreign, deleted and unstored ones alike.
            InvalidRequest: Reasoning was not sealed for the caller's project, or is not what was sealed.
            Forbidden: The caller may not read the item, or its fence keeps it out of a prompt.
        """
        found = []
        kept: dict[str, list[Item]] = {}
        for place, one in enumerate(sent):
            param = f"{to.field}[{place}]"
            if isinstance(one, ItemReference):
                item = await self._named(principal, one.id, to, kept, param)
                item = {**without_results(item), "id": new_id(prefix_of(item["id"]))}
                if item.get("role") == "user":
                    # (A question that got no answer is shown as incomplete. Asked again, it is whole.)
                    item["status"] = "completed"
            elif isinstance(one, Reasoning) and one.encrypted_content is not None:
                text = await self._unsealed(principal.tenant, one, one.encrypted_content, to.model, param)
                item = {"id": new_id("rs_"), **one.as_item(text)}
            else:
                item = input_item(one)
            if to.response_id is not None:
                item["id"] = input_id(prefix_of(item["id"]), to.response_id, place)
            found.append(item)
        return found

    async def _unsealed(self, tenant: str, sent: Reasoning, sealed: str, model: str | None, param: str) -> str:
        """What was thought, if it was by ``model``."""
        thought = await self._seals.open(tenant, sealed, param=f"{param}.encrypted_content")
        if sent.text() not in {"", thought.text}:
            raise InvalidRequest(
                f"'{param}.content' is not what is sealed in 'encrypted_content'. Send it as it came, or leave it out.",
                param=f"{param}.content",
            )
        return thought.text if model in {None, thought.model} else ""

    async def _named(
        self, principal: Principal, item_id: str, to: Destination, kept: dict[str, list[Item]], param: str
    ) -> Item:
        """The item of that id. ``kept`` has what was read for the references before."""
        if to.conversation is not None:
            item = _find(await self._log(to.conversation, kept), item_id)
            if item is not None:
                return _permitted(principal, item, param)
        response_id = response_of(item_id)
        header = await self._store.header(response_id)
        if header is not None and header.tenant == principal.tenant and (header.stored or response_id in to.unstored):
            if not header.whole:
                raise DamagedError(f"response '{response_id}'")
            if header.conversation:
                principal.require("conversations", param=param)
                # What was deleted there is not there to be named.
                conversation = await self._conversation(principal.tenant, header.conversation)
                there = [] if conversation is None else await self._log(conversation, kept)
            else:
                there = await self._response(response_id, await self._store.keyed(header), kept)
            item = _find(there, item_id)
            if item is not None:
                return _permitted(principal, item, param)
        raise NotFound(
            f"Item with id '{item_id}' not found. (Those of a response with 'store': false are not kept.)",
            param=f"{param}.id",
        )

    async def _conversation(self, tenant: str, conversation_id: str) -> KeyedObject | None:
        with damage_told(f"the key of conversation '{conversation_id}'"):
            key = await self._keyring.get(tenant, CONVERSATION, conversation_id)
        return None if key is None else KeyedObject(CONVERSATION, conversation_id, key)

    async def _log(self, conversation: KeyedObject, kept: dict[str, list[Item]]) -> list[Item]:
        """What a conversation shows."""
        if conversation.id not in kept:
            try:
                log = await self._items.load_log(conversation)
            except LogGoneError:
                return []
            kept[conversation.id] = [item.body for item in shown_items(log.items)]
        return kept[conversation.id]

    async def _response(self, response_id: str, keyed: KeyedObject | None, kept: dict[str, list[Item]]) -> list[Item]:
        """What a response was asked with and has put out, if it has ended."""
        if keyed is not None and response_id not in kept:
            try:
                request, body = await self._store.turn(keyed)
            except RecordGoneError:
                return []
            kept[response_id] = [*request.input, *body["output"]]
        return kept.get(response_id, [])


def _find(items: Sequence[Item], item_id: str) -> Item | None:
    return next((item for item in items if item["id"] == item_id), None)


def _permitted(principal: Principal, item: Item, param: str) -> Item:
    """``item``, unless a fence keeps it out: who is behind one repeats what users and the model said, and no more."""
    if item.get("role") in {"system", "developer"}:
        principal.keep_fence(f"repeat messages with role '{item['role']}'", param=param)
    if item["id"].startswith(CALL_OF_CALLER):
        principal.keep_fence("repeat calls that the model did not make", param=param)
    return item
