"""Who asks, as far as it decides which files they see: what the gateway says of a caller to the retriever.

It comes from the credential that the gateway judged, and from nothing that the caller sent. It travels in
`CALLER_HEADER`, as base64url of JSON, since names of people and groups are in any alphabet; only whoever has the
internal token can set it. Without the header a call is made for nobody in particular.
"""

import base64
import binascii

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import HTTPConnection

from cloister_common.errors import InvalidRequest

__all__ = ["CALLER_HEADER", "NOBODY", "Caller", "caller_of"]

CALLER_HEADER = "x-cloister-caller"


class Caller(BaseModel):
    """A caller within their project.

    Attributes:
        user: What the project calls the person; None for a service.
        groups: What they belong to.
        all_files: Whether every file of the project is theirs to see and to change, whatever its access list says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str | None = None
    groups: tuple[str, ...] = ()
    all_files: bool = False

    def headers(self) -> dict[str, str]:
        """What says so in a call; nothing for `NOBODY`."""
        if self == NOBODY:
            return {}
        return {CALLER_HEADER: base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()}


NOBODY = Caller()
"""A caller of whom nothing is known but the project."""


def caller_of(connection: HTTPConnection) -> Caller:
    """The caller an internal call is made for.

    Raises:
        InvalidRequest: The header is there and is none of ours. It is not taken for `NOBODY`'s: what is wrong is told.
    """
    value = connection.headers.get(CALLER_HEADER)
    if value is None:
        return NOBODY
    try:
        return Caller.model_validate_json(base64.b64decode(value, altchars=b"-_", validate=True))
    except (binascii.Error, ValidationError, ValueError) as error:
        raise InvalidRequest(f"The header {CALLER_HEADER} must carry a caller.", param=CALLER_HEADER) from error
