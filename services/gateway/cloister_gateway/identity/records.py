"""Projects, service accounts and keys, as they are stored and handed about."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ORGANIZATION", "AccountRecord", "KeyRecord", "Kind", "ProjectRecord", "StoredKey"]

ORGANIZATION = "organization"
"""Stands where a project's id would, for the keys that administer all of them."""

Kind = Literal["project", "admin"]


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project, that is, a tenant. Times are Unix seconds.

    Attributes:
        damaged: Whether something of it is not what was written; that is empty then. (The same for the others.)
    """

    id: str
    name: str
    created_at: int
    archived_at: int | None = None
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A service account of a project."""

    id: str
    project: str
    name: str
    created_at: int
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What authentication needs of a key.

    Attributes:
        adopted: Whether the key was made before there were rights; see `RightsStore.adopt`.
        account: The service account whose it is; empty for the organization's. Not part of the grant.
        archived: Whether its project is archived.
        user: Who holds the key, to access lists of files; empty for a service.
        groups: What its holder belongs to.
    """

    id: str
    mac: bytes
    kind: Kind
    tenant: str
    scopes: frozenset[str]
    expires_at: int | None = None
    adopted: bool = False
    account: str = ""
    archived: bool = False
    user: str = ""
    groups: frozenset[str] = frozenset()

    @property
    def owner(self) -> str:
        """The project's id, or `ORGANIZATION`."""
        return self.tenant or ORGANIZATION

    @property
    def grant(self) -> tuple[str, ...]:
        """Whose the key is, what it may do and until when: what its HMAC is made over besides the key itself.

        A key that was made since there are rights says so too, and thus never opens anything as an adopted one; and one
        that has a holder says who that is, and never opens anything as another's, or as one without.
        """
        expiry = "" if self.expires_at is None else str(self.expires_at)
        grant = (self.kind, self.tenant, ",".join(sorted(self.scopes)), expiry)
        listed = grant if self.adopted else (*grant, "listed")
        return (*listed, "held", self.user, *sorted(self.groups)) if self.user or self.groups else listed


@dataclass(frozen=True, slots=True)
class KeyRecord(StoredKey):
    """An API key as it is stored: everything but the secret."""

    name: str = ""
    redacted: str = ""
    created_at: int = 0
    last_used_at: int | None = None
    damaged: bool = False
