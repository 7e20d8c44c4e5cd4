"""The same request sent twice gives the same response: idempotency keys, remembered for a day.

A key is claimed for a response id right before the response's record is made. Redis sees the key and the body only as
names that the tenant's naming key made of them.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from cloister_common.errors import Conflict
from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import ResponseParameters

__all__ = ["Claim", "IdempotencyKeys"]

T = TypeVar("T")

_POLL_SECONDS = 0.1
_WAIT_SECONDS = 3.0
"""How long the record of an earlier claim may take to appear: one write, unless its gateway died before it."""

# KEYS: claim. ARGV: the value to replace, the new one, seconds.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
# KEYS: claim. ARGV: the value to remove.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Claim(NamedTuple):
    """A claim as it stands in Redis."""

    name: str
    value: str


class IdempotencyKeys:
    """Claims keys. One instance serves all callers.

    Args:
        redis: Where claims lie.
        keyring: Makes their names.
        seconds: How long a claim is remembered.
    """

    def __init__(self, redis: Redis, keyring: Keyring, *, seconds: int) -> None:
        self._redis = redis
        self._keyring = keyring
        self._seconds = seconds
        self._replace_script = redis.register_script(_REPLACE)
        self._release_script = redis.register_script(_RELEASE)

    async def claim(
        self,
        principal: Principal,
        key: str,
        parameters: ResponseParameters,
        response_id: str,
        find: Callable[[str], Awaitable[T | None]],
    ) -> Claim | T:
        """Claims ``key`` for a new response.

        Args:
            principal: Whose key it is: others' equal keys are others.
            key: As the caller wrote it.
            parameters: The request; the key belongs to one body only.
            response_id: The new response.
            find: Gives an earlier response by its id, or None if there is none.

        Returns:
            The claim, or what ``find`` gave for the response that has the key already.

        Raises:
            Conflict: The key was used with another body.
        """
        name, body_name = await self._names(principal, key, parameters)
        claim = Claim(name, f"{response_id} {body_name}")
        waited = 0.0
        while True:
            taken: Any = await self._redis.set(name, claim.value, nx=True, ex=self._seconds, get=True)
            if taken is None:
                return claim
            earlier = await find(_response_of(taken, body_name))
            if earlier is not None:
                return earlier
            if waited >= _WAIT_SECONDS and await self._replace_script(
                keys=[name], args=[taken, claim.value, self._seconds]
            ):
                return claim
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS

    async def earlier(
        self,
        principal: Principal,
        key: str,
        parameters: ResponseParameters,
        find: Callable[[str], Awaitable[T | None]],
    ) -> T | None:
        """What ``find`` gives for the response that has ``key`` already; None if there is none, or not yet.

        Raises:
            Conflict: The key was used with another body.
        """
        name, body_name = await self._names(principal, key, parameters)
        taken: Any = await self._redis.get(name)
        return None if taken is None else await find(_response_of(taken, body_name))

    async def _names(self, principal: Principal, key: str, parameters: ResponseParameters) -> tuple[str, str]:
        """The names under which Redis knows the key and the body."""
        body = hashlib.sha256(parameters.model_dump_json().encode()).hexdigest()
        name = await self._keyring.name(principal.tenant, "idempotency", principal.key_id, key)
        return f"idem:{name}", await self._keyring.name(principal.tenant, "idempotency-body", body)

    async def release(self, claim: Claim) -> None:
        """Gives the key back, since nothing was accepted under it."""
        await self._release_script(keys=[claim.name], args=[claim.value])


def _response_of(taken: bytes, body_name: str) -> str:
    """The response that a claim is for. Raises `Conflict` if it was made with another body."""
    response_id, body = taken.decode().split(" ")
    if body != body_name:
        raise Conflict(
            "This idempotency key was used with another request. Use a new key for a new request.",
            code="idempotency_key_reused",
        )
    return response_id
