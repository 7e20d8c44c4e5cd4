"""Reasoning that a caller keeps: ``encrypted_content``, sealed here and opened when it comes back.

Who stores nothing with us (``store: false``) sends the items of a response back with the next turn. What the model
thought then stands in its prompt again, so it must be what the model thought: sealed under a key of the tenant, it
opens for no other, and nobody else can make one. The model is inside: what one model thought is none of another's.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

import orjson
from cloister_common.errors import InvalidRequest
from cloister_common.vault import Keyring, VaultError, encode_context, open_record, seal

from cloister_gateway.runs.transcript import SealThought
from cloister_gateway.storage.layout import REASONING

__all__ = ["KeptThought", "ReasoningSeals"]


class KeptThought(NamedTuple):
    """What was sealed.

    Attributes:
        model: The public name of the model that thought it.
        text: What it thought.
    """

    model: str
    text: str


class ReasoningSeals:
    """Seals and opens reasoning. One instance serves all tenants.

    Args:
        keyring: Has their keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def sealer(self, tenant: str, model: str) -> SealThought:
        """What seals the reasoning of ``model`` for the tenant."""
        key = (await self._keyring.obtain(tenant, REASONING, tenant)).subkey("record")
        context = _context(tenant)

        def sealed(text: str) -> str:
            said = orjson.dumps({"model": model, "text": text})
            return urlsafe_b64encode(seal(key, said, context)).decode()

        return sealed

    async def open(self, tenant: str, sealed: str, *, param: str) -> KeptThought:
        """What was sealed for the tenant.

        Raises:
            InvalidRequest: Nothing was: another tenant's and what nobody sealed are the same error, as OpenAI's.
        """
        key = await self._keyring.obtain(tenant, REASONING, tenant)
        try:
            record = urlsafe_b64decode(sealed.encode("ascii"))
            said = orjson.loads(open_record(key.subkey("record"), record, _context(tenant)))
        except (VaultError, ValueError, binascii.Error) as error:
            raise InvalidRequest(
                f"The encrypted content of '{param}' could not be verified. Send it as it came, with a key of the same "
                "project, or leave the item out.",
                param=param,
                code="invalid_encrypted_content",
            ) from error
        return KeptThought(said["model"], said["text"])


def _context(tenant: str) -> bytes:
    return encode_context("reasoning", tenant)
