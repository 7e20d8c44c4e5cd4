"""The work of a turn: search, prompt, generation, citations.

Everything here can be done again by another gateway: what was found and asked is stored, sealed, before the first
token, and a generation that broke off is continued from the text that readers have seen.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import orjson
from cloister_common.errors import CloisterError, Unavailable, UpstreamFailed
from cloister_common.ids import new_id
from cloister_common.logs import get_logger

from cloister_gateway.grounding import MarkerFilter, Passage, Piece, attribute
from cloister_gateway.grounding.search import Retrieval
from cloister_gateway.models.faults import RequestFailed, failed_again
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.run import Run
from cloister_gateway.runs.store import ResponseStore

__all__ = ["Turn"]

log = get_logger(__name__)

_MOST_ATTEMPTS = 4
_RETRY_SECONDS = 0.5


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

    async def perform(self, run: Run) -> None:
        """Searches if asked to, builds the prompt, generates, cites."""
        prepared = await self._store.read(run.owner, "prompt") if run.resumed else None
        if prepared is None:
            prepared = await self._prepare(run)
        run.results = prepared["results"]
        index = run.transcript.item_index("file_search_call")
        if index is not None and run.transcript.output[index]["status"] == "in_progress":
            run.transcript.close_search(index, results=run.results if run.request["show_results"] else None)
            run.wake()
        run.transcript.response["truncation_details"] = {"dropped_messages": prepared["dropped"]}
        answer = _Answer(run, [Passage(**passage) for passage in prepared["passages"]])
        await self._generate(run, prepared["messages"], answer)
        answer.finish()
        await self._attribute(run, answer)

    async def _prepare(self, run: Run) -> dict[str, Any]:
        """Searches and builds the prompt, and stores both before readers learn of them: who takes the run over must
        find the same."""
        history, new = await self._preparation.messages(run.owner.key.tenant, run.request)
        tool = next(iter(run.request["tools"]), None)
        found: list[Passage] = []
        if tool is not None:
            queries = self._preparation.queries([*history, *new])
            if run.transcript.item_index("file_search_call") is None:
                run.transcript.open_search(new_id("fs_"), queries)
                run.wake()
            found = await self._preparation.search(run.owner.key.tenant, tool, queries)
        prompt = await self._preparation.prompt(run.request, history, found, new)
        prepared: dict[str, Any] = await self._store.write_once(
            run.owner,
            "prompt",
            {
                "messages": prompt.messages,
                "passages": [passage.as_json() for passage in prompt.passages],
                "dropped": prompt.dropped_messages,
                "results": None if tool is None else [passage.as_result() for passage in found],
            },
        )
        return prepared

    async def _generate(self, run: Run, messages: list[dict[str, Any]], answer: "_Answer") -> None:
        """Streams the answer; goes on on another pod, from the text so far, when one fails.

        A second failure at the same place of the text is not the pods'.
        """
        attempts = Attempts()
        failed_at: int | None = None
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                await self._stream_once(run, messages, answer, attempts)
                return
            except RequestFailed:
                raise
            except (UpstreamFailed, Unavailable) as error:
                if attempt == _MOST_ATTEMPTS:
                    raise
                if isinstance(error, UpstreamFailed):
                    if failed_at == len(answer.visible()):
                        raise failed_again(run.request["model"]) from error
                    failed_at = len(answer.visible())
                log.warning("generation_continued", response_id=run.owner.id, attempt=attempt)
                await asyncio.sleep(_RETRY_SECONDS * attempt)

    async def _stream_once(
        self, run: Run, messages: list[dict[str, Any]], answer: "_Answer", attempts: Attempts
    ) -> None:
        body = self._chat_body(run, messages)
        text = answer.restart()
        before = run.usage.get("output", 0)
        if text and run.request["response_format"] is not None:
            # vLLM's grammar begins anew with every generation: it would put a second beginning after the first.
            raise CloisterError("The answer broke off, and structured output cannot be continued. Try again.")
        if text:
            body["messages"] = [*messages, {"role": "assistant", "content": text}]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
            if before == 0:
                # Another gateway or a pod that did not say began it: it counts towards limit and usage all the same.
                before = len(await self._upstream.tokenize(run.request["model"], prompt=text))
            body["max_tokens"] -= before
            if body["max_tokens"] <= 0:
                run.finish_reason = "length"
                return
        finished = False
        stream = self._upstream.stream_chat(
            run.request["model"],
            body,
            tenant=run.owner.key.tenant,
            affinity=run.request["affinity"],
            attempts=attempts,
        )
        async with aclosing(stream):
            async for payload in stream:
                finished = self._take_chunk(run, answer, payload, before if text else 0) or finished
        if not finished:
            raise UpstreamFailed("The model stopped in the middle of its answer.")

    def _chat_body(self, run: Run, messages: list[dict[str, Any]]) -> dict[str, Any]:
        request = run.request
        body: dict[str, Any] = {
            "model": request["model"],
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": self._preparation.answer_tokens(request),
        }
        for name in ("temperature", "top_p", "response_format"):
            if request[name] is not None:
                body[name] = request[name]
        return body

    @staticmethod
    def _take_chunk(run: Run, answer: "_Answer", payload: bytes, before: int) -> bool:
        """Turns one chunk of vLLM into events; says whether the generation has ended."""
        chunk = orjson.loads(payload)
        if "error" in chunk:
            raise UpstreamFailed("The model reported an error in the middle of its answer.")
        usage = chunk.get("usage")
        if usage:
            details = usage.get("prompt_tokens_details") or {}
            # The prompt of a continuation ends with what was answered before: that is output.
            run.usage.setdefault("prompt", usage["prompt_tokens"] - before)
            run.usage.setdefault("cached", details.get("cached_tokens") or 0)
            run.usage["output"] = before + usage["completion_tokens"]
        finished = False
        for choice in chunk["choices"]:
            content = choice["delta"].get("content")
            if content:
                answer.feed(content)
            if choice.get("finish_reason"):
                run.finish_reason = choice["finish_reason"]
                finished = True
        return finished

    async def _attribute(self, run: Run, answer: "_Answer") -> None:
        """Cites, by similarity, the sentences that the model left without a marker."""
        if not answer.passages or not self._retrieval.can_embed:
            return
        details = run.transcript.response["citation_details"] = {"status": "complete"}
        texts = [passage.text for passage in answer.passages]
        try:
            found = await attribute(answer.visible(), texts, marked=answer.marked, embed=self._retrieval.embed)
        except CloisterError as error:
            # The answer stands without them, and says so; markers the model made are there already.
            details["status"] = "partial"
            log.warning("attribution_failed", response_id=run.owner.id, error=type(error).__name__)
            return
        for attribution in found:
            answer.cite(attribution.passage, attribution.end)


class _Answer:
    """The assistant message while it grows."""

    def __init__(self, run: Run, passages: list[Passage]) -> None:
        self.passages = passages
        self.marked: list[int] = []
        self._run = run
        # Brackets in structured output are data, and nothing asked for markers there.
        self._numbered = 0 if run.request["response_format"] is not None else len(passages)
        self._index = run.transcript.item_index("message")
        self._filter = MarkerFilter(self._numbered, seen=self.visible())
        self._length = len(self.visible())
        if self._index is not None:
            # Another gateway began: what it cited is cited.
            for part in run.transcript.output[self._index]["content"]:
                self.marked += [annotation["index"] for annotation in part["annotations"]]

    def visible(self) -> str:
        """What readers have seen."""
        return "" if self._index is None else self._run.transcript.text(self._index)

    def restart(self) -> str:
        """What readers have seen, for a continuation: what was held back comes again from there."""
        self._filter = MarkerFilter(self._numbered, seen=self.visible())
        return self.visible()

    def feed(self, text: str) -> None:
        """Takes text of the model."""
        self._show(self._filter.feed(text))

    def finish(self) -> None:
        """Shows what was held back, and opens an empty message if there was nothing at all."""
        self._show(self._filter.finish())
        self._open()

    def cite(self, passage: int, index: int) -> None:
        """Adds a citation of the passage at a character position, unless it is there already."""
        source = self.passages[passage]
        annotation = {
            "type": "file_citation",
            "file_id": source.file_id,
            "filename": source.filename,
            "index": index,
            "page": source.page,
            "section": source.section,
        }
        place = self._open()
        if annotation not in self._run.transcript.output[place]["content"][0]["annotations"]:
            self._run.transcript.annotate(place, annotation)
            self._run.wake()

    def _show(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if piece.text:
                self._run.transcript.delta(self._open(), piece.text)
                self._length += len(piece.text)
                self._run.wake(token=True)
            for passage in piece.cited:
                self.marked.append(self._length)
                self.cite(passage, self._length)

    def _open(self) -> int:
        if self._index is None:
            self._index = self._run.transcript.open_message(new_id("msg_"))
        return self._index
