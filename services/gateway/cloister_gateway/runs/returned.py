"""What called functions returned, checked against the calls that there are: to each call one result, to each a call."""

from collections.abc import Iterable, Sequence

from cloister_common.errors import InvalidRequest

from cloister_gateway.identity.principal import Principal
from cloister_gateway.prompt import History
from cloister_gateway.wire.items import Item

__all__ = ["check_all_returned", "check_returned", "speaks_of_calls"]


def speaks_of_calls(items: Iterable[Item]) -> bool:
    """Whether there is a call among ``items``, or what one returned."""
    return any(item["type"] in {"function_call", "function_call_output"} for item in items)


def check_returned(principal: Principal, history: History, items: Sequence[Item], field: str) -> None:
    """Checks items that are to be added to a history.

    Args:
        principal: Who sends them.
        history: What stands before them.
        items: As they would be stored.
        field: What the request calls them.

    Raises:
        InvalidRequest: One returns what was not called, or was returned already, or is a call that is there already.
        Forbidden: The caller is fenced, and it was not the model that called it.
    """
    returned: dict[str, bool] = {}
    for place, item in enumerate(items):
        if item["type"] not in {"function_call", "function_call_output"}:
            continue
        call_id, param = item["call_id"], f"{field}[{place}].call_id"
        call = history.call(call_id)
        if item["type"] == "function_call":
            if call is not None or call_id in returned:
                raise InvalidRequest(f"There is a function call with call_id '{call_id}' already.", param=param)
            returned[call_id] = False
            continue
        if call is None and call_id not in returned:
            raise InvalidRequest(f"No tool call found for function call output with call_id '{call_id}'.", param=param)
        if returned.get(call_id, call is not None and call.answered is not None):
            raise InvalidRequest(f"The function call with call_id '{call_id}' has its output already.", param=param)
        if call is not None and not call.by_model:
            principal.keep_fence("send outputs of calls that the model did not make", param=param)
        returned[call_id] = True


def check_all_returned(history: History, items: Sequence[Item], field: str) -> None:
    """Raises `InvalidRequest` if a call of the history or of ``items`` has returned nothing: no model goes on then."""
    returned = {item["call_id"] for item in items if item["type"] == "function_call_output"}
    called = [item["call_id"] for item in items if item["type"] == "function_call"]
    for call_id in [*history.open_calls, *called]:
        if call_id not in returned:
            raise InvalidRequest(f"No tool output found for function call {call_id}.", param=field)
