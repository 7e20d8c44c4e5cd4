"""Access lists of files in the fake retriever."""

from typing import Any

from fastapi import Request

from cloister_common.caller import Caller, caller_of
from cloister_common.errors import Forbidden, NotFound

__all__ = ["FakeLists"]


class FakeLists:
    """The lists of all files, by their ids."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[str, Any]] = {}

    def is_hidden(self, request: Request, file_id: str) -> bool:
        """Whether the caller does not see the file."""
        found, caller = self._lists.get(file_id), caller_of(request)
        if found is None or self._yields(found, caller):
            return False
        return caller.user not in found["users"] and not set(found["groups"]) & set(caller.groups)

    def see(self, request: Request, file_id: str, param: str | None = None) -> None:
        """Raises `NotFound` for a file that the caller does not see."""
        if self.is_hidden(request, file_id):
            raise NotFound(f"No such file: '{file_id}'.", param=param)

    def change(self, request: Request, file_id: str) -> None:
        """Raises `NotFound` or `Forbidden` for a file that the caller may not change."""
        self.see(request, file_id)
        found = self._lists.get(file_id)
        if found is not None and not self._yields(found, caller_of(request)):
            raise Forbidden(f"The file '{file_id}' has an access list of somebody else's.", code="not_the_owner")

    def put(self, request: Request, file_id: str, wanted: dict[str, Any] | None) -> None:
        """Puts a list on the file, or takes it away."""
        self.change(request, file_id)
        caller = caller_of(request)
        if wanted is None:
            self._lists.pop(file_id, None)
            return
        if caller.user is None and not caller.all_files:
            raise Forbidden("This API key names no user.", param="access", code="access_without_user")
        owner = self._lists.get(file_id, {"owner": caller.user})["owner"]
        lists = {name: sorted(set(wanted.get(name) or [])) for name in ("users", "groups")}
        self._lists[file_id] = {"owner": owner, **lists}

    def inherit(self, request: Request, file_id: str, like: str) -> None:
        """Puts the list of the file ``like``, if it has one, on one that is made from it."""
        if like in self._lists:
            self._lists[file_id] = self._lists[like]

    def shown(self, request: Request, file_id: str) -> dict[str, Any]:
        """What an object says besides: the list, to those who may change it."""
        found = self._lists.get(file_id)
        return {"access": found} if found is not None and self._yields(found, caller_of(request)) else {}

    @staticmethod
    def _yields(found: dict[str, Any], caller: Caller) -> bool:
        return caller.all_files or (caller.user is not None and caller.user == found["owner"])
