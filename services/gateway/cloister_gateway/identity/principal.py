"""Who is calling: the outcome of authentication, and all that the rest of the gateway knows of a credential."""

from dataclasses import dataclass
from typing import Literal

from cloister_common.caller import NOBODY, Caller
from cloister_common.errors import Forbidden

__all__ = [
    "ADMIN_SCOPE",
    "ALL_FILES",
    "API_SCOPE",
    "DATA_SCOPES",
    "SERVER_STATE_ONLY",
    "Credential",
    "CredentialKind",
    "Principal",
]

CredentialKind = Literal["api_key"]

API_SCOPE = "api"
"""All of the data API."""

ADMIN_SCOPE = "admin"
"""The administration of the organization. Never together with a data scope."""

SERVER_STATE_ONLY = "server_state_only"
"""Not a permission but a fence: of what a prompt is made of, the caller writes user messages, and changes nothing.

It may delete whole conversations, since it may begin new ones; nothing inside them.
"""

ALL_FILES = "all_files"
"""Not a part of the data API but a right within `files` and `vector_stores`: over every file, whatever its access list
says. `API_SCOPE` does not have it."""

DATA_SCOPES = frozenset(
    {"batches", "chat", "conversations", "embeddings", "files", "models", "rerank", "responses", "vector_stores"}
)
"""The parts of the data API, each a scope of its own."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What proved who calls.

    Attributes:
        kind: Which verifier judged it.
        id: Its public name (``key_…``): in logs, and what revokes it.
        expires_at: Unix seconds at which it ends, if it does: what is done for its caller ends then too.
    """

    kind: CredentialKind
    id: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        tenant: The project's id; empty for those who administer, who belong to no project.
        subject: Who it is within the tenant: of an API key, its service account (which the key's HMAC does not cover,
            so nothing may be allowed for its sake), or the `ORGANIZATION`.
        credential: What proved it.
        scopes: What it may do, and the fences it has.
        groups: What it belongs to, as whoever issued the credential says.
        user: Who it is to access lists of files: a person, as whoever issued the credential says; None for a service.
    """

    tenant: str
    subject: str
    credential: Credential
    scopes: frozenset[str]
    groups: frozenset[str] = frozenset()
    user: str | None = None

    @property
    def payer(self) -> str:
        """Who it is to limits and records of usage: the person who holds the credential, else the service account."""
        return self.subject if self.user is None else self.user

    @property
    def reader(self) -> Caller:
        """Who it is to those who keep files."""
        if self.user is None and not self.groups and ALL_FILES not in self.scopes:
            return NOBODY
        return Caller(user=self.user, groups=tuple(sorted(self.groups)), all_files=ALL_FILES in self.scopes)

    @property
    def server_state_only(self) -> bool:
        """Whether the caller may add nothing but user messages to what the server stores, and take nothing away."""
        return SERVER_STATE_ONLY in self.scopes

    def keep_fence(self, refused: str, *, param: str | None = None) -> None:
        """Raises `Forbidden` for a fenced caller: its key may not ``refused``, which would change a later prompt."""
        if self.server_state_only:
            raise Forbidden(
                f"This API key is marked '{SERVER_STATE_ONLY}': it may not {refused}. It adds messages of the user, "
                "and deletes whole conversations; for anything else use a key without the mark.",
                param=param,
                code=SERVER_STATE_ONLY,
            )

    def allows(self, scope: str) -> bool:
        """Whether the credential covers ``scope``."""
        return scope in self.scopes or (scope in DATA_SCOPES and API_SCOPE in self.scopes)

    def require(self, scope: str, *, param: str | None = None) -> None:
        """Raises `Forbidden`, with the mend, unless the credential covers ``scope``, which ``param`` needs."""
        if self.allows(scope):
            return
        if scope == ADMIN_SCOPE:
            raise Forbidden("This needs an administration key; the key sent is a project's.")
        if not self.tenant:
            raise Forbidden("Administration keys cannot use models or data. Use a key of a project.")
        needed = "" if param is None else f", which '{param}' needs"
        raise Forbidden(
            f"The API key lacks the scope '{scope}'{needed}. Use one that has it, or '{API_SCOPE}'.", param=param
        )
