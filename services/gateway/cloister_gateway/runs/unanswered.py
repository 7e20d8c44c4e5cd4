"""Turns that ended without an answer: the conversation keeps and shows what was asked, and no later turn sends it.

A turn's input is in the conversation before its run begins. Where the run fails, or is cancelled, before the first
character of its answer, a question stands there that nobody answered; sent again with every later turn, it would be
answered in the wrong place. So the end of such a run appends a *mark* to the log, with its output and in one write.
The mark names the items of the turn's input. It is sealed and chained like every item, and never shown.
"""

from collections.abc import Sequence

from cloister_common.ids import new_id

from cloister_gateway.storage import StoredItem
from cloister_gateway.wire.items import Item, item_messages

__all__ = ["is_unanswered", "sent_items", "shown_items", "unanswered_mark"]

_MARK = "cloister.unanswered"


def is_unanswered(status: str, output: Sequence[Item]) -> bool:
    """Whether a turn ended without an answer: neither completed nor with any text in its output."""
    return status != "completed" and not item_messages(output)


def unanswered_mark(asked: Sequence[Item]) -> Item:
    """The item that says of a turn's input items that they were not answered."""
    return {"id": new_id("mark_"), "type": _MARK, "items": [item["id"] for item in asked]}


def shown_items(log: Sequence[StoredItem]) -> list[StoredItem]:
    """What a conversation shows of its log: input of turns without an answer has the status ``incomplete``."""
    unanswered = _unanswered(log)
    return [
        item._replace(body={**item.body, "status": "incomplete"}) if item.id in unanswered else item
        for item in log
        if item.body["type"] != _MARK
    ]


def sent_items(log: Sequence[StoredItem], end: int) -> list[Item]:
    """What later turns send of the first ``end`` items of a log. (The marks of these items may stand after them.)"""
    unanswered = _unanswered(log)
    return [item.body for item in log[:end] if item.body["type"] != _MARK and item.id not in unanswered]


def _unanswered(log: Sequence[StoredItem]) -> set[str]:
    return {name for item in log if item.body["type"] == _MARK for name in item.body["items"]}
