"""From an ``Authorization`` header to a `Principal`, within a microsecond when it was seen a moment ago.

    verification   who the token proves: one `Verifier` for each kind of credential
    cache          who was verified a moment ago
    revocation     what ends a credential early, here and for what is being done for it
    last_use       when it was used

All that is done for a caller stands in a `Validity`, which ends with the credential.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from cloister_common.errors import Unauthenticated
from cloister_common.supervisor import Supervisor

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity.cache import VerifiedCache
from cloister_gateway.identity.last_use import LastUse
from cloister_gateway.identity.principal import Principal
from cloister_gateway.identity.revocation import Revocations
from cloister_gateway.identity.validity import Validity
from cloister_gateway.identity.verification import Verifier

__all__ = ["Authenticator"]


class _Verification:
    """One that is under way.

    Attributes:
        over: Set when it is.
        error: What it failed with. None too where whoever began it has left.
    """

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.error: Exception | None = None


class Authenticator:
    """Says who calls.

    Args:
        verifiers: Judge what is sent, one for each kind of credential.
        announcements: Brings the word of revocations.
        last_use: Told of each use.
        supervisor: Writes times of last use, and looks at watched credentials again.
    """

    def __init__(
        self, verifiers: Sequence[Verifier], announcements: Announcements, last_use: LastUse, supervisor: Supervisor
    ) -> None:
        self._verifiers = verifiers
        self._last_use = last_use
        self._supervisor = supervisor
        self._cache = VerifiedCache()
        self._under_way: dict[bytes, _Verification] = {}
        self.revocations = Revocations(announcements, self._cache, self._ended)

    def start(self) -> None:
        """Begins to listen for revocations and to write times of use."""
        self.revocations.start(self._supervisor)
        self._last_use.start(self._supervisor)

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """The caller that ``headers`` (of a request or of a WebSocket handshake) prove.

        Raises:
            Unauthenticated: No credential, or one that is malformed, unknown, expired, revoked, or of an archived
                project.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "No API key. Send it in the Authorization header: 'Authorization: Bearer KEY'.", code="missing_api_key"
            )
        fingerprint = self._cache.fingerprint(token)
        return self._admit(self._cache.get(fingerprint) or await self._verified(fingerprint, token))

    async def readmit(self, principal: Principal) -> Principal:
        """The same caller again, who was let in before and comes with something that stands for the credential.

        Raises:
            Unauthenticated: The credential has ended since.
        """
        while True:
            heard = self.revocations.heard
            if await self._ended([principal]):
                raise Unauthenticated("The API key that this was made with was revoked, or its project archived.")
            if heard == self.revocations.heard:
                return self._admit(principal)

    def _admit(self, principal: Principal) -> Principal:
        expires_at = principal.credential.expires_at
        if expires_at is not None and expires_at <= time.time():
            raise Unauthenticated("The API key has expired. Ask for a new one.", code="expired_api_key")
        self._last_use.note(principal)
        return principal

    def while_valid(self, principal: Principal) -> Validity:
        """What interrupts all that is done for ``principal`` when its credential ends: ``async with`` around it.

        Nothing may be awaited between `authenticate` and the beginning of the block.
        """
        return Validity(principal.credential.expires_at, partial(self.revocations.watch, principal))

    async def _verified(self, fingerprint: bytes, token: str) -> Principal:
        """Verifies, once for all who come with the same token meanwhile: where hundreds come at once, each would ask
        Redis the same. If whoever began it leaves, the next of them goes on."""
        while True:
            under_way = self._under_way.get(fingerprint)
            if under_way is None:
                break
            await under_way.over.wait()
            if under_way.error is not None:
                raise under_way.error.with_traceback(None)
            if (principal := self._cache.get(fingerprint)) is not None:
                return principal
        mine = self._under_way[fingerprint] = _Verification()
        try:
            principal = await self._verify(token)
            self._cache.put(fingerprint, principal)
            return principal
        except Exception as error:
            mine.error = error
            raise
        finally:
            del self._under_way[fingerprint]
            mine.over.set()

    async def _verify(self, token: str) -> Principal:
        """Verifies, and again if word of a revocation came meanwhile: whoever came in after it would not be closed."""
        verifier = next((verifier for verifier in self._verifiers if verifier.reads(token)), None)
        if verifier is None:
            raise Unauthenticated("The API key is not valid: it is mistyped, revoked or of another installation.")
        while True:
            heard = self.revocations.heard
            principal = await verifier.verify(token)
            if heard == self.revocations.heard:
                return principal

    async def _ended(self, principals: Collection[Principal]) -> Collection[Principal]:
        """Those whose credential has ended, as the verifiers of their kinds say."""
        ended: list[Principal] = []
        for verifier in self._verifiers:
            if its_own := [principal for principal in principals if principal.credential.kind == verifier.kind]:
                ended += await verifier.ended(its_own)
        return ended
