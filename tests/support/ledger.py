"""What the ledger of an installation has, row by row, and what a plan from its first turn lets expect of the others."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from cloister_common.settings import load_settings
from cloister_gateway.commands import open_directory
from cloister_gateway.planning import UsageQuestion
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage.records import Row
from cloister_gateway.usage.store import UsageStore

from tests.support.stack import Stack

__all__ = ["question_of", "rows_of"]

_DAY = 86_400


def rows_of(stack: Stack) -> dict[str, Row]:
    """The rows of yesterday and today, of all projects, by the ids of their generations."""
    return asyncio.run(_rows(load_settings(GatewaySettings, stack.var / "config" / "gateway.yaml")))


async def _rows(settings: GatewaySettings) -> dict[str, Row]:
    async with open_storage(settings.redis, settings.vault) as (redis, keyring), open_directory(settings) as directory:
        store = UsageStore(redis, keyring, settings.usage)
        days = [time.strftime("%Y%m%d", time.gmtime(at)) for at in (time.time() - _DAY, time.time())]
        projects = await directory.project_ids()
        return {row.id: row for project in projects for day in days for row in await store.rows(project, day)}


def question_of(first: Row, *, turns: int, answer: int, more: Mapping[str, Any] | None = None) -> UsageQuestion:
    """What somebody asks who has seen one turn of a conversation, and knows how long answers are.

    Args:
        first: The row of its first turn.
        turns: Of the conversation.
        answer: Tokens of an answer.
        more: Fields beside.
    """
    assert first.used.split is not None
    around = 5
    said = {
        "turns": turns,
        "system_tokens": max(0, first.used.system - around),
        "message_tokens": first.used.new - 2 * around,
        "answer_tokens": answer,
        "template_tokens": around,
    }
    return UsageQuestion.model_validate({"users": 1, "conversation": said, **(more or {})})
