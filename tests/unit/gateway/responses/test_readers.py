"""A reader that comes while a run ends, elsewhere and between two of its looks, gets all events all the same."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from cloister_common.vault import DataKey
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.store import Header
from cloister_gateway.storage import RESPONSE, KeyedObject
from cloister_gateway.streams.feeds import Feed

EVENTS = [orjson.dumps({"type": "response.created"}), orjson.dumps({"type": "response.completed"})]


class Elsewhere:
    """Record and stream of a run at another gateway, which ends right after somebody began to watch or to read."""

    ended = False

    async def header(self, response_id: str) -> Header:
        return Header(response_id, "proj_a", "", stored=True, background=False, done=self.ended)

    async def read(self, _keyed: KeyedObject, _field: str) -> dict[str, Any]:
        body = {"status": "completed" if self.ended else "in_progress"}
        self.ended = True
        return body

    @asynccontextmanager
    async def watch(self, keyed: KeyedObject) -> AsyncIterator[Feed]:
        feed = Feed(keyed)
        if self.ended:
            feed.extend(0, EVENTS, final=True)
        self.ended = True
        yield feed


async def test_a_run_that_ends_while_a_reader_comes_is_told_from_its_beginning() -> None:
    run: Any = Elsewhere()
    service: Any = ResponseService.__new__(ResponseService)
    service._store = service._hub = run
    keyed = KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a"))
    events = [event async for batch in service.events(keyed, after=-1) for event in batch]
    assert events == EVENTS
