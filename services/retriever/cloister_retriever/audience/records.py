"""Access lists at rest, and what they say."""

from typing import Any

from cloister_common.caller import Caller
from pydantic import BaseModel

__all__ = ["AccessChange", "FileAccess"]


class FileAccess(BaseModel):
    """The access list of a file. A file without one is everybody's in its project.

    Attributes:
        file_id: The file.
        owner: The user who put the list on the file; None for a service, and where the list does not open.
        users, groups: Who may see the file besides.
    """

    file_id: str
    owner: str | None
    users: frozenset[str]
    groups: frozenset[str]

    @classmethod
    def lost(cls, file_id: str) -> "FileAccess":
        """What stands for a list that does not open: nobody is on it."""
        return cls(file_id=file_id, owner=None, users=frozenset(), groups=frozenset())

    def shows(self, caller: Caller) -> bool:
        """Whether ``caller`` sees the file."""
        named = caller.user is not None and caller.user in self.users
        return named or self.yields(caller) or not self.groups.isdisjoint(caller.groups)

    def yields(self, caller: Caller) -> bool:
        """Whether ``caller`` may change the file and its list, and take the file away."""
        return caller.all_files or (self.owner is not None and caller.user == self.owner)

    def wire(self) -> dict[str, Any]:
        """How it looks to those who may change it."""
        return {"owner": self.owner, "users": sorted(self.users), "groups": sorted(self.groups)}


class AccessChange(BaseModel):
    """The last change of any access list of a project, by which others see that there was one.

    Attributes:
        id: Another one each time.
        at: When it began, in seconds since the epoch.
        settled: Whether everything was written. Until then what is read may be older or newer.
    """

    id: str
    at: float
    settled: bool
