"""The same turn asked for twice gives the same response: idempotency keys, remembered for a day.

A key is claimed for a response id right before the response's record is made. A claim is sealed under a key of the
tenant and bound to its own name, which is made of the tenant, the API key and the idempotency key: whoever can write
to Redis can remove a claim, and cannot make one, nor point one at a response of somebody else. Claims of the version
before lie under other names and were not sealed. They are not read, and go within a day: a request that is repeated
across that upgrade is a new one.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import orjson
from cloister_common.errors import Conflict
from cloister_common.vault import Keyring, encode_context, open_record, seal
from redis.asyncio import Redis

from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.storage import damage_told
from cloister_gateway.storage.layout import CLAIMS, claim_key

__all__ = ["Asked", "Claim", "IdempotencyKeys"]

T = TypeVar("T")

_POLL_SECONDS = 0.1
_WAIT_SECONDS = 3.0
"""How long the record of an earlier claim may take to appear: one write, unless its gateway died before it."""

_WHAT = "this idempotency key"
_TRANSPORT = frozenset({"client_request_id", "stream_options"})
"""How a turn is asked for and its events come, among the parameters that HTTP and WebSocket share: the key itself, and
what concerns only the framing of a stream. ``stream``, and a socket's ``type``, ``generate`` and ``stream_id``, are
none of those parameters. ``background`` is no transport: it promises that the run outlives its watchers, the response
shows it, and a run that was begun without cannot be given it afterwards."""

# KEYS: claim. ARGV: the value to replace, the new one, seconds.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
# KEYS: claim. ARGV: the value to remove.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Asked(NamedTuple):
    """A turn that was asked for under an idempotency key.

    Attributes:
        principal: Who asks. Others' equal keys are others.
        key: As the caller wrote it.
        fingerprint: SHA-256, in hex, of what the turn means: the key belongs to one turn only.
    """

    principal: Principal
    key: str
    fingerprint: str

    @classmethod
    def of(cls, principal: Principal, key: str, parameters: ResponseParameters, *, background: bool) -> "Asked":
        """The turn, whichever transport it came by, and however the caller ordered and spelt out its parameters."""
        meant = parameters.model_dump(include=_MEANT, exclude_none=True, by_alias=True)
        raw = orjson.dumps({**meant, "background": background}, option=orjson.OPT_SORT_KEYS)
        return cls(principal, key, hashlib.sha256(raw).hexdigest())


_MEANT = set(ResponseParameters.model_fields) - _TRANSPORT


class Claim(NamedTuple):
    """A claim as it stands in Redis."""

    name: str
    value: bytes


class IdempotencyKeys:
    """Claims keys. One instance serves all callers.

    Args:
        redis: Where claims lie.
        keyring: Makes their names, and the keys that seal them.
        seconds: How long a claim is remembered.
    """

    def __init__(self, redis: Redis, keyring: Keyring, *, seconds: int) -> None:
        self._redis = redis
        self._keyring = keyring
        self._seconds = seconds
        self._replace_script = redis.register_script(_REPLACE)
        self._release_script = redis.register_script(_RELEASE)

    async def claim(
        self, asked: Asked, response_id: str, find: Callable[[Principal, str], Awaitable[T | None]]
    ) -> Claim | T:
        """Claims the key for a new response.

        Args:
            asked: The turn.
            response_id: The new response.
            find: Gives an earlier response of this caller by its id, or None if there is none.

        Returns:
            The claim, or what ``find`` gave for the response that has the key already.

        Raises:
            Conflict: The key was used with another turn.
            DamagedError: The claim that stands there is not one of ours.
        """
        name = await self._name(asked)
        claim = Claim(name, await self._seal(asked, name, response_id))
        waited = 0.0
        while True:
            with damage_told(_WHAT):
                taken: Any = await self._redis.set(name, claim.value, nx=True, ex=self._seconds, get=True)
            if taken is None:
                return claim
            earlier = await find(asked.principal, await self._open(asked, name, taken))
            if earlier is not None:
                return earlier
            if waited >= _WAIT_SECONDS and await self._replace_script(
                keys=[name], args=[taken, claim.value, self._seconds]
            ):
                return claim
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS

    async def earlier(self, asked: Asked, find: Callable[[Principal, str], Awaitable[T | None]]) -> T | None:
        """What ``find`` gives for the response that has the key already; None if there is none, or not yet.

        Raises:
            Conflict, DamagedError: As `claim`.
        """
        name = await self._name(asked)
        with damage_told(_WHAT):
            taken: Any = await self._redis.get(name)
        return None if taken is None else await find(asked.principal, await self._open(asked, name, taken))

    async def release(self, claim: Claim) -> None:
        """Gives the key back, since nothing was accepted under it."""
        await self._release_script(keys=[claim.name], args=[claim.value])

    async def _name(self, asked: Asked) -> str:
        """The name under which Redis knows the claim."""
        parts = ("idempotency-claim", asked.principal.credential.id, asked.key)
        return claim_key(await self._keyring.name(asked.principal.tenant, *parts))

    async def _seal(self, asked: Asked, name: str, response_id: str) -> bytes:
        tenant = asked.principal.tenant
        key = await self._keyring.obtain(tenant, CLAIMS, tenant)
        claim = {"response": response_id, "turn": asked.fingerprint}
        return seal(key.subkey("record"), orjson.dumps(claim), _context(tenant, name))

    async def _open(self, asked: Asked, name: str, sealed: bytes) -> str:
        """The response that a claim is for. Raises `Conflict` if it was made for another turn."""
        tenant = asked.principal.tenant
        with damage_told(_WHAT):
            key = await self._keyring.obtain(tenant, CLAIMS, tenant)
            claim = orjson.loads(open_record(key.subkey("record"), sealed, _context(tenant, name)))
        if claim["turn"] != asked.fingerprint:
            raise Conflict(
                "This idempotency key was used with another request. Use a new key for a new request.",
                code="idempotency_key_reused",
            )
        response_id: str = claim["response"]
        return response_id


def _context(tenant: str, name: str) -> bytes:
    return encode_context("idempotency-claim", tenant, name)
