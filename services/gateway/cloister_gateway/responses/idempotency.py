"""The same turn asked for twice gives the same response: idempotency keys, remembered for a day.

A key is claimed for a response in the one write that accepts it (`cloister_gateway.runs.acceptance`), so that a claim
without a response is one whose response was deleted. Only in a Redis Cluster, for a turn in a conversation, does the
claim come right before. A claim is sealed under a key of the
tenant and bound to its own name, which is made of the tenant, the API key and the idempotency key: whoever can write
to Redis can remove a claim, and cannot make one, nor point one at a response of somebody else. Claims of the version
before lie under other names and were not sealed. They are not read, and go within a day: a request that is repeated
across that upgrade is a new one.
"""

import hashlib
from typing import Any, NamedTuple

import orjson
from cloister_common.errors import Conflict
from cloister_common.vault import Keyring, encode_context, open_record, seal
from redis.asyncio import Redis

from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.runs.acceptance import Claim
from cloister_gateway.storage import damage_told
from cloister_gateway.storage.layout import CLAIMS, claim_key

__all__ = ["Asked", "IdempotencyKeys"]

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

    async def name(self, asked: Asked) -> str:
        """The key under which Redis knows the claim."""
        parts = ("idempotency-claim", asked.principal.credential.id, asked.key)
        return claim_key(await self._keyring.name(asked.principal.tenant, *parts))

    async def claim(self, asked: Asked, name: str, response_id: str) -> Claim:
        """The claim of the key for a new response, to be written together with it."""
        tenant = asked.principal.tenant
        key = await self._keyring.obtain(tenant, CLAIMS, tenant)
        said = orjson.dumps({"response": response_id, "turn": asked.fingerprint})
        return Claim(name, seal(key.subkey("record"), said, _context(tenant, name)), b"", self._seconds)

    async def put(self, claim: Claim) -> bytes | None:
        """Writes a claim alone, before its response: where the two cannot lie in one slot of a cluster.

        Returns:
            The claim of somebody else that stands there, or None.
        """
        with damage_told(_WHAT):
            again = (claim.replaces, claim.value, claim.seconds)
            if claim.replaces and await self._replace_script(keys=[claim.key], args=again):
                return None
            taken: Any = await self._redis.set(claim.key, claim.value, nx=True, ex=claim.seconds, get=True)
        return None if taken is None else bytes(taken)

    async def release(self, claim: Claim) -> None:
        """Gives the key back, since nothing was accepted under it."""
        await self._release_script(keys=[claim.key], args=[claim.value])

    async def open(self, asked: Asked, name: str, sealed: bytes) -> str:
        """The response that a claim is for.

        Raises:
            Conflict: The key was used with another turn.
            DamagedError: The claim that stands there is not one of ours.
        """
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
