"""What a caller keeps for us: ``encrypted_content``, sealed here and opened when it comes back.

Who stores nothing with us (``store: false``) sends the items of a response back with the next turn. What the model
thought, and what it summed up, then stands in its prompt again, so it must be what the model said: sealed under a key
of the tenant, it opens for no other, and nobody else can make one. The model of a thought is inside: what one model
thought is none of another's. A summary is of a conversation, whichever model made it.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple

import orjson
from cloister_common.errors import InvalidRequest
from cloister_common.vault import Keyring, VaultError, encode_context, open_record, seal

from cloister_gateway.runs.transcript import SealThought
from cloister_gateway.storage.layout import REASONING
from cloister_gateway.wire.items import Message

__all__ = ["KeptSummary", "KeptThought", "ReasoningSeals"]


class KeptThought(NamedTuple):
    """What was sealed.

    Attributes:
        model: The public name of the model that thought it.
        text: What it thought.
    """

    model: str
    text: str


class KeptSummary(NamedTuple):
    """What stands for the beginning of a conversation.

    Attributes:
        text: What it says.
        turns: How many turns it stands for.
        keeps: How many of the messages before it it does not stand for.
        kept: What these say, as messages of text: for who sends back nothing that stood before it, as OpenAI says one
            may.
    """

    text: str
    turns: int
    keeps: int
    kept: list[Message]


class ReasoningSeals:
    """Seals and opens reasoning and summaries. One instance serves all tenants.

    Args:
        keyring: Has their keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def sealer(self, tenant: str, model: str) -> SealThought:
        """What seals the reasoning of ``model`` for the tenant."""
        key = (await self._keyring.obtain(tenant, REASONING, tenant)).subkey("record")
        context = encode_context("reasoning", tenant)

        def sealed(text: str) -> str:
            return _sealed(key, {"model": model, "text": text}, context)

        return sealed

    async def open(self, tenant: str, sealed: str, *, param: str) -> KeptThought:
        """What was thought, sealed for the tenant.

        Raises:
            InvalidRequest: Nothing was: another tenant's and what nobody sealed are the same error, as OpenAI's.
        """
        key = (await self._keyring.obtain(tenant, REASONING, tenant)).subkey("record")
        said = _opened(key, sealed, encode_context("reasoning", tenant), param=param)
        return KeptThought(said["model"], said["text"])

    async def seal_summary(self, tenant: str, summary: KeptSummary) -> str:
        """The summary, sealed for the tenant."""
        key = (await self._keyring.obtain(tenant, REASONING, tenant)).subkey("summary")
        return _sealed(key, summary._asdict(), encode_context("summary", tenant))

    async def open_summary(self, tenant: str, sealed: str, *, param: str) -> KeptSummary:
        """The summary that was sealed for the tenant. Raises as `open`."""
        key = (await self._keyring.obtain(tenant, REASONING, tenant)).subkey("summary")
        said = _opened(key, sealed, encode_context("summary", tenant), param=param)
        return KeptSummary(said["text"], said["turns"], said["keeps"], said["kept"])


def _sealed(key: bytes, said: dict[str, Any], context: bytes) -> str:
    return urlsafe_b64encode(seal(key, orjson.dumps(said), context)).decode()


def _opened(key: bytes, sealed: str, context: bytes, *, param: str) -> dict[str, Any]:
    try:
        record = urlsafe_b64decode(sealed.encode("ascii"))
        said: dict[str, Any] = orjson.loads(open_record(key, record, context))
    except (VaultError, ValueError, binascii.Error) as error:
        raise InvalidRequest(
            f"The encrypted content of '{param}' could not be verified. Send it as it came, with a key of the same "
            "project, or leave the item out.",
            param=param,
            code="invalid_encrypted_content",
        ) from error
    return said
