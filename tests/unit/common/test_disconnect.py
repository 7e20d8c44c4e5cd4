"""Work for a client ends with it, and an answer that nobody reads has a status of its own."""

import asyncio
from collections.abc import Callable

import pytest
from cloister_common.disconnect import while_connected
from cloister_common.errors import CallerGone
from starlette.requests import Request
from starlette.types import Message


class Client:
    """A client that has sent its request, and may leave."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.request = Request({"type": "http", "headers": []}, self.messages.get)

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.request"})
        self.messages.put_nowait({"type": "http.disconnect"})


async def test_the_result_of_work_whose_client_stays() -> None:
    async def work() -> int:
        return 7

    assert await while_connected(Client().request, work()) == 7


async def test_what_work_raises_reaches_the_client() -> None:
    async def work() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await while_connected(Client().request, work())


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    client = Client()
    ended: list[str] = []

    async def work(began: Callable[[], None]) -> None:
        began()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(CallerGone) as gone:
        await while_connected(client.request, work(client.leave))
    assert ended == ["cancelled"]
    assert gone.value.status == 499
