"""What an ingestion pays: it asks before it embeds, where there are limits, and tells what it used when it ends.

What counts are the tokens that the embedder counted for the attempt that ended it. What an attempt had embedded that
was broken off, since a process died or a part was away, is not charged again: nobody asked for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from cloister_common.errors import Unavailable
from cloister_common.wire.ingestions import IngestionNote

from cloister_retriever.charges.service import Charges
from cloister_retriever.ingestion.reading import Reading
from cloister_retriever.ingestion.turns import Turn
from cloister_retriever.vector_stores.ingestions import Ingestion

__all__ = ["Paying", "Refused"]

Ending = Literal["completed", "failed", "cancelled"]

_LOOK_SECONDS = 0.25
_WAITING_SECONDS = 1.0
"""Between two looks of what waits for a limit: as often as a gateway says anything, and each is several reads."""

_SILENT_SECONDS = 30.0
"""After so long without a word no gateway is there, and the job begins again later."""


class Refused(Exception):
    """The ingestion is over a limit; ``message`` says which, and when there is more."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(slots=True)
class _Open:
    """An attempt of this process, and the tokens that the embedder has counted for it."""

    ingestion: Ingestion
    tokens: int = 0


class Paying:
    """Asks, counts and tells.

    Args:
        charges: Has the notes.
        model_tokens: What the model reads of a passage.
        besides: What it adds to each: its own tokens, and its prompt's.
    """

    def __init__(self, charges: Charges, *, model_tokens: int, besides: int) -> None:
        self._charges = charges
        self._model_tokens = model_tokens
        self._besides = besides
        self._open: dict[str, _Open] = {}

    async def ask(
        self, ingestion: Ingestion, reading: Reading, turn: Turn, check_wanted: Callable[[], Awaitable[None]]
    ) -> None:
        """Returns when what was read may be embedded: at once, where nobody asked for limits to be kept.

        While the window of a limit is full the job has no turn, so that it keeps nobody else's file waiting, and what
        was read may be let go.

        Raises:
            Refused: They may not.
            Unavailable: No gateway says anything.
        """
        name, payer = ingestion.attachment.id, ingestion.attachment.payer
        self._open[name] = _Open(ingestion)
        if payer is None or not payer.asks:
            return
        # (A token is a byte at least.)
        tokens = await asyncio.to_thread(
            lambda: sum(min(len(text.encode()), self._model_tokens) + self._besides for text in reading.texts())
        )
        asked = _note(ingestion, "asks", tokens)

        def ask(found: IngestionNote | None) -> IngestionNote | None:
            goes_on = found is not None and (
                found.state == "waits" or (found.state == "runs" and found.tokens >= tokens)
            )
            return None if goes_on else asked

        note = await self._charges.change(name, ask)
        since = time.monotonic()
        with turn.parking() as park, reading.waiting() as wait:
            while note is None or note.state != "runs":
                if note is not None and note.state == "refused":
                    raise Refused(note.message)
                waits = note is not None and note.state == "waits"
                if waits:
                    wait()
                    park()
                elif time.monotonic() - since > _SILENT_SECONDS:
                    raise Unavailable("No gateway says whether the file may be embedded.", retry_after=1)
                await asyncio.sleep(_WAITING_SECONDS if waits else _LOOK_SECONDS)
                await check_wanted()
                note = await self._charges.find(name)
                if note is None or note.state == "ended":
                    # A gateway that was slow took it away for the one before, or who lost this job has ended it.
                    note = await self._charges.change(name, ask)
        await turn.held()

    def count(self, ingestion: Ingestion, tokens: int) -> None:
        """The embedder has counted so many more."""
        self._open[ingestion.attachment.id].tokens += tokens

    async def end(self, attachment_id: str, ending: Ending) -> None:
        """Has it written down what an ingestion used that ends now. Where its end was told already, and nothing was
        embedded since, that stands."""
        opened = self._open.pop(attachment_id, None)
        if opened is not None and opened.ingestion.attachment.payer is None:
            return  # nobody pays, so there is no note

        def end(found: IngestionNote | None) -> IngestionNote | None:
            if found is not None:
                return _ended(found, None if opened is None else opened.tokens, ending)
            if opened is None or not opened.tokens:
                return None
            return _note(opened.ingestion, "ended", opened.tokens, ending)

        await self._charges.change(attachment_id, end)

    def leave(self, attachment_id: str) -> None:
        """Forgets an attempt that this process does not end."""
        self._open.pop(attachment_id, None)


def _note(
    ingestion: Ingestion, state: Literal["asks", "ended"], tokens: int, ending: Ending = "completed"
) -> IngestionNote:
    attachment = ingestion.attachment
    assert attachment.payer is not None
    return IngestionNote(
        id=attachment.id,
        tenant=ingestion.tenant,
        key=attachment.payer.key,
        user=attachment.payer.user,
        model=ingestion.edition.model,
        begun=attachment.created_at,
        state=state,
        tokens=tokens,
        ending=ending,
    )


def _ended(found: IngestionNote, counted: int | None, ending: Ending) -> IngestionNote | None:
    """A note at its end. What a process embedded that died nobody has counted: it is the most it may have been."""
    if counted is None and found.state == "ended":
        return None
    unknown = counted is None and found.state == "runs"
    tokens = found.tokens if unknown else counted or 0
    return found.model_copy(update={"state": "ended", "tokens": tokens, "ending": ending, "exact": not unknown})
