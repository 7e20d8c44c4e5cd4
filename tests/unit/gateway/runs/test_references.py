"""A few ids stand for no more than a body could hold."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.identity.principal import Principal
from cloister_gateway.runs.references import Named, References
from cloister_gateway.storage import KeyedObject

LARGE = {"id": "msg_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 2**20}]}


class Log:
    """The items of one conversation."""

    async def load_log(self, _: Any) -> Any:
        return SimpleNamespace(items=[SimpleNamespace(id=LARGE["id"], body=LARGE)])


async def find(count: int) -> int:
    references = References(cast("Any", None), cast("Any", Log()), cast("Any", None))
    named = [Named("msg_1", f"input[{place}]") for place in range(count)]
    principal = cast("Principal", SimpleNamespace(tenant="proj_a", keep_fence=lambda *_, **__: None))
    return len(await references.find(principal, named, cast("KeyedObject", object()), ()))


async def test_what_is_named_is_bounded_however_often_it_is_named() -> None:
    assert await find(7) == 1
    with pytest.raises(InvalidRequest) as refused:
        await find(8)
    assert refused.value.param == "input[0]"
