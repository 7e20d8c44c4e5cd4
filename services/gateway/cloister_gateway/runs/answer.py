"""The assistant message of a run while it grows: what of the model's text is shown, and what it cites.

What the model thought before is an item of its own (`cloister_gateway.runs.thought`); it ends where the message begins.
"""

import time
from collections.abc import Sequence

from prometheus_client import Histogram

from cloister_gateway.grounding import Attribution, Mark, MarkerFilter, Passage, Piece
from cloister_gateway.runs.thought import Thought
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import Logprob

__all__ = ["Answer"]

_FIRST_TOKEN = Histogram(
    "cloister_run_first_token_seconds",
    "From the start of a run to its first token.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)


class Answer:
    """The message of one run.

    Args:
        transcript: Takes its events; an earlier holder of the run may have begun it there.
        passages: The excerpts of the prompt, by the numbers that the model cites.
        cite: Whether the model was asked for markers. Otherwise brackets are data.

    Attributes:
        passages: The same.
        marks: Where the model has cited. Whether the passages support it is seen when all of the answer is there.
        cited: Where it is cited already, by an earlier holder of the run.
        thought: What the model thinks before it.
    """

    def __init__(self, transcript: Transcript, passages: list[Passage], *, cite: bool) -> None:
        self.passages = passages
        self.marks: list[Mark] = []
        self.cited: list[int] = []
        self.thought = Thought(transcript)
        self._transcript = transcript
        self._numbered = len(passages) if cite else 0
        self._index = transcript.item_index("message")
        self._filter = MarkerFilter(self._numbered, seen=self.visible())
        self._length = len(self.visible())
        self._shown = False
        self._untold: list[Logprob] = []
        if self._index is not None:
            # Another gateway began: what it cited is cited.
            for part in transcript.output[self._index]["content"]:
                self.cited += [annotation["index"] for annotation in part["annotations"]]

    def visible(self) -> str:
        """What readers have seen."""
        return "" if self._index is None else self._transcript.text(self._index)

    def restart(self) -> str:
        """What readers have seen, for a continuation: what was held back comes again from there."""
        self._filter = MarkerFilter(self._numbered, seen=self.visible())
        self._untold = []
        self.thought.restart()
        return self.visible()

    def progress(self) -> int:
        """How far it came, in characters: where an attempt broke off."""
        return len(self.visible()) + self.thought.heard

    def feed(self, text: str, logprobs: Sequence[Logprob] | None = None) -> None:
        """Takes text of the model, with the logprobs of its tokens where the caller wants them.

        They go out with the text that is shown next: a character may be of several tokens, and text may be held back.
        Those of the last token, which ends the answer and is no text, are never told.
        """
        if logprobs:
            self._untold += logprobs
        if self._numbered:
            self._show(self._filter.feed(text))
        elif text:
            self._show_text(text)

    def think(self, text: str) -> None:
        """Takes reasoning of the model."""
        if text:
            self.thought.feed(text)
            self._note_first()

    def finish(self, *, called: bool = False) -> None:
        """Shows what was held back. Unless functions were ``called``, there is a message even if it is empty; but none
        where the model came to no end of its thought."""
        self._show(self._filter.finish())
        self.thought.finish()
        if not called and self.thought.is_over:
            self._open()

    def cite(self, citation: Attribution) -> None:
        """Adds a citation, unless it is there already."""
        source = self.passages[citation.passage]
        annotation = {
            "type": "file_citation",
            "file_id": source.file_id,
            "filename": source.filename,
            "index": citation.at,
            "page": source.page,
            "section": source.section,
            "quote": citation.quote,
        }
        place = self._open()
        if annotation not in self._transcript.output[place]["content"][0]["annotations"]:
            self._transcript.annotate(place, annotation)

    def _show(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if piece.text:
                self._show_text(piece.text)
            self.marks += [Mark(passage, self._length) for passage in piece.cited]

    def _show_text(self, text: str) -> None:
        index = self._index
        if index is None:
            if not self.thought.is_over:
                # Templates set thought and answer apart by blank lines, which are part of neither.
                text = text.lstrip()
                if not text:
                    self._untold = []
                    return
            index = self._open()
        if self._untold:
            self._transcript.delta_with_logprobs(index, text, self._untold)
            self._untold = []
        else:
            self._transcript.delta(index, text)
        self._length += len(text)
        if not self._shown:
            self._note_first()

    def _note_first(self) -> None:
        if not self._shown:
            self._shown = True
            now = time.monotonic()
            self._transcript.served.first_at = self._transcript.served.first_at or now
            _FIRST_TOKEN.observe(now - self._transcript.began)

    def _open(self) -> int:
        if self._index is None:
            self.thought.close()
            self._index = self._transcript.open_message(self._transcript.new_item_id("msg_"))
        return self._index
