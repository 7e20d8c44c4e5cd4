"""Input items as they are stored: what a reference names, and what sealed reasoning says.

A reference becomes a copy of the item it names, at its place in the input.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import InvalidRequest
from cloister_common.ids import new_id
from cloister_common.wire.reading import MOST_CHARACTERS

from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs.attached import AttachedFiles
from cloister_gateway.runs.item_ids import input_id, prefix_of
from cloister_gateway.runs.references import Named, References
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.inputs import InputItem, InputMessage, input_item
from cloister_gateway.wire.items import Item, without_results
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
        references: Finds what is named.
        seals: Opens sealed reasoning.
        attached: Reads files in messages.
    """

    def __init__(self, references: References, seals: ReasoningSeals, attached: AttachedFiles) -> None:
        self._references = references
        self._seals = seals
        self._attached = attached

    async def stored(self, principal: Principal, sent: Sequence[InputItem], to: Destination) -> list[Item]:
        """What is stored of the items.

        Raises:
            NotFound: A reference names no item of the caller's: unknown, foreign, deleted and unstored ones alike.
            InvalidRequest: Reasoning was not sealed for the caller's project, or is not what was sealed; or a file
                cannot be read.
            Forbidden: The caller may not read the item, or its fence keeps it out of a prompt.
        """
        named = [
            Named(one.id, f"{to.field}[{place}]") for place, one in enumerate(sent) if isinstance(one, ItemReference)
        ]
        there = await self._references.find(principal, named, to.conversation, to.unstored) if named else {}
        found = []
        room = MOST_CHARACTERS
        for place, one in enumerate(sent):
            param = f"{to.field}[{place}]"
            if isinstance(one, ItemReference):
                item = {**without_results(there[one.id]), "id": new_id(prefix_of(one.id))}
                if item.get("role") == "user":
                    # (A question that got no answer is shown as incomplete. Asked again, it is whole.)
                    item["status"] = "completed"
            elif isinstance(one, Reasoning) and one.encrypted_content is not None:
                text = await self._unsealed(principal.tenant, one, one.encrypted_content, to.model, param)
                item = {"id": new_id("rs_"), **one.as_item(text)}
            else:
                if isinstance(one, InputMessage):
                    room = await self._attached.read(principal, one, param, room=room)
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
