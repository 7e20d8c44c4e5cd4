"""What was said before this turn, from the server's own state and nothing else."""

from typing import Any

from cloister_common.errors import NotFound
from cloister_common.vault import Keyring

from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.storage import ItemLog, LogGoneError, Owner

__all__ = ["HistoryReader", "item_messages"]

Message = dict[str, Any]
_LONGEST_CHAIN = 2_000


class HistoryReader:
    """Reads history from a conversation, or along a chain of ``previous_response_id``."""

    def __init__(self, store: ResponseStore, items: ItemLog, keyring: Keyring) -> None:
        self._store = store
        self._items = items
        self._keyring = keyring

    async def before(self, tenant: str, request: dict[str, Any]) -> list[Message]:
        """The messages before the request's own input, oldest first.

        Raises:
            NotFound: The conversation or a response of the chain was deleted meanwhile.
        """
        if request["conversation"]:
            own = {item["id"] for item in request["input"]}
            return item_messages(await self._conversation(tenant, request["conversation"], until=own, inclusive=False))
        if request["previous_response_id"]:
            return item_messages(await self._chain(tenant, request["previous_response_id"]))
        return []

    async def _conversation(
        self, tenant: str, conversation_id: str, *, until: set[str], inclusive: bool
    ) -> list[dict[str, Any]]:
        key = await self._keyring.get(tenant, "conv", conversation_id)
        try:
            stored = [] if key is None else await self._items.load(Owner("conv", conversation_id, key))
        except LogGoneError:
            key = None
        if key is None:
            raise NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")
        places = [place for place, item in enumerate(stored) if item.id in until]
        if not places:
            return [item.body for item in stored]
        end = places[-1] + 1 if inclusive else places[0]
        return [item.body for item in stored[:end]]

    async def _chain(self, tenant: str, response_id: str) -> list[dict[str, Any]]:
        newest_first: list[list[dict[str, Any]]] = []
        next_id: str | None = response_id
        for _ in range(_LONGEST_CHAIN):
            if next_id is None:
                break
            header = await self._store.header(next_id)
            owner = await self._store.owner(header) if header is not None and header.tenant == tenant else None
            if header is None or owner is None:
                raise NotFound(
                    f"Previous response with id '{next_id}' not found.",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            body, request = await self._store.read(owner, "body"), await self._store.read(owner, "request")
            if header.conversation:
                ids = {item["id"] for item in [*request["input"], *body["output"]]}
                newest_first.append(await self._conversation(tenant, header.conversation, until=ids, inclusive=True))
                break
            newest_first.append([*request["input"], *body["output"]])
            next_id = request["previous_response_id"]
        return [item for items in reversed(newest_first) for item in items]


def item_messages(items: list[dict[str, Any]]) -> list[Message]:
    """The messages among ``items``, as the model is given them: role and text.

    ``developer`` is OpenAI's newer word for ``system``, and the only one of the two that chat templates do not know.
    """
    messages = []
    for item in items:
        if item["type"] != "message":
            continue
        text = "".join(part.get("text", "") for part in item["content"])
        if text:
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": text})
    return messages
