"""The connection to Milvus, without a Milvus."""

from types import SimpleNamespace
from typing import Any

import pytest
from cloister_common.errors import Unavailable
from cloister_retriever.index import connection as module
from cloister_retriever.index.connection import Capabilities, MilvusConnection
from cloister_retriever.settings import MilvusSettings
from pymilvus import MilvusException


@pytest.mark.parametrize("single_writer", [True, False])
async def test_nothing_is_removed_from_a_server_that_has_just_come_back(
    monkeypatch: pytest.MonkeyPatch, single_writer: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    connection = MilvusConnection(MilvusSettings(uri="http://127.0.0.1:1"))

    def connect() -> Any:
        connection.capabilities = Capabilities("v", single_writer=single_writer)

    monkeypatch.setattr(connection, "_connect", connect)

    def fails(_: Any) -> None:
        raise MilvusException(code=2, message="away")

    await connection.run(lambda _: None)
    connection.require_settled()
    with pytest.raises(Unavailable):
        await connection.run(fails)
    await connection.run(lambda _: None)
    if not single_writer:
        with pytest.raises(Unavailable) as early:
            connection.require_settled()
        assert early.value.retry_after == 30
        now += 30
    connection.require_settled()
    await connection.close()
