"""Whose limits and whose rows of usage an ingestion is: what the gateway says of a caller to the retriever.

It comes from the credential that the gateway judged. It travels in `PAYER_HEADER`, as base64url of JSON, since names of
people are in any alphabet; only whoever has the internal token can set it.
"""

import base64
import binascii

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import HTTPConnection

from cloister_common.errors import InvalidRequest

__all__ = ["PAYER_HEADER", "Payer", "payer_of"]

PAYER_HEADER = "x-cloister-payer"


class Payer(BaseModel):
    """Who pays, within a project. It is kept with what was attached, so a version before takes one that says more.

    Attributes:
        key: The credential, by its public name.
        user: The person who holds it, else its service account.
        asks: Whether there are limits, so that a gateway is to be asked before anything is embedded.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    user: str
    asks: bool = False

    def headers(self) -> dict[str, str]:
        """What says so in a call."""
        return {PAYER_HEADER: base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()}


def payer_of(connection: HTTPConnection) -> Payer | None:
    """Who pays for what an internal call puts into a store; None where nobody says, and nothing is written down.

    Raises:
        InvalidRequest: The header is there and is none of ours.
    """
    value = connection.headers.get(PAYER_HEADER)
    if value is None:
        return None
    try:
        return Payer.model_validate_json(base64.b64decode(value, altchars=b"-_", validate=True))
    except (binascii.Error, ValidationError, ValueError) as error:
        raise InvalidRequest(f"The header {PAYER_HEADER} must carry who pays.", param=PAYER_HEADER) from error
