"""What was said before this turn, from the server's own state and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from cloister_common.errors import NotFound
from cloister_common.vault import Keyring

from cloister_gateway.prompt import History
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.runs.unanswered import Spoken, is_unanswered
from cloister_gateway.storage import (
    CONVERSATION,
    RESPONSE,
    DamagedError,
    ItemLog,
    KeyedObject,
    LogGoneError,
    Opened,
    RecordGoneError,
    StoredLog,
    damage_told,
    size_in_memory,
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


class _Chain(NamedTuple):
    """All that was said along a chain, none of it in a conversation, and the responses that said it, oldest first."""

    history: History
    ids: list[str]


@dataclass(slots=True, eq=False)
class _Link:
    """A response of a chain, as later turns send it.

    Attributes:
        id: It. (Not its key: what is kept must not keep that.)
        previous: The one before it.
        messages: What it says to the model; nothing if it got no answer.
        conversation: The conversation it belongs to, if it does: then that has all that was said until its end.
        items: The ids of its items, by which that end is found there.
        until: The chain up to it, if somebody has put that together and nobody has gone on from there.
    """

    id: str
    previous: str | None
    messages: list[Message]
    conversation: str = ""
    items: frozenset[str] = frozenset()
    until: _Chain | None = None

    def before(self) -> tuple[list[str], bool]:
        """As `_links`: what it knows of those before it."""
        return ([self.previous], False) if self.previous else ([], True)

    def size(self) -> int:
        """How much memory it takes, in bytes, about."""
        history = History.of(self.messages) if self.until is None else self.until.history
        return size_in_memory(history.bound(0) + history.image_characters, 1 + history.end)


class HistoryReader:
    """Reads history from a conversation, or along a chain of ``previous_response_id``.

    Args:
        store: The records of responses.
        items: The logs of conversations.
        keyring: Their keys.
        opened: Keeps links that were read.
    """

    def __init__(self, store: ResponseStore, items: ItemLog, keyring: Keyring, opened: Opened | None = None) -> None:
        self._store = store
        self._items = items
        self._keyring = keyring
        self._opened = opened or Opened(0)

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
            return Spoken.before(log, own)
        return await self._chain(tenant, request)

    async def check_links(self, tenant: str, request: TurnRequest) -> None:
        """Refuses a chain that was broken, however far back: one round trip for all links that are kept, and one for
        `_KNOWN_LINKS` others.

        Raises:
            NotFound: A response of the chain was deleted.
        """
        links, whole = _links(request)
        kept: list[str] = []
        looked = 0
        while links and looked < _LONGEST_CHAIN:
            known = self._known(tenant, links)
            unknown = [response_id for response_id, link in known.items() if link is None]
            headers = await self._store.headers(unknown) if unknown else []
            for response_id, header in zip(unknown, headers, strict=True):
                self._check_link(tenant, response_id, header)
            kept += [response_id for response_id, link in known.items() if link is not None]
            looked += len(known)
            oldest = known[next(reversed(known))]
            if oldest is not None and oldest.until is not None:
                kept += oldest.until.ids[:-1]
                break
            if whole or (oldest is None and headers[-1] is not None and headers[-1].conversation):
                break
            if oldest is None:
                _, _, asked = await self.read_link(tenant, links[-1], headers[-1])
                links, whole = _links(asked)
            else:
                links, whole = oldest.before()
        await self._still_there(kept)

    async def _log(self, tenant: str, conversation_id: str) -> StoredLog:
        with damage_told(f"the key of conversation '{conversation_id}'"):
            key = await self._keyring.get(tenant, CONVERSATION, conversation_id)
        try:
            if key is not None:
                return await self._items.load_log(KeyedObject(CONVERSATION, conversation_id, key))
        except LogGoneError:
            pass
        raise NotFound(f"Conversation with id '{conversation_id}' not found.", param="conversation")

    async def _chain(self, tenant: str, request: TurnRequest) -> History:
        newest_first = await self._walk(tenant, request)
        if not newest_first:
            return History.of([])
        oldest = newest_first.pop()
        added = [message for link in reversed(newest_first) for message in link.messages]
        if oldest.conversation:
            log = await self._log(tenant, oldest.conversation)
            return History.of([*Spoken.until(log, oldest.items).messages, *added])
        chain, oldest.until = oldest.until or _Chain(History.of(oldest.messages), [oldest.id]), None
        ids = [*chain.ids, *(link.id for link in reversed(newest_first))]
        history = chain.history.with_added(added)
        newest = newest_first[0] if newest_first else oldest
        if len(ids) < _LONGEST_CHAIN:
            newest.until = _Chain(history, ids)
        for link in (oldest, newest):
            key = self._keyring.known(tenant, RESPONSE, link.id)
            if key is not None and self._kept(tenant, link.id) is link:
                self._opened.put(KeyedObject(RESPONSE, link.id, key), link, link.size())
        return history

    async def _walk(self, tenant: str, request: TurnRequest) -> list[_Link]:
        """The links of a chain, newest first, up to one that knows what was said before it. Those that are not kept are
        read: two round trips for `_KNOWN_LINKS` of them."""
        links, whole = _links(request)
        walked: list[_Link] = []
        kept: list[str] = []
        while links and len(walked) < _LONGEST_CHAIN:
            known = self._known(tenant, links)
            unknown = [response_id for response_id, link in known.items() if link is None]
            read = await self._read_links(tenant, unknown) if unknown else {}
            for response_id, link in known.items():
                if link is not None:
                    kept += [response_id] if link.until is None else link.until.ids
                walked.append(link or read[response_id][0])
                if walked[-1].conversation:
                    break
            if whole or walked[-1].conversation or walked[-1].until is not None:
                break
            links, whole = walked[-1].before() if known[response_id] else _links(read[response_id][1])
        await self._still_there(kept)
        return walked

    def _known(self, tenant: str, links: Sequence[str]) -> dict[str, _Link | None]:
        """Links by their ids, as far as they are kept, up to one that knows what was said before it."""
        known: dict[str, _Link | None] = {}
        for response_id in links:
            link = known[response_id] = self._kept(tenant, response_id)
            if link is not None and link.until is not None:
                break
        return known

    async def _read_links(self, tenant: str, links: Sequence[str]) -> dict[str, tuple[_Link, TurnRequest]]:
        """Links of a chain, newest first, up to one that is part of a conversation, and what was asked in them."""
        found: list[tuple[Header, KeyedObject]] = []
        for response_id, header in zip(links, await self._store.headers(links), strict=True):
            found.append(await self._find_link(tenant, response_id, header))
            if found[-1][0].conversation:
                break
        try:
            turns = await self._store.turns([keyed for _, keyed in found])
        except RecordGoneError as error:
            raise no_previous(error.args[0]) from error
        read = {}
        for (header, keyed), (request, body) in zip(found, turns, strict=True):
            items = [*request.input, *body["output"]]
            messages = [] if is_unanswered(body["status"], body["output"]) else item_messages(items)
            link = _Link(header.id, request.previous_response_id, messages)
            if header.conversation:
                link.conversation, link.items = header.conversation, frozenset(item["id"] for item in items)
            elif header.done:
                self._opened.put(keyed, link, link.size())
            read[header.id] = (link, request)
        return read

    def _kept(self, tenant: str, response_id: str) -> _Link | None:
        """A link that is kept. Whether it is still there has yet to be asked."""
        key = self._keyring.known(tenant, RESPONSE, response_id)
        link: _Link | None = None if key is None else self._opened.get(KeyedObject(RESPONSE, response_id, key))
        return link

    async def _still_there(self, kept: Sequence[str]) -> None:
        """Raises `NotFound` if one of the links that were kept was deleted; in one round trip unless it was."""
        if not kept or await self._store.all_there(kept):
            return
        for response_id, header in zip(kept, await self._store.headers(kept), strict=True):
            if header is None:
                raise no_previous(response_id)

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
