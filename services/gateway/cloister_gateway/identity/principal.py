"""Who is calling: the outcome of authentication, and all that the rest of the gateway knows of a credential."""

from dataclasses import dataclass
from typing import Literal

from cloister_common.errors import Forbidden

__all__ = ["ADMIN_SCOPE", "API_SCOPE", "DATA_SCOPES", "SERVER_STATE_ONLY", "Principal"]

API_SCOPE = "api"
"""All of the data API."""

ADMIN_SCOPE = "admin"
"""The administration of the organization. Never together with a data scope."""

SERVER_STATE_ONLY = "server_state_only"
"""Not a permission but a fence: the caller may write user messages only, and no history of its own."""

DATA_SCOPES = frozenset(
    {"batches", "chat", "conversations", "embeddings", "files", "models", "rerank", "responses", "vector_stores"}
)
"""The parts of the data API, each a scope of its own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Attributes:
        tenant: The project's id; empty for administration keys, which belong to no project.
        key_id: The credential's id (``key_…``).
        scopes: What it may do, and the fences it has.
        kind: Whether it acts in a project or administers the organization.
        expires_at: Unix seconds at which the credential ends, if it does: open sockets end then too.
    """

    tenant: str
    key_id: str
    scopes: frozenset[str]
    kind: Literal["project", "admin"]
    expires_at: int | None = None

    @property
    def server_state_only(self) -> bool:
        """Whether the caller may add nothing but user messages to what the server stores."""
        return SERVER_STATE_ONLY in self.scopes

    def allows(self, scope: str) -> bool:
        """Whether the credential covers ``scope``."""
        return scope in self.scopes or (scope in DATA_SCOPES and API_SCOPE in self.scopes)

    def require(self, scope: str) -> None:
        """Raises `Forbidden`, with the mend, unless the credential covers ``scope``."""
        if self.allows(scope):
            return
        if scope == ADMIN_SCOPE:
            raise Forbidden("This needs an administration key; the key sent is a project's.")
        if self.kind == "admin":
            raise Forbidden("Administration keys cannot use models or data. Use a key of a project.")
        raise Forbidden(f"The API key lacks the scope '{scope}'. Use a key that has it, or '{API_SCOPE}'.")
