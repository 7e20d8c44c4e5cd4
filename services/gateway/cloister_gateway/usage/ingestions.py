"""Ingestions of files, which the retriever does: what they embed is reserved, and written down once each.

The retriever keeps a note of each, and calls nobody. One of the gateways looks at the notes every second: it reserves
for those that ask, renews what is reserved for those that run, settles those that have ended, and takes their notes
away when the row is written. Whatever is killed meanwhile, the note is there for the next gateway; and all of it may be
done twice, since it goes by the ingestion's own id.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError, NotFound, TooManyRequests, Unavailable
from cloister_common.ids import new_id
from cloister_common.logs import get_logger
from cloister_common.wire.ingestions import IngestionNote, Word

from cloister_gateway.storage.client import REDIS_AWAY
from cloister_gateway.usage.ledger import Ledger
from cloister_gateway.usage.metering import Ending, Generation, Meter, PromptSize, Used
from cloister_gateway.usage.standing_store import StandingStore

__all__ = ["Ingestions"]

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_AWAY_SECONDS = 5.0
_TURN_SECONDS = 5
_WAIT_SECONDS = 60
"""A file waits for the window of a limit that is no longer than a minute. Else it is told."""


class _Settles(Meter, Protocol):
    async def settle_now(self, generation: Generation, used: Used) -> None:
        """Ends a reservation, whoever made it."""
        ...


class Ingestions:
    """Looks after them.

    Args:
        retriever: Has the notes.
        limits: Reserves and settles.
        ledger: Writes rows.
        turns: Says which gateway it is that looks.
    """

    def __init__(self, retriever: RetrieverClient, limits: _Settles, ledger: Ledger, turns: StandingStore) -> None:
        self._retriever = retriever
        self._limits = limits
        self._ledger = ledger
        self._turns = turns
        self._name = new_id("gw_")
        self._running: dict[str, str] = {}
        self._failing: set[str] = set()

    @property
    def running(self) -> Mapping[str, str]:
        """Those that run as this gateway last saw, by their ids: whose they are."""
        return self._running

    async def follow(self) -> None:
        """Looks again and again. Runs until it is cancelled."""
        is_away = False
        while True:
            try:
                await self.look()
                is_away = False
            except (*REDIS_AWAY, CloisterError) as error:
                if not is_away:
                    log.warning("ingestions_not_seen", error=type(error).__name__)
                is_away = True
            await asyncio.sleep(_AWAY_SECONDS if is_away else _LOOK_SECONDS)

    async def look(self) -> None:
        """Does what is to be done now, if it is this gateway that does, and for as long as it is.

        Raises:
            CloisterError: The retriever, or Redis, does not answer.
        """
        if not await self._has_turn():
            return
        looked_at = time.monotonic()
        try:
            notes = await self._retriever.ingestions()
        except NotFound:
            return  # one of the version before, while it is replaced
        self._running = {note.id: note.tenant for note in notes if note.state == "runs"}
        self._failing.intersection_update(note.id for note in notes)
        for note in notes:
            if time.monotonic() - looked_at >= _LOOK_SECONDS:
                # There may be hundreds, and what another gateway has seen to meanwhile is not as it was.
                if not await self._has_turn():
                    return
                looked_at = time.monotonic()
            try:
                await self._see_to(note)
            except (*REDIS_AWAY, Unavailable):
                raise
            except Exception:
                # One that cannot be seen to must not keep the others from it.
                if note.id not in self._failing:
                    log.exception("ingestion_not_seen_to", ingestion=note.id)
                self._failing.add(note.id)

    async def _has_turn(self) -> bool:
        has_turn = await self._turns.holds("ingestions", self._name, _TURN_SECONDS)
        if not has_turn:
            self._running = {}
        return has_turn

    async def _see_to(self, note: IngestionNote) -> None:
        if note.state in {"asks", "waits"}:
            await self._answer(note)
        elif note.state == "ended":
            await self._write_down(note)

    async def _answer(self, note: IngestionNote) -> None:
        size = PromptSize(note.tokens, exact=True)
        try:
            await self._limits.reserve(_generation(note), most_output_tokens=0, prompt_tokens=size)
        except TooManyRequests as error:
            told = error.headers()
            waits = told.get("x-should-retry") != "false" and (error.retry_after or 0) <= _WAIT_SECONDS
            if waits and note.state == "waits":
                return
            word = Word(state="waits" if waits else "refused", message=error.message)
        else:
            self._running[note.id] = note.tenant
            word = Word(state="runs")
        await self._retriever.tell_ingestion(note.id, word)

    async def _write_down(self, note: IngestionNote) -> None:
        generation = _generation(note)
        ending: Ending = note.ending
        await self._limits.settle_now(generation, Used(note.tokens))
        if note.tokens:
            await self._ledger.write_now(generation, Used(note.tokens, exact=note.exact), ending)
        await self._retriever.drop_ingestion(note.id)


def _generation(note: IngestionNote) -> Generation:
    return Generation(note.id, note.tenant, note.key, note.model, "ingestion", note.user, note.begun)
