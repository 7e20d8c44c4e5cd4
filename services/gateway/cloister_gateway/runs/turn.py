"""The work of a turn: search, prompt, generation, citations.

Everything here can be done again by another gateway: what was asked, and what was found for it, is stored, sealed,
before the first token, and a generation that broke off is continued from the text that readers have seen.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from cloister_common.caller import NOBODY
from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger

from cloister_gateway.grounding import Coverage, Passage, Retrieval, attribute
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import History, new_boundary
from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.calls import Calls, MadeCall
from cloister_gateway.runs.generation import Generation
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import (
    FOUND,
    PROMPT,
    CitationDetails,
    Found,
    IncompleteDetails,
    Outcome,
    TruncationDetails,
    TurnRequest,
)
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.runs.unspoken import SpeaksError, Unspoken, in_form, is_asked_first, without_form
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.items import Message, SearchResult

__all__ = ["Turn"]

log = get_logger(__name__)


class _Prepared(NamedTuple):
    """What goes to the model: the messages, and the excerpts in them; how many messages of the history are not; what
    the search found, if there was one, and whether that is about the question; and who wants to know how many tokens it
    has."""

    messages: list[Message]
    passages: list[Passage]
    dropped: int
    results: list[SearchResult] | None
    coverage: Coverage = "found"
    note_tokens: Callable[[int], None] = lambda _: None


class Turn:
    """Performs turns. One instance serves all runs.

    Args:
        preparation: Builds prompts.
        upstream: Calls the llm pods.
        retrieval: Embeds, for attribution.
        store: Keeps what was found, so that a takeover cites the same.
        seals: Seals reasoning for callers who want to keep it.
    """

    def __init__(
        self,
        *,
        preparation: Preparation,
        upstream: ModelUpstream,
        retrieval: Retrieval,
        store: ResponseStore,
        seals: ReasoningSeals,
    ) -> None:
        self._preparation = preparation
        self._upstream = upstream
        self._retrieval = retrieval
        self._store = store
        self._seals = seals

    async def perform(self, keyed: KeyedObject, request: TurnRequest, transcript: Transcript) -> Outcome:
        """Searches if asked to, builds the prompt, generates, cites.

        Args:
            keyed: The response with its key.
            request: What was asked.
            transcript: What has happened so far; takes the events, what was found and what was used.

        Returns:
            How it ended, if it did by itself. Whoever cancels it knows that it was cancelled.

        Raises:
            CloisterError: It failed; the message is for the caller.
        """
        if request.seal_reasoning:
            transcript.seal_thought = await self._seals.sealer(keyed.key.tenant, request.model)
        prompt = await self._prompt(keyed, request, transcript)
        transcript.results = prompt.results
        index = transcript.item_index("file_search_call")
        if index is not None and transcript.output[index]["status"] == "in_progress":
            results = prompt.results if request.show_results else None
            transcript.close_search(index, results=results, coverage=prompt.coverage)
        truncation = TruncationDetails(dropped_messages=prompt.dropped)
        transcript.note(truncation_details=truncation.model_dump())
        answer = Answer(transcript, prompt.passages, cite=request.response_format is None)
        made: list[MadeCall] = []
        reason, text = "stop", ""
        if is_asked_first(request) and not answer.visible():
            made = await self._calls_at_first(keyed, request, prompt, transcript, answer)
            request = in_form(request)
        if not made:
            reason, made, text = await self._generated(keyed, request, prompt, transcript, answer)
        if transcript.tokens.prompt is not None and not transcript.resumed:
            prompt.note_tokens(transcript.tokens.prompt)
        if text:
            answer.feed(text)
        answer.finish(called=bool(made))
        transcript.calls = made
        await self._attribute(keyed, transcript, answer)
        if reason == "length":
            return Outcome(status="incomplete", incomplete_details=IncompleteDetails(reason="max_output_tokens"))
        # Another gateway may have made the response, by a clock that goes before ours.
        return Outcome(status="completed", completed_at=max(int(time.time()), transcript.response.get("created_at", 0)))

    async def _generated(
        self, keyed: KeyedObject, request: TurnRequest, prompt: _Prepared, transcript: Transcript, answer: Answer
    ) -> tuple[str, list[MadeCall], str]:
        """Why the answer ended, what it calls, and what of it only looked like a call."""
        calls = Calls([tool["function"]["name"] for tool in request.functions], parallel=request.parallel_calls)
        generation = Generation(
            self._upstream,
            keyed,
            request,
            prompt.messages,
            most_tokens=self._preparation.answer_tokens(request),
            answer=answer,
            calls=calls,
            tokens=transcript.tokens,
        )
        reason = await generation.run()
        return reason, *calls.finish(cut=reason == "length")

    async def _calls_at_first(
        self, keyed: KeyedObject, request: TurnRequest, prompt: _Prepared, transcript: Transcript, answer: Answer
    ) -> list[MadeCall]:
        """What the model calls instead of an answer in its form; see `cloister_gateway.runs.unspoken`."""
        unspoken = Unspoken(transcript.response)
        try:
            _, made, _ = await self._generated(keyed, without_form(request), prompt, transcript, unspoken)
        except SpeaksError:
            made = []
        thoughts = unspoken.thoughts()
        if made and thoughts:
            answer.think(thoughts)
        if not made:
            transcript.tokens.unspoken, transcript.tokens.output = transcript.tokens.output, 0
        return made

    async def _prompt(self, keyed: KeyedObject, request: TurnRequest, transcript: Transcript) -> _Prepared:
        """The prompt: put together, also by who takes the run over, from what stands in the history and was found."""
        draft = transcript.draft
        if draft is not None:
            return _Prepared(
                draft.messages, draft.passages, draft.dropped_messages, None, note_tokens=draft.note_tokens
            )
        if transcript.resumed:
            stored = await self._store.read(keyed, PROMPT)
            if stored is not None:
                return _Prepared(stored.messages, stored.passages, stored.dropped, stored.results)
        history, new = await self._preparation.messages(keyed.key.tenant, request)
        found = await self._search(keyed, request, transcript, history, new)
        if found is None:
            coverage: Coverage = "found"
            prompt = await self._preparation.prompt(request, history, [], new)
        else:
            coverage = found.coverage
            prompt = await self._preparation.prompt(request, history, found.passages, new, found.boundary, coverage)
        results = None if found is None else found.results()
        return _Prepared(
            prompt.messages, prompt.passages, prompt.dropped_messages, results, coverage, prompt.note_tokens
        )

    async def _search(
        self,
        keyed: KeyedObject,
        request: TurnRequest,
        transcript: Transcript,
        history: History,
        new: list[Message],
    ) -> Found | None:
        """Searches if asked to, and stores what is found before readers learn of it: who takes the run over must cite
        the same."""
        tool = next(iter(request.tools), None)
        if tool is None:
            return None
        if transcript.resumed:
            found = await self._store.read(keyed, FOUND)
            if found is not None:
                return found
        queries = self._preparation.queries(history, new)
        if transcript.item_index("file_search_call") is None:
            transcript.open_search(transcript.new_item_id("fs_"), queries)
        caller = request.caller or NOBODY
        passages, coverage = await self._preparation.search(keyed.key.tenant, tool, queries, caller)
        found = Found(passages=passages, boundary=new_boundary(), coverage=coverage)
        return await self._store.write_once(keyed, FOUND, found)

    async def _attribute(self, keyed: KeyedObject, transcript: Transcript, answer: Answer) -> None:
        """Cites what the passages support of the answer."""
        if not answer.passages:
            return
        text, passages = answer.visible(), answer.passages
        cite = partial(attribute, text, passages, marks=answer.marks, cited=answer.cited)
        status: Literal["complete", "partial"] = "complete"
        try:
            found = await cite(embed=self._retrieval.embed if self._retrieval.can_embed else None)
        except CloisterError as error:
            # The answer stands with what can be told without vectors, and says so.
            status = "partial"
            log.warning("attribution_failed", response_id=keyed.id, error=type(error).__name__)
            found = await cite(embed=None)
        transcript.note(citation_details=CitationDetails(status=status).model_dump())
        for citation in found:
            answer.cite(citation)
