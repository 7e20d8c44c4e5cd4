"""API keys as proofs: a key is what was issued, unaltered in whose it is and what it may do, and not ended since."""

from collections.abc import Collection, Sequence
from typing import Final, Literal

from cloister_common.errors import Unauthenticated
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError

from cloister_gateway.identity import tokens
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.identity.store import IdentityStore

__all__ = ["ApiKeyVerifier"]

log = get_logger(__name__)


class ApiKeyVerifier:
    """The `Verifier` of API keys.

    Args:
        store: The keys.
        peppers: All verify.
    """

    kind: Final[Literal["api_key"]] = "api_key"

    def __init__(self, store: IdentityStore, peppers: Sequence[bytes]) -> None:
        self._store = store
        self._peppers = peppers

    def reads(self, token: str) -> bool:
        """Whether it begins as every key does."""
        return token.startswith(tokens.PREFIX)

    async def verify(self, token: str) -> Principal:
        """The caller whose key this is. Raises `Unauthenticated` as `Verifier.verify`."""
        refusal = Unauthenticated("The API key is not valid: it is mistyped, revoked or of another installation.")
        key = tokens.parse(token)
        if key is None:
            raise refusal
        try:
            stored = await self._store.stored_key(key.id)
            if stored is None or not tokens.matches(self._peppers, key, stored.mac, *stored.grant):
                raise refusal
            if stored.archived:
                raise Unauthenticated("The project of this API key is archived.", code="project_archived")
        except VaultError as error:
            log.error("rights_damaged", key=key.id, exc_info=error)
            raise refusal from error
        credential = Credential(self.kind, stored.id, stored.expires_at)
        subject = stored.account or stored.owner
        return Principal(stored.tenant, subject, credential, stored.scopes, stored.groups, stored.user or None)

    async def ended(self, principals: Collection[Principal]) -> Collection[Principal]:
        """Those whose key was revoked, or whose project archived, by the store and not by word."""
        keys: dict[str, set[str]] = {}
        for principal in principals:
            keys.setdefault(principal.tenant or ORGANIZATION, set()).add(principal.credential.id)
        live = await self._store.rights.live(keys)
        return [principal for principal in principals if principal.credential.id not in live]
