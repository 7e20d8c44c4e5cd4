"""Tickets in Redis, each under the hash of what opens with it, and sealed: who is let in, from where, and until when.

They are taken out as they are read, by one command, so that of many who send the same ticket one gets in. The end is
inside the seal too, by Redis's clock and not by those of gateways, which may be apart: a record that was taken and is
put back opens nothing after its time.
"""

import hashlib
from typing import NamedTuple

from redis.asyncio import Redis

from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.seals import Seals
from cloister_gateway.storage.layout import ticket_key

__all__ = ["TakenTicket", "TicketStore"]

# KEYS: a ticket, whose node says the time. Gives Unix seconds.
_NOW = "return tonumber(redis.call('TIME')[1])"
# KEYS: a ticket. Gives it, if it is there, and Unix seconds; it is gone then.
_TAKE = "local found = redis.call('GETDEL', KEYS[1]) return {found, tonumber(redis.call('TIME')[1])}"


class TakenTicket(NamedTuple):
    """What a ticket stood for.

    Attributes:
        principal: Who is let in, as the key proved it.
        origin: The origin of the page that may use it; None where no browser may.
    """

    principal: Principal
    origin: str | None


class TicketStore:
    """Writes tickets, and takes each once."""

    def __init__(self, redis: Redis, seals: Seals) -> None:
        self._redis = redis
        self._seals = seals
        self._now_script = redis.register_script(_NOW)
        self._take_script = redis.register_script(_TAKE)

    async def put(self, token: str, principal: Principal, origin: str | None, *, seconds: int) -> int:
        """Stores a ticket for so many seconds; gives its end, in Unix seconds."""
        name = _name(token)
        until = await self._now_script(keys=[ticket_key(name)]) + seconds
        sealed = await self._seals.seal_ticket(name, principal, origin, until)
        await self._redis.set(ticket_key(name), sealed, ex=seconds)
        return int(until)

    async def take(self, token: str) -> TakenTicket | None:
        """What the ticket stood for, to the first who asks; None where there is none, or its time is over.

        Raises:
            VaultError: What lies there is not what was written.
        """
        name = _name(token)
        sealed, now = await self._take_script(keys=[ticket_key(name)])
        if sealed is None:
            return None
        principal, origin, until = await self._seals.open_ticket(name, sealed)
        return TakenTicket(principal, origin) if now < until else None


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
