"""Tickets: each opens one WebSocket, within 30 s, from one origin, for the caller who asked for it.

A page that is given a ticket has nothing that is worth stealing: not the key, and after the handshake not the ticket.
What a ticket opens is exactly what its key would, and ends with that key, also between the two.
"""

import re
import secrets
import string
from typing import NamedTuple

from cloister_common.errors import Unauthenticated
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.ticket_store import TicketStore

__all__ = ["PREFIX", "TICKET_SECONDS", "Ticket", "Tickets"]

log = get_logger(__name__)

PREFIX = "clot_"
TICKET_SECONDS = 30

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LENGTH = 43
"""Characters of base 62: 256 bits, which nobody tries out, so that its plain hash can stand in the store."""
_PATTERN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_LENGTH}}}")


class Ticket(NamedTuple):
    """A new ticket.

    Attributes:
        token: What opens the socket; shown once.
        expires_at: Unix seconds, by Redis's clock, at which it opens nothing any more.
    """

    token: str
    expires_at: int


class Tickets:
    """Gives tickets out and takes them in.

    Args:
        store: Where they lie meanwhile.
        authenticator: Says whether their keys still hold.
    """

    def __init__(self, store: TicketStore, authenticator: Authenticator) -> None:
        self._store = store
        self._authenticator = authenticator

    async def issue(self, principal: Principal, origin: str | None) -> Ticket:
        """A ticket by which ``principal`` opens one socket: a page of ``origin``, or where that is None no browser."""
        token = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        return Ticket(token, await self._store.put(token, principal, origin, seconds=TICKET_SECONDS))

    async def redeem(self, token: str, origin: str | None) -> Principal:
        """The caller that a ticket stands for. It opens nothing from now on, whatever comes of this.

        Nothing may be awaited between this and what watches over the caller's credential, as for
        `Authenticator.authenticate`.

        Raises:
            Unauthenticated: It is not known or was used, its time is over, it is another origin's, or its key has
                ended.
        """
        refusal = Unauthenticated(
            f"The ticket is not valid: it was used already, is older than {TICKET_SECONDS} s, or was made for another "
            "origin. Ask for a new one for each connection.",
            code="invalid_ticket",
        )
        if _PATTERN.fullmatch(token) is None:
            raise refusal
        try:
            taken = await self._store.take(token)
        except VaultError as error:
            log.error("ticket_damaged", exc_info=error)
            raise refusal from error
        if taken is None or taken.origin != origin:
            raise refusal
        return await self._authenticator.readmit(taken.principal)
