"""The work of a turn: search, prompt, generation, citations.

Everything here can be done again by another gateway: what was found and asked is stored, sealed, before the first
token, and a generation that broke off is continued from the text that readers have seen.
"""

import time

from cloister_common.errors import CloisterError
from cloister_common.ids import new_id
from cloister_common.logs import get_logger

from cloister_gateway.grounding import Passage, Retrieval, attribute
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.generation import Generation
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.records import (
    PROMPT,
    CitationDetails,
    IncompleteDetails,
    Outcome,
    PreparedPrompt,
    TruncationDetails,
    TurnRequest,
)
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.storage import KeyedObject

__all__ = ["Turn"]

log = get_logger(__name__)


class Turn:
    """Performs turns. One instance serves all runs.

    Args:
        preparation: Builds prompts.
        upstream: Calls the llm pods.
        retrieval: Embeds, for attribution.
        store: Keeps the prompt, so that a takeover uses the same one.
    """

    def __init__(
        self, *, preparation: Preparation, upstream: ModelUpstream, retrieval: Retrieval, store: ResponseStore
    ) -> None:
        self._preparation = preparation
        self._upstream = upstream
        self._retrieval = retrieval
        self._store = store

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
        prompt = transcript.prepared
        if prompt is not None:
            transcript.fields[PROMPT.name] = PROMPT.seal(keyed, prompt)
        elif transcript.resumed:
            prompt = await self._store.read(keyed, PROMPT)
        if prompt is None:
            prompt = await self._prepare(keyed, request, transcript)
        transcript.results = prompt.results
        index = transcript.item_index("file_search_call")
        if index is not None and transcript.output[index]["status"] == "in_progress":
            transcript.close_search(index, results=prompt.results if request.show_results else None)
        truncation = TruncationDetails(dropped_messages=prompt.dropped)
        transcript.note(truncation_details=truncation.model_dump())
        answer = Answer(transcript, prompt.passages, cite=request.response_format is None)
        generation = Generation(
            self._upstream,
            keyed,
            request,
            prompt.messages,
            most_tokens=self._preparation.answer_tokens(request),
            answer=answer,
            tokens=transcript.tokens,
        )
        reason = await generation.run()
        answer.finish()
        await self._attribute(keyed, transcript, answer)
        if reason == "length":
            return Outcome(status="incomplete", incomplete_details=IncompleteDetails(reason="max_output_tokens"))
        # Another gateway may have made the response, by a clock that goes before ours.
        return Outcome(status="completed", completed_at=max(int(time.time()), transcript.response.get("created_at", 0)))

    async def _prepare(self, keyed: KeyedObject, request: TurnRequest, transcript: Transcript) -> PreparedPrompt:
        """Searches and builds the prompt, and stores both before readers learn of them: who takes the run over must
        find the same. What was searched is stored at once, since readers are told that it was; else the prompt goes
        with the first events that are made from it."""
        tenant = keyed.key.tenant
        history, new = await self._preparation.messages(tenant, request)
        tool = next(iter(request.tools), None)
        found: list[Passage] = []
        if tool is not None:
            queries = self._preparation.queries([*history, *new])
            if transcript.item_index("file_search_call") is None:
                transcript.open_search(new_id("fs_"), queries)
            found = await self._preparation.search(tenant, tool, queries)
        prompt = await self._preparation.prompt(request, history, found, new)
        prepared = PreparedPrompt(
            messages=prompt.messages,
            passages=prompt.passages,
            dropped=prompt.dropped_messages,
            results=None if tool is None else [passage.as_result() for passage in found],
        )
        if tool is not None:
            return await self._store.write_once(keyed, PROMPT, prepared)
        transcript.fields[PROMPT.name] = PROMPT.seal(keyed, prepared)
        return prepared

    async def _attribute(self, keyed: KeyedObject, transcript: Transcript, answer: Answer) -> None:
        """Cites, by similarity, the sentences that the model left without a marker."""
        if not answer.passages or not self._retrieval.can_embed:
            return
        transcript.note(citation_details=CitationDetails(status="complete").model_dump())
        texts = [passage.text for passage in answer.passages]
        try:
            found = await attribute(answer.visible(), texts, marked=answer.marked, embed=self._retrieval.embed)
        except CloisterError as error:
            # The answer stands without them, and says so; markers the model made are there already.
            transcript.note(citation_details=CitationDetails(status="partial").model_dump())
            log.warning("attribution_failed", response_id=keyed.id, error=type(error).__name__)
            return
        for attribution in found:
            answer.cite(attribution.passage, attribution.end)
