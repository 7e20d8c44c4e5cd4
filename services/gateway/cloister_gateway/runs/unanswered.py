"""Turns that ended without an answer: the conversation keeps and shows what was asked, and no later turn sends it.

A turn's input is in the conversation before its run begins. Where the run fails, or is cancelled, before the first
character of its answer, a question stands there that nobody answered; sent again with every later turn, it would be
answered in the wrong place. So the end of such a run appends a *mark* to the log, with its output and in one write.
The mark names the items of the turn's input. It is sealed and chained like every item, and never shown.
"""

from collections.abc import Sequence, Set

from cloister_common.ids import new_id

from cloister_gateway.prompt import History, Said
from cloister_gateway.storage import StoredItem, StoredLog
from cloister_gateway.wire.items import Item, item_messages, speaks

__all__ = ["Spoken", "is_unanswered", "shown_items", "unanswered_mark"]

_MARK = "cloister.unanswered"
_VIEW = "spoken"


def is_unanswered(status: str, output: Sequence[Item]) -> bool:
    """Whether a turn ended without an answer: neither completed nor with any text in its output but a thought."""
    return status != "completed" and not any(map(speaks, item_messages(output)))


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


class Spoken:
    """What later turns send of a log, item by item: all but the marks, and the input that they name.

    It is kept with the log (`StoredLog.views`) and goes on with it, so that a turn looks only at what is new.
    """

    def __init__(self) -> None:
        self._said = Said()
        # After each item, how many messages there are; and the place of each.
        self._ends: list[int] = []
        self._places: dict[str, int] = {}

    @classmethod
    def before(cls, log: StoredLog, ids: Set[str]) -> History:
        """What is sent of the items before the first of ``ids``; of all if it is none of them."""
        spoken = cls._of(log)
        return spoken._until(min(spoken._found(log, ids), default=len(log.items)))

    @classmethod
    def until(cls, log: StoredLog, ids: Set[str]) -> History:
        """What is sent of the items up to the last of ``ids``; of all if it is none of them."""
        spoken = cls._of(log)
        return spoken._until(max(spoken._found(log, ids), default=len(log.items) - 1) + 1)

    @classmethod
    def _of(cls, log: StoredLog) -> "Spoken":
        spoken: Spoken = log.views.setdefault(_VIEW, cls())
        spoken._read(log.items)
        return spoken

    def _found(self, log: StoredLog, ids: Set[str]) -> list[int]:
        # It may have gone on already with what was added after ``log`` was read.
        places = (self._places.get(item_id, len(log.items)) for item_id in ids)
        return [place for place in places if place < len(log.items)]

    def _until(self, place: int) -> History:
        """What is sent of the first ``place`` items. (The marks of these items may stand after them.)"""
        return History(self._said, self._ends[place - 1] if place else 0)

    def _read(self, items: Sequence[StoredItem]) -> None:
        new = items[len(self._ends) :]
        if any(item.body["type"] == _MARK for item in new):
            # It takes away what was said before it.
            self._said, self._ends, new = Said(), [], items
        unanswered = _unanswered(new)
        for item in new:
            if item.body["type"] != _MARK and item.id not in unanswered:
                self._said.extend(item_messages([item.body]))
            self._places[item.id] = len(self._ends)
            self._ends.append(len(self._said.messages))


def _unanswered(log: Sequence[StoredItem]) -> set[str]:
    return {name for item in log if item.body["type"] == _MARK for name in item.body["items"]}
