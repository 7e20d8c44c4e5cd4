"""A key that one gateway destroys is forgotten by all of them.

Each has unwrapped keys in its memory for a while. The word of a destroyed one goes over the bus; whenever words may
have been lost, everything in memory is dropped.
"""

from typing import Any

from cloister_common.vault import Keyring

from cloister_gateway.bus.announcements import Announcements

__all__ = ["share_forgetting"]

_DESTROYED = "vault.destroyed"


def share_forgetting(keyring: Keyring, announcements: Announcements) -> None:
    """Tells the other gateways of every key that ``keyring`` destroys, and has it forget what they destroy."""

    async def tell(tenant: str, kind: str, object_id: str) -> None:
        await announcements.publish(_DESTROYED, {"tenant": tenant, "kind": kind, "id": object_id})

    def hear(payload: dict[str, Any]) -> None:
        keyring.forget(payload["tenant"], payload["kind"], payload["id"])

    keyring.on_destroyed(tell)
    announcements.subscribe(_DESTROYED, hear, on_resync=keyring.forget_all)
