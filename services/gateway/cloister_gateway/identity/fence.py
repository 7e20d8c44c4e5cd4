"""What a key marked ``server_state_only`` may send as items: messages of the user, and what called functions returned.

Whether it was the model that called them, what stands in the conversation tells: `cloister_gateway.runs.returned`.
"""

from collections.abc import Sequence

from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.inputs import FunctionCallOutput, InputItem, InputMessage

__all__ = ["check_items"]


def check_items(principal: Principal, items: Sequence[InputItem], field: str) -> None:
    """Raises `Forbidden` for the first item in ``field`` that the caller's fence keeps out."""
    if not principal.server_state_only:
        return
    for place, item in enumerate(items):
        if isinstance(item, InputMessage):
            if item.role != "user":
                principal.keep_fence(f"send messages with role '{item.role}'", param=f"{field}[{place}].role")
        elif not isinstance(item, FunctionCallOutput):
            principal.keep_fence(f"send items of type '{item.type}'", param=f"{field}[{place}].type")
