"""Access lists on the wire. OpenAI's schema has none: a project is as fine as it goes."""

from collections.abc import Mapping
from typing import Annotated, Self

from cloister_common.bodies import parse_json
from cloister_common.errors import InvalidRequest
from cloister_common.validation import body_error
from cloister_common.wire.requests import RequestModel
from pydantic import Field, StringConstraints, ValidationError

__all__ = ["AccessList"]

_Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class AccessList(RequestModel):
    """Who may see a file besides its owner: the people and groups that API keys name. Both may be empty."""

    users: list[_Name] = Field([], max_length=1000, fail_fast=True)
    groups: list[_Name] = Field([], max_length=1000, fail_fast=True)

    @classmethod
    def of_form(cls, fields: Mapping[str, str]) -> Self | None:
        """What a form says of it, in JSON, in its field ``access``.

        Raises:
            InvalidRequest: It is no access list.
        """
        if "access" not in fields:
            return None
        try:
            return cls.model_validate(parse_json(fields["access"].encode()))
        except ValidationError as error:
            found = body_error(error)
            place = f"access.{found.param}" if found.param else "access"
            raise InvalidRequest(f"'access' is no access list: {found.message}", param=place) from None
        except InvalidRequest as error:
            raise InvalidRequest("'access' of a form must be JSON.", param="access", code=error.error_code) from None
