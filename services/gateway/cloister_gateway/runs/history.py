"""What was said before this turn, from the server's own state and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloister_common.errors import NotFound
from cloister_common.vault import Keyring

from cloister_gateway.prompt import History
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.runs.unanswered import Spoken, is_unanswered
from cloister_gateway.storage import (
    CONVERSATION,
    DamagedError,
    ItemLog,
    KeyedObject,
    LogGoneError,
    RecordGoneError,
    StoredItem,
    StoredLog,
    damage_told,
)
from cloister_gateway.wire.items import Message, item_messages

__all__ = ["HistoryReader", "earlier_links", "no_previous"]

_LONGEST_CHAIN = 2_000
_KNOWN_LINKS = 64
"""How many of the responses before it each request names: so many links of a chain are looked at in one round trip,
and 2 KiB are stored for it."""


def earlier_links(previous_id: str, previous: TurnRequest) -> list[str] | None:
    """The responses before a request, newest first and `_KNOWN_LINKS` at most, from what its previous one names.

    None if that was stored by a version that named none.
    """
    return None if previous.earlier is None else [previous_id, *previous.earlier][:_KNOWN_LINKS]


def no_previous(response_id: str) -> NotFound:
    """A link of a chain is unknown, deleted or another tenant's."""
    return NotFound(
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


class HistoryReader:
    """Reads history from a conversation, or along a chain of ``previous_response_id``."""

    def __init__(self, store: ResponseStore, items: ItemLog, keyring: Keyring) -> None:
        self._store = store
        self._items = items
        self._keyring = keyring

    async def before(self, tenant: str, request: TurnRequest, log: StoredLog | None = None) -> History:
        """The messages before the request's own input, oldest first, without those of turns that got no answer.

        Args:
            tenant: Whose they are.
            request: What was asked.
            log: Its conversation's items, if they were read just now.

        Raises:
            NotFound: The conversation or a response of the chain was deleted meanwhile.
            DamagedError: One of them is not what was written.
        """
        if request.conversation:
            own = {item["id"] for item in request.input}
            log = log or await self._log(tenant, request.conversation)
            return Spoken.of(log).until(_place(log.items, own, after=False))
        if request.previous_response_id:
            return History.of(await self._chain(tenant, request.previous_response_id))
        return History.of([])

    async def check_links(self, tenant: str, request: TurnRequest) -> None:
        """Refuses a chain that was broken, however far back: one round trip for `_KNOWN_LINKS` links.

        Raises:
            NotFound: A response of the chain was deleted.
        """
        links, whole = _links(request)
        checked = 0
        while checked < _LONGEST_CHAIN:
            headers = await self._store.headers(links)
            for response_id, header in zip(links, headers, strict=True):
                self._check_link(tenant, response_id, header)
            oldest = headers[-1] if headers else None
            if whole or oldest is None or oldest.conversation:
                return
            _, _, asked = await self.read_link(tenant, oldest.id, oldest)
            links, whole = _links(asked)
            checked += len(headers)

    async def _log(self, tenant: str, conversation_id: str) -> StoredLog:
        with damage_told(f"the key of conversation '{conversation_id}'"):
            key = await self._keyring.get(tenant, CONVERSATION, conversation_id)
        try:
            if key is not None:
                return await self._items.load_log(KeyedObject(CONVERSATION, conversation_id, key))
        except LogGoneError:
            pass
        raise NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")

    async def _chain(self, tenant: str, response_id: str) -> list[Message]:
        newest_first: list[list[Message]] = []
        next_id: str | None = response_id
        for _ in range(_LONGEST_CHAIN):
            if next_id is None:
                break
            header, keyed = await self._find_link(tenant, next_id, await self._store.header(next_id))
            with _still_there(next_id):
                request, body = await self._store.turn(keyed)
            if header.conversation:
                ids = {item["id"] for item in [*request.input, *body["output"]]}
                log = await self._log(tenant, header.conversation)
                newest_first.append(Spoken.of(log).until(_place(log.items, ids, after=True)).messages)
                break
            if not is_unanswered(body["status"], body["output"]):
                newest_first.append(item_messages([*request.input, *body["output"]]))
            next_id = request.previous_response_id
        return [message for messages in reversed(newest_first) for message in messages]

    async def read_link(
        self, tenant: str, response_id: str, header: Header | None
    ) -> tuple[Header, KeyedObject, TurnRequest]:
        """What a link of a chain is, and what was asked in it.

        Args:
            tenant: Whose chain it is.
            response_id: The link.
            header: What its record says, or None if the caller may not know it.

        Raises:
            NotFound: It was deleted, or is another tenant's.
            DamagedError: It is not what was written.
        """
        header, keyed = await self._find_link(tenant, response_id, header)
        with _still_there(response_id):
            return header, keyed, await self._store.request(keyed)

    async def _find_link(self, tenant: str, response_id: str, header: Header | None) -> tuple[Header, KeyedObject]:
        header = self._check_link(tenant, response_id, header)
        keyed = await self._store.keyed(header)
        if keyed is None:
            raise no_previous(response_id)
        return header, keyed

    @staticmethod
    def _check_link(tenant: str, response_id: str, header: Header | None) -> Header:
        if header is None or header.tenant != tenant:
            raise no_previous(response_id)
        if not header.whole:
            raise DamagedError(f"response '{response_id}'")
        return header


@contextmanager
def _still_there(response_id: str) -> Iterator[None]:
    """Raises `NotFound` for a link that somebody deleted after it was found."""
    try:
        yield
    except RecordGoneError as error:
        raise no_previous(response_id) from error


def _links(request: TurnRequest) -> tuple[list[str], bool]:
    """The responses before a request that it names, newest first, and whether these are all there are."""
    if request.earlier is not None:
        return request.earlier, len(request.earlier) < _KNOWN_LINKS
    previous = request.previous_response_id
    return ([previous], False) if previous else ([], True)


def _place(log: Sequence[StoredItem], ids: set[str], *, after: bool) -> int:
    """The place before the first of ``ids`` in a log, or after the last; the log's end if it has none of them.

    It looks from the end, where a turn's own items are, and no further than to the last of them that is to be found.
    """
    places: list[int] = []
    for place in range(len(log) - 1, -1, -1):
        if log[place].id in ids:
            places.append(place)
            if after or len(places) == len(ids):
                break
    if not places:
        return len(log)
    return places[0] + 1 if after else places[-1]
