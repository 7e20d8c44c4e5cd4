"""Input items as they are stored: what a reference names, and what sealed reasoning and summaries say.

A reference becomes a copy of the item it names, at its place in the input.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import InvalidRequest
from cloister_common.ids import new_id

from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs.attached import AttachedFiles, Room
from cloister_gateway.runs.item_ids import input_id, prefix_of
from cloister_gateway.runs.references import Named, References
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.summaries import compaction_item, said_item
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.inputs import FunctionCallOutput, InputItem, InputMessage, input_item
from cloister_gateway.wire.items import Item, item_messages, without_results
from cloister_gateway.wire.own import Compaction, ItemReference, Reasoning

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
        seals: Opens what is sealed.
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
            InvalidRequest: Reasoning or a summary was not sealed for the caller's project, or is not what was sealed;
                or a file cannot be read.
            Forbidden: The caller may not read the item, or its fence keeps it out of a prompt.
        """
        named = [
            Named(one.id, f"{to.field}[{place}]") for place, one in enumerate(sent) if isinstance(one, ItemReference)
        ]
        there = await self._references.find(principal, named, to.conversation, to.unstored) if named else {}
        found: list[Item] = []
        number = 0
        room = Room()
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
            elif isinstance(one, Compaction):
                item, before = await self._summary(principal.tenant, one, found, param)
                for kept in before:
                    found.append(kept if to.response_id is None else {**kept, "id": _id_of(kept, to, number)})
                    number += 1
            else:
                if isinstance(one, InputMessage):
                    await self._attached.read(principal, one, param, room)
                elif isinstance(one, FunctionCallOutput):
                    await self._attached.read_images(principal, one.images(), f"{param}.output", room)
                item = input_item(one)
            if to.response_id is not None:
                item["id"] = _id_of(item, to, number)
            number += 1
            found.append(item)
        return found

    async def _summary(
        self, tenant: str, sent: Compaction, before: list[Item], param: str
    ) -> tuple[Item, Sequence[Item]]:
        """What is stored of a summary; and what it keeps, where what was sent ``before`` it has not all of that."""
        summary = await self._seals.open_summary(tenant, sent.encrypted_content, param=f"{param}.encrypted_content")
        item = compaction_item(new_id("cmp_"), summary, sent.encrypted_content)
        if sent.cloister is not None and sent.cloister != item["cloister"]:
            raise InvalidRequest(
                f"'{param}.cloister' is not what 'encrypted_content' says. Send it as it came, or leave it out.",
                param=f"{param}.cloister",
            )
        if len(item_messages(before)) >= summary.keeps:
            return item, ()
        # (What was sent of it is in what it keeps; what is not there is summed up. The operator's words stay.)
        before[:] = [one for one in before if one.get("role") in {"system", "developer"}]
        item["cloister"] = {**item["cloister"], "keeps": len(summary.kept)}
        return item, [said_item(message) for message in summary.kept]

    async def _unsealed(self, tenant: str, sent: Reasoning, sealed: str, model: str | None, param: str) -> str:
        """What was thought, if it was by ``model``."""
        thought = await self._seals.open(tenant, sealed, param=f"{param}.encrypted_content")
        if sent.text() not in {"", thought.text}:
            raise InvalidRequest(
                f"'{param}.content' is not what is sealed in 'encrypted_content'. Send it as it came, or leave it out.",
                param=f"{param}.content",
            )
        return thought.text if model in {None, thought.model} else ""


def _id_of(item: Item, to: Destination, number: int) -> str:
    return input_id(prefix_of(item["id"]), to.response_id or "", number)
