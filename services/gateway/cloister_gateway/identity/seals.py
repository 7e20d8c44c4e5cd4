"""What of identity is sealed: names, since they can tell who uses what for what, the rights of each owner, and what
tickets stand for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from cloister_common.vault import DataKey, Keyring, encode_context, open_record, seal

from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.storage.layout import IDENTITY

__all__ = ["Rights", "Seals"]


@dataclass(frozen=True, slots=True)
class Rights:
    """What the keys of a project, or of the organization, stand on. What is not in here opens nothing.

    Attributes:
        keys: The ids of the keys that live, oldest first.
        adopted: Those of them that were made before there was this record; see `RightsStore.adopt`.
        archived_at: When the project was archived (Unix seconds), if it was.
    """

    keys: tuple[str, ...] = ()
    adopted: frozenset[str] = frozenset()
    archived_at: int | None = None


class Seals:
    """Seals names under a key of the project (or organization) that they belong to, rights under the organization's."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def seal_name(self, owner: str, object_id: str, name: str) -> bytes:
        """Seals ``name`` as that of ``object_id``."""
        return seal((await self._key(owner)).subkey("names"), name.encode(), _name_context(owner, object_id))

    async def open_name(self, owner: str, object_id: str, sealed: bytes) -> str:
        """Opens the sealed name of ``object_id``.

        Raises:
            VaultError: It is not this owner's and object's.
        """
        return open_record((await self._key(owner)).subkey("names"), sealed, _name_context(owner, object_id)).decode()

    async def seal_holder(self, owner: str, key_id: str, user: str, groups: Sequence[str]) -> bytes:
        """Seals who holds the key ``key_id`` of ``owner``: a person, if not empty, and their groups."""
        value = orjson.dumps({"user": user, "groups": list(groups)})
        return seal((await self._key(owner)).subkey("names"), value, _holder_context(owner, key_id))

    async def open_holder(self, owner: str, key_id: str, sealed: bytes) -> tuple[str, frozenset[str]]:
        """Opens who holds a key.

        Raises:
            VaultError: It is not this owner's and key's.
        """
        key = await self._key(owner)
        value = orjson.loads(open_record(key.subkey("names"), sealed, _holder_context(owner, key_id)))
        return value["user"], frozenset(value["groups"])

    async def seal_rights(self, owner: str, rights: Rights) -> bytes:
        """Seals what the keys of ``owner`` stand on, under the organization's key: they are not the owner's to say."""
        value = {"keys": rights.keys, "adopted": sorted(rights.adopted), "archived_at": rights.archived_at}
        return seal((await self._key(ORGANIZATION)).subkey("rights"), orjson.dumps(value), _rights_context(owner))

    async def open_rights(self, owner: str, sealed: bytes) -> Rights:
        """Opens the rights of ``owner``.

        Raises:
            VaultError: They are not this owner's.
        """
        key = await self._key(ORGANIZATION)
        value = orjson.loads(open_record(key.subkey("rights"), sealed, _rights_context(owner)))
        return Rights(tuple(value["keys"]), frozenset(value["adopted"]), value["archived_at"])

    async def seal_ticket(self, name: str, principal: Principal, origin: str | None, until: int) -> bytes:
        """Seals what the ticket ``name`` stands for: who is let in as whom, from where, and until when."""
        credential = principal.credential
        value = {
            "tenant": principal.tenant,
            "subject": principal.subject,
            "credential": [credential.kind, credential.id, credential.expires_at],
            "scopes": sorted(principal.scopes),
            "groups": sorted(principal.groups),
            "user": principal.user,
            "origin": origin,
            "until": until,
        }
        return seal((await self._key(ORGANIZATION)).subkey("tickets"), orjson.dumps(value), _ticket_context(name))

    async def open_ticket(self, name: str, sealed: bytes) -> tuple[Principal, str | None, int]:
        """Opens what the ticket ``name`` stands for, in the order in which it was sealed.

        Raises:
            VaultError: It is not this ticket's.
        """
        key = await self._key(ORGANIZATION)
        value = orjson.loads(open_record(key.subkey("tickets"), sealed, _ticket_context(name)))
        principal = Principal(
            value["tenant"],
            value["subject"],
            Credential(*value["credential"]),
            frozenset(value["scopes"]),
            frozenset(value["groups"]),
            value.get("user"),  # a gateway of the version before may have sealed it
        )
        return principal, value["origin"], value["until"]

    async def _key(self, owner: str) -> DataKey:
        return await self._keyring.obtain(owner, IDENTITY, owner)


def _name_context(owner: str, object_id: str) -> bytes:
    return encode_context("identity-name", owner, object_id)


def _holder_context(owner: str, key_id: str) -> bytes:
    return encode_context("identity-holder", owner, key_id)


def _rights_context(owner: str) -> bytes:
    return encode_context("identity-rights", owner)


def _ticket_context(name: str) -> bytes:
    return encode_context("socket-ticket", name)
