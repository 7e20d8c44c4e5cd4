"""Access lists on the wire. OpenAI's schema has none: a project is as fine as it goes."""

from typing import Annotated

from cloister_common.wire.requests import RequestModel
from pydantic import Field, StringConstraints

__all__ = ["AccessList"]

_Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class AccessList(RequestModel):
    """Who may see a file besides its owner: the people and groups that API keys name. Both may be empty."""

    users: list[_Name] = Field([], max_length=1000, fail_fast=True)
    groups: list[_Name] = Field([], max_length=1000, fail_fast=True)
