"""What a model thinks before it answers, while it grows: items of type ``reasoning``.

An answer that broke off is continued from its text. A thought is not: no chat template has a way to go on in the middle
of one. The model thinks anew, and what it thinks is compared with what readers have seen. While it is the same, as with
a temperature of 0 or a seed, nothing is shown, and then the rest. Where it becomes another, the item that readers have
seen ends as ``incomplete``, and the new thought gets an item of its own, from its beginning. So no thought is torn or
doubled, and none continues with what another one meant.
"""

from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import Item

__all__ = ["Thought", "reasoning_text"]


def reasoning_text(item: Item) -> str:
    """The text of an item of reasoning, if it has one that can be read."""
    return "".join(part["text"] for part in item.get("content") or ())


class Thought:
    """The reasoning of one run.

    Args:
        transcript: Takes its events; an earlier holder of the run may have begun it there.

    Attributes:
        heard: How many characters this attempt has thought, shown or not.
    """

    def __init__(self, transcript: Transcript) -> None:
        self.heard = 0
        self._transcript = transcript
        self._index: int | None = None
        # What the new thought has to repeat, and what of it came so far.
        self._again = ""
        self._held = ""
        for place, item in enumerate(transcript.output):
            if item["type"] == "reasoning" and item["status"] == "in_progress":
                self._index = place

    def whole(self) -> str:
        """The last thought that came to its end: what the answer goes on from."""
        items = [item for item in self._transcript.output if item["type"] == "reasoning"]
        return reasoning_text(items[-1]) if items and items[-1]["status"] == "completed" else ""

    @property
    def is_over(self) -> bool:
        """Whether the model thinks no more: it has come to the end of its thought, or had none."""
        return self._index is None

    def restart(self) -> None:
        """Another attempt begins: if it thinks, then from the beginning."""
        self.heard = 0
        self._held = ""
        self._again = "" if self._index is None else self._transcript.text(self._index)

    def feed(self, text: str) -> None:
        """Takes text of the model."""
        self.heard += len(text)
        if self._again:
            text = self._compare(text)
        if not text:
            return
        if self._index is None:
            self._index = self._transcript.open_reasoning(self._transcript.new_item_id("rs_"))
        self._transcript.think(self._index, text)

    def close(self) -> None:
        """The model has thought to its end, and answers now."""
        self.finish()
        if self._index is not None:
            self._transcript.close_reasoning(self._index, status="completed")
            self._index = None

    def finish(self) -> None:
        """Shows what was held back: a thought that ended before it had repeated all that was seen is another one."""
        if self._again:
            text = self._leave()
            if text:
                self._index = self._transcript.open_reasoning(self._transcript.new_item_id("rs_"))
                self._transcript.think(self._index, text)

    def _compare(self, text: str) -> str:
        """What of the new thought is to be shown now."""
        self._held += text
        if self._again.startswith(self._held) and self._again != self._held:
            return ""
        if self._held.startswith(self._again):
            text = self._held[len(self._again) :]
            self._again = self._held = ""
            return text
        return self._leave()

    def _leave(self) -> str:
        """Ends the item that readers have seen; the new thought so far."""
        if self._index is not None:
            self._transcript.close_reasoning(self._index, status="incomplete")
            self._index = None
        text, self._again, self._held = self._held, "", ""
        return text
