"""Summaries: what the chat model makes, once, of the beginning of a conversation that has grown over its budget.

A summary is an item of type ``compaction``, OpenAI's own, in the output of the turn that needed it: so it is sealed,
kept and deleted with what it stands for, whoever takes the run over finds it among the events and makes no second one,
and every later turn begins with it (`cloister_gateway.prompt.history`) until what was said since has grown over the
budget as well. It stands for all but the newest quarter of the budget, so that this is not each turn.

The model is shown the prompt of a turn, with the wish for a summary in the place of a question: its beginning is in the
pod's cache. What the conversation says may mislead it, as it may any answer; what comes of that is a message of this
conversation and no more. A summary is a generation like any, reserved and settled by itself; its turn does not fail
with it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import orjson
from cloister_common.errors import CloisterError
from cloister_common.ids import new_id
from cloister_common.logs import get_logger
from prometheus_client import Counter

from cloister_gateway.limits.history import HistoryPolicies
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.counting import count_prompt
from cloister_gateway.models.images import MOST_PROMPT_IMAGES
from cloister_gateway.models.reasoning import thinking
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import (
    History,
    ImageRoom,
    Prompt,
    PromptBuilder,
    PromptTooLongError,
    TooManyImagesError,
)
from cloister_gateway.runs.attempts import Attempts
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.sealing import KeptSummary, ReasoningSeals
from cloister_gateway.usage import Generation, InputSplit, Meter, Metered, PromptSize, Used
from cloister_gateway.wire.items import SUMMARY, Item, Message, text_of

__all__ = ["Made", "Summaries", "compaction_item", "said_item"]

log = get_logger(__name__)
_SUMMARIES = Counter("cloister_summaries_total", "Summaries of history, by what came of them.", ["result"])

_KEPT_SHARE = 4
"""The newest part of the budget that stays as it was said: a quarter, as `cloister_gateway.planning` reckons."""
_SUMMARY_SHARE = 2
"""Of the budget a summary has half at most, or there would soon be no room for anything else."""

_ROOM_SHARE = 0.75
"""Of what the context has beside the answer: longer history would lose its oldest turns before it is summed up."""

_WISH = (
    "Sum up the conversation so far, so that it can go on without its words. Keep what the user wants, names, numbers, "
    "dates, decisions and what is still open. Use the language of the conversation. Answer with the summary alone, in "
    "at most {words} words."
)
_WORDS_A_TOKEN = 0.6


class Made(NamedTuple):
    """A summary that was made.

    Attributes:
        summary: It.
        used: What the model used.
    """

    summary: KeptSummary
    used: Used


class Summaries:
    """Says when a summary is due, and makes it. One instance serves all runs.

    Args:
        models: The chat models.
        upstream: Calls them.
        policies: What holds for projects.
        seals: Seals summaries for their callers.
        meter: Reserves and settles what they use.
    """

    def __init__(
        self,
        *,
        models: Catalog,
        upstream: ModelUpstream,
        policies: HistoryPolicies,
        seals: ReasoningSeals,
        meter: Meter,
    ) -> None:
        self._models = models
        self._upstream = upstream
        self._policies = policies
        self._seals = seals
        self._meter = meter
        self._attempts = Attempts()

    def budget(self, tenant: str) -> int | None:
        """How many tokens of history the project's turns may have."""
        return self._policies.of(tenant).tokens

    def threshold(self, tenant: str, request: TurnRequest) -> int | None:
        """Over how many tokens of history the turn has them summed up; None where it never does."""
        policy = self._policies.of(tenant)
        threshold = request.compact_threshold
        if threshold is None and policy.policy == "summary" and request.truncation == "auto":
            threshold = policy.tokens
        if threshold is None:
            return None
        model = self._models.get(request.model)
        answer = model.answer_tokens(request.max_output_tokens)
        room = model.context_tokens - min(answer, model.context_tokens // 2)
        return min(threshold, int(room * _ROOM_SHARE))

    async def due(self, tenant: str, request: TurnRequest, history: History, new: Sequence[Message]) -> int | None:
        """The place in ``history`` before which all is to be summed up; None where it is short enough, or where the
        ``new`` messages bring a summary.

        Raises:
            CloisterError: The tokenizer is asked, and does not answer.
        """
        threshold = self.threshold(tenant, request)
        if threshold is None or not history.turns or any(message["role"] == SUMMARY for message in new):
            return None
        builder = PromptBuilder(
            partial(self._upstream.count_tokens, request.model), budget=threshold, model=request.model
        )
        if await builder.fitting(history, threshold) == history.turns:
            return None
        since = [message for message in history.from_place(history.floor) if message["role"] != SUMMARY]
        kept = await builder.fitting(History.of(since), threshold // _KEPT_SHARE)
        return None if kept == history.turns else history.first_of(kept)

    async def make(
        self, tenant: str, request: TurnRequest, history: History, cut: int, kept: Sequence[Message] = ()
    ) -> Made:
        """Sums up what stands before ``cut``.

        Args:
            tenant: Whose conversation it is.
            request: The turn that needs it: its model makes it, and its caller pays for it.
            history: What was said before that turn.
            cut: As `due` says it.
            kept: The messages after the history that are not summed up, those of the turn.

        Raises:
            CloisterError: The model's pods are down, a limit is reached, or there was no answer, or none in time.
        """
        most = self._most_tokens(tenant, request)
        prompt = await self._prompt(request, history.until(cut), most)
        generation = Generation(
            new_id("gen_"), tenant, request.key_id, request.model, "summary", request.user, int(time.time())
        )
        # (A thought would leave no room for the summary.)
        body = {"messages": prompt.messages, "max_completion_tokens": most, "temperature": 0.0, **thinking("none")}
        count = partial(count_prompt, self._upstream, request.model, body)
        context = self._models.get(request.model).context_tokens
        size = PromptSize(min(context, prompt.at_most), count, context)
        async with Metered(self._meter, generation, most_output_tokens=most, prompt=size) as metered:
            metered.used.silent = True
            try:
                async with asyncio.timeout(self._policies.settings.summary_seconds):
                    raw = await self._upstream.complete_chat(
                        request.model, body, tenant=tenant, affinity=request.affinity
                    )
            except TimeoutError as error:
                raise CloisterError("There was no summary in time.") from error
            answer = orjson.loads(raw)
            metered.used = _used(answer.get("usage") or {})
            metered.used.split = InputSplit(*prompt.layout.split(metered.used.prompt))
        text = str(answer["choices"][0]["message"].get("content") or "").strip()
        if not text:
            raise CloisterError("The model gave no summary.")
        before = history.summary
        turns = (0 if before is None else before.turns) + history.until(cut).turns
        rest = [*history.from_place(cut), *kept]
        return Made(KeptSummary(text, turns, len(rest), _as_text(rest)), metered.used)

    async def item(
        self, tenant: str, request: TurnRequest, item_id: str, history: History, new: list[Message]
    ) -> Item | None:
        """The summary that the turn needs, as an item of its output; None where it needs none.

        Raises:
            CloisterError: It needs one, and as `make` says; or that failed a while ago.
        """
        cut = await self.due(tenant, request, history, new)
        if cut is None:
            return None
        name = f"{tenant} {request.affinity}"
        if not self._attempts.may(name):
            raise CloisterError("Summing up failed a while ago, and is tried again later.")
        try:
            summary = (await self.make(tenant, request, history, cut, new)).summary
        except CloisterError as error:
            self._attempts.failed(name)
            _SUMMARIES.labels("failed").inc()
            log.warning("summary_failed", model=request.model, error=type(error).__name__)
            raise
        self._attempts.succeeded(name)
        _SUMMARIES.labels("made").inc()
        return await self.sealed(tenant, item_id, summary)

    async def sealed(self, tenant: str, item_id: str, summary: KeptSummary) -> Item:
        """A summary as an item, with what its caller may keep of it."""
        return compaction_item(item_id, summary, await self._seals.seal_summary(tenant, summary))

    def _most_tokens(self, tenant: str, request: TurnRequest) -> int:
        most = self._policies.of(tenant).summary_tokens
        threshold = self.threshold(tenant, request)
        if threshold is not None:
            most = max(1, min(most, threshold // _SUMMARY_SHARE))
        return min(most, self._models.get(request.model).context_tokens // _SUMMARY_SHARE)

    async def _prompt(self, request: TurnRequest, history: History, most: int) -> Prompt:
        """The prompt of a turn, with the wish for a summary. What is too long for the model loses its oldest turns."""
        model = self._models.get(request.model)
        builder = PromptBuilder(
            partial(self._upstream.count_tokens, request.model),
            budget=model.context_tokens - most,
            model=f"{request.model} summing up",
        )
        instructions = "\n\n".join(part for part in (model.instructions, request.instructions) if part)
        wish = {"role": "user", "content": _WISH.format(words=max(8, int(most * _WORDS_A_TOKEN)))}
        try:
            return await builder.build(
                instructions=instructions or None,
                history=history,
                passages=[],
                new=[wish],
                drop=True,
                images=ImageRoom(model.images, MOST_PROMPT_IMAGES),
            )
        except (PromptTooLongError, TooManyImagesError) as error:
            raise CloisterError("What is to be summed up does not fit into the model.") from error


def compaction_item(item_id: str, summary: KeptSummary, sealed: str) -> Item:
    """A summary as an item; ``sealed`` is the same for its caller to keep."""
    ours = {"summary": summary.text, "turns": summary.turns, "keeps": summary.keeps}
    return {"id": item_id, "type": "compaction", "encrypted_content": sealed, "cloister": ours}


def said_item(message: Message) -> Item:
    """A message of text as an item."""
    if message["role"] == "assistant":
        part: Item = {"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []}
    else:
        part = {"type": "input_text", "text": message["content"]}
    said = {"role": message["role"], "status": "completed", "content": [part]}
    item: Item = {"id": new_id("msg_"), "type": "message", **said}
    return {**item, "phase": None} if message["role"] == "assistant" else item


def _as_text(messages: Sequence[Message]) -> list[Message]:
    """What messages say in words."""
    return [
        {"role": message["role"], "content": text_of(message)}
        for message in messages
        if message["role"] in {"user", "assistant", "system"} and text_of(message)
    ]


def _used(usage: Mapping[str, object]) -> Used:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Used(
        int(str(usage.get("prompt_tokens") or 0)), int(cached or 0), int(str(usage.get("completion_tokens") or 0))
    )
