"""The work of a turn: search, prompt, generation, citations.

Everything here can be done again by another gateway: what was asked, and what was found for it, is stored, sealed,
before the first token, and a generation that broke off is continued from the text that readers have seen.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from cloister_common.errors import CloisterError, Unavailable
from cloister_common.logs import get_logger

from cloister_gateway.grounding import Coverage, Passage, Retrieval, attribute
from cloister_gateway.models.connections import Pace
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import History, Layout, Prompt, new_boundary
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
    SummaryDetails,
    TruncationDetails,
    TurnRequest,
)
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.runs.unspoken import SpeaksError, Unspoken, in_form, is_asked_first, without_form
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.items import Message, SearchResult, item_messages

__all__ = ["Turn"]

log = get_logger(__name__)


class _Prepared(NamedTuple):
    """What goes to the model: the messages, and the excerpts in them; how many messages of the history are not; what
    the search found, if there was one, and whether that is about the question; who wants to know how many tokens it
    has; what it is made of; and what in it is a summary."""

    messages: list[Message]
    passages: list[Passage]
    dropped: int
    results: list[SearchResult] | None
    coverage: Coverage = "found"
    note_tokens: Callable[[int], None] = lambda _: None
    layout: Layout | None = None
    summary: SummaryDetails | None = None


def _prepared(
    prompt: Prompt,
    results: list[SearchResult] | None,
    coverage: Coverage = "found",
    summed_up: Literal["made", "failed"] | None = None,
) -> _Prepared:
    summary: SummaryDetails | None = None
    if prompt.summed_up or summed_up is not None:
        summary = SummaryDetails(turns=prompt.summed_up, status=summed_up or "kept")
    return _Prepared(
        prompt.messages,
        prompt.passages,
        prompt.dropped_messages,
        results,
        coverage,
        prompt.note_tokens,
        prompt.layout,
        summary,
    )


class Turn:
    """Performs turns. One instance serves all runs.

    Args:
        preparation: Builds prompts.
        upstream: Calls the llm pods.
        retrieval: Embeds, for attribution.
        store: Keeps what was found, so that a takeover cites the same.
        seals: Seals reasoning for callers who want to keep it.
        pace: When what runs have is written next.
    """

    def __init__(
        self,
        *,
        preparation: Preparation,
        upstream: ModelUpstream,
        retrieval: Retrieval,
        store: ResponseStore,
        seals: ReasoningSeals,
        pace: Pace | None = None,
    ) -> None:
        self._preparation = preparation
        self._upstream = upstream
        self._retrieval = retrieval
        self._store = store
        self._seals = seals
        self._pace = pace

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
        prompt = await self._prompt_once_ready(keyed, request, transcript)
        transcript.results = prompt.results
        transcript.tokens.layout = prompt.layout
        index = transcript.item_index("file_search_call")
        if index is not None and transcript.output[index]["status"] == "in_progress":
            results = prompt.results if request.show_results else None
            transcript.close_search(index, results=results, coverage=prompt.coverage)
        truncation = TruncationDetails(dropped_messages=prompt.dropped, summary=prompt.summary)
        transcript.note(truncation_details=truncation.model_dump(exclude_none=True))
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
            pace=self._pace,
            waiting=transcript.wait,
            served=transcript.served,
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

    async def _prompt_once_ready(self, keyed: KeyedObject, request: TurnRequest, transcript: Transcript) -> _Prepared:
        """The prompt; the pods count the tokens of one that is near its bound, and may not be there yet."""
        attempts = Attempts(accepted=True)
        while True:
            try:
                return await self._prompt(keyed, request, transcript)
            except Unavailable:
                if not await self._upstream.until_ready(request.model, attempts, transcript.wait):
                    raise

    async def _prompt(self, keyed: KeyedObject, request: TurnRequest, transcript: Transcript) -> _Prepared:
        """The prompt: put together, also by who takes the run over, from what stands in the history and was found."""
        draft = transcript.draft
        if draft is not None:
            return _prepared(draft, None)
        if transcript.resumed:
            stored = await self._store.read(keyed, PROMPT)
            if stored is not None:
                return _Prepared(stored.messages, stored.passages, stored.dropped, stored.results)
        tenant = keyed.key.tenant
        history, new = await self._preparation.messages(tenant, request)
        history, summed_up = await self._summed_up(tenant, request, transcript, history, new)
        found = await self._search(keyed, request, transcript, history, new)
        if found is None:
            return _prepared(
                await self._preparation.prompt(tenant, request, history, [], new), None, "found", summed_up
            )
        passages = found.passages
        pictures = await self._preparation.pictures(tenant, request, history, passages, new)
        prompt = await self._preparation.prompt(
            tenant, request, history, passages, new, found.boundary, found.coverage, pictures=pictures
        )
        return _prepared(prompt, found.results(), found.coverage, summed_up)

    async def _summed_up(
        self, tenant: str, request: TurnRequest, transcript: Transcript, history: History, new: list[Message]
    ) -> tuple[History, Literal["made", "failed"] | None]:
        """The history with a summary of its beginning, where this turn needs one: made before anything else is told, so
        that readers, later turns and whoever takes the run over have the same. Where that fails the turn goes on."""
        index = transcript.item_index("compaction")
        if index is not None:
            item = transcript.output[index]
        elif transcript.output:
            return history, None  # An earlier holder of the run went on without.
        else:
            item_id = transcript.new_item_id("cmp_")
            try:
                made = await self._preparation.summaries.item(tenant, request, item_id, history, new)
            except CloisterError:
                return history, "failed"
            if made is None:
                return history, None
            item = made
            transcript.add_summary(item)
        (summary,) = item_messages([item])
        # (In the conversation it stands behind the messages of its turn.)
        return history.summed_up({**summary, "keeps": max(0, summary["keeps"] - len(new))}), "made"

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
        index = transcript.item_index("file_search_call")
        if index is None:
            queries = self._preparation.queries(history, new)
            rewritten = await self._preparation.rewritten(keyed.key.tenant, tool, history, new)
            if rewritten is not None:
                transcript.tokens.note_query(rewritten.prompt_tokens, rewritten.output_tokens)
                queries = list(dict.fromkeys([*queries, *([rewritten.query] if rewritten.query else [])]))
            transcript.open_search(transcript.new_item_id("fs_"), queries)
        else:
            queries = transcript.output[index]["queries"]  # readers were told them
        passages, coverage = await self._preparation.search(keyed.key.tenant, request, tool, queries)
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
