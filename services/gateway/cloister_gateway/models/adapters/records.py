"""Adapters as they are stored, and handed about: a name that callers know, and the versions behind it."""

import hashlib
import random
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from cloister_gateway.storage.records import Record

__all__ = ["AdapterRecord", "Version", "chosen"]


class Version(BaseModel):
    """The bytes of an adapter, by their digest.

    Attributes:
        adapter: Whose it is.
        digest: ``sha256:`` and 64 digits, as the pods compute it of the folder.
        folder: Where it lies on the pods' volume.
        share: Percent of the conversations that get it. 0: it is being loaded, and nobody gets it yet.
        created_at: When it was named first (Unix seconds).
    """

    model_config = ConfigDict(frozen=True)

    adapter: str
    digest: str
    folder: str
    share: int = 0
    created_at: int = 0

    @property
    def served(self) -> str:
        """What pods call it. No two versions have one name, since vLLM keys its prefix cache by it."""
        return f"{self.adapter}@{self.digest}"


class AdapterRecord(Record):
    """One adapter.

    Attributes:
        name: As callers know it.
        base_model: The model it was trained for.
        projects: Ids of the projects that may use it.
        versions: The one that most get first.
        created_at: When it was named first (Unix seconds).
    """

    name: str
    base_model: str
    projects: tuple[str, ...]
    versions: tuple[Version, ...] = ()
    created_at: int

    @property
    def live(self) -> tuple[Version, ...]:
        """The versions that answer."""
        return tuple(version for version in self.versions if version.share)

    def version(self, digest: str) -> Version | None:
        """The version with that digest."""
        return next((version for version in self.versions if version.digest == digest), None)

    def with_versions(self, *versions: Version) -> "AdapterRecord":
        """The same with other versions."""
        return self.model_copy(update={"versions": versions})


def chosen(versions: Sequence[Version], affinity: str | None) -> Version:
    """The version for a conversation: always the same while the shares are.

    The last one's share is filled first, with conversations that stay in it when it grows. Who has no conversation is
    dealt by chance.
    """
    if len(versions) == 1:
        return versions[0]
    # Another digest than the one that ranks pods: or the share would be a share of the pods.
    place = random.randrange(100) if affinity is None else _place(versions[0].adapter, affinity)  # noqa: S311 - no secret
    for version in reversed(versions):
        if place < version.share:
            return version
        place -= version.share
    return versions[0]


def _place(adapter: str, affinity: str) -> int:
    digest = hashlib.blake2b(affinity.encode(), key=adapter.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest) % 100
