"""What a key marked ``server_state_only`` may send as items: messages of the user, what called functions returned, and
references to items that the server has (of which `cloister_gateway.runs.inputs` looks at what they name).

Whether it was the model that called them, what stands in the conversation tells: `cloister_gateway.runs.returned`.
"""

from collections.abc import Sequence

from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.inputs import FunctionCallOutput, InputItem, InputMessage
from cloister_gateway.wire.own import ItemReference

__all__ = ["check_items"]


def check_items(principal: Principal, items: Sequence[InputItem], field: str) -> None:
    """Raises `Forbidden` for the first item in ``field`` that the caller's fence keeps out."""
    if not principal.server_state_only:
        return
    for place, item in enumerate(items):
        if isinstance(item, InputMessage):
            if item.role != "user":
                principal.keep_fence(f"send messages with role '{item.role}'", param=f"{field}[{place}].role")
        elif not isinstance(item, FunctionCallOutput | ItemReference):
            principal.keep_fence(f"send items of type '{item.type}'", param=f"{field}[{place}].type")
