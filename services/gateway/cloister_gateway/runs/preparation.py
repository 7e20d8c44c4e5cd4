"""What a turn needs before its first token: history, passages and the prompt, and whether they fit the model at all."""

import hashlib
from collections.abc import Sequence
from functools import partial

import orjson
from cloister_common.caller import NOBODY
from cloister_common.errors import InvalidRequest, Unavailable, UnsupportedParameter, UpstreamFailed
from cloister_common.ids import new_id
from cloister_common.vault.cache import ShortCache

from cloister_gateway.grounding import NOTHING, Coverage, FileSearch, Passage, Retrieval, Shown
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.counting import count_prompt
from cloister_gateway.models.images import MOST_PROMPT_IMAGES, no_images, too_many_images
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.rewriting import QueryRewriter, Rewritten
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import (
    History,
    ImageRoom,
    Parts,
    Prompt,
    PromptBuilder,
    PromptTooLongError,
    TooManyImagesError,
    counted,
)
from cloister_gateway.runs.attached import check_all_images
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.returned import check_all_returned, check_returned, speaks_of_calls
from cloister_gateway.runs.summaries import Summaries, said_item
from cloister_gateway.runs.unspoken import is_asked_first
from cloister_gateway.storage import DamagedError, StoredLog
from cloister_gateway.usage import PromptSize, Used
from cloister_gateway.wire.items import Item, Message, item_messages, shows_images, text_of

__all__ = ["Preparation"]

_FUNCTIONS_SECONDS = 3600.0
_MOST_FUNCTIONS = 10_000
_LEAST_TURNS = 2
"""Messages of users, from which on a query is written: the first question leaves nothing out that was said before."""

_TEMPLATE_TOKENS = 512
"""More than any chat template we know says on its own before the first message."""
_FUNCTIONS_SLACK = 32
"""Tokens by which what functions take may differ from prompt to prompt: a template puts them beside other words."""


class Preparation:
    """Prepares turns. One instance serves all runs.

    Args:
        models: The chat models.
        upstream: Counts tokens with a model's own tokenizer.
        retrieval: Searches.
        rewriter: Writes queries.
        rewrites: Whether it does for turns whose caller does not say.
        history: Reads what was said before.
        summaries: Sum it up where it is too long for its project.
    """

    def __init__(
        self,
        *,
        models: Catalog,
        upstream: ModelUpstream,
        retrieval: Retrieval,
        rewriter: QueryRewriter,
        rewrites: bool,
        history: HistoryReader,
        summaries: Summaries,
    ) -> None:
        self._models = models
        self._upstream = upstream
        self._retrieval = retrieval
        self._rewriter = rewriter
        self._rewrites = rewrites
        self._history = history
        self.summaries = summaries
        self._functions: ShortCache[int] = ShortCache(seconds=_FUNCTIONS_SECONDS, most=_MOST_FUNCTIONS)

    async def draft(self, principal: Principal, request: TurnRequest, log: StoredLog | None = None) -> Prompt | None:
        """Refuses, before anything is stored, a request that is known to fail; else its prompt, made before it is
        accepted and sent as it is by its run, where nothing comes between.

        None if the run must make it: where it searches or sums up, or where nobody can say now. ``log`` are the items
        of its conversation, if they were read just now.

        Raises:
            InvalidRequest: It does not fit into its model (``context_length_exceeded``), or calls and what they
                returned do not fit together.
            NotFound: The conversation, a response of the chain or a vector store is unknown to this tenant.
        """
        tenant = principal.tenant
        if any(tool.rewrite_query for tool in request.tools) and not self._rewriter.is_for(tenant):
            raise UnsupportedParameter(
                f"tools[{request.search_place}].rewrite_query",
                "No chat model writes queries for this project. Leave 'rewrite_query' out.",
            )
        history: History | None = None
        try:
            history = await self._history.before(tenant, request, log)
        except DamagedError:
            # The run meets it too, and its response tells. Who wants all of the history is told before it is stored.
            if request.truncation == "disabled":
                raise
            if not request.tools:
                return None
        if history is not None and (history.said.calls or speaks_of_calls(request.input)):
            check_returned(principal, history, request.input, "input")
            check_all_returned(history, request.input, "input")
        new = item_messages(request.input)
        if history is not None and shows_images(request.input):
            check_all_images(history, new, param="input")
        if history is None or (request.tools and request.truncation == "auto"):
            # What is found comes before history: here it is only seen whether the rest fits.
            history = History.of([])
        history, new = _with_earlier_input(request, history, new)
        try:
            if request.tools:
                await self._retrieval.check(tenant, request.tools, first=request.search_place)
            prompt = await self.prompt(tenant, request, history, [], new)
            due = await self.summaries.due(tenant, request, history, new)
        except (Unavailable, UpstreamFailed):
            return None  # Nobody can say now. The run asks again.
        return prompt if due is None and not request.tools else None

    async def count(
        self, principal: Principal, request: TurnRequest, log: StoredLog | None = None
    ) -> tuple[int, Parts, Prompt]:
        """The tokens of the prompt that the turn would send now, in all and by part, by the model's own tokenizer: what
        was said, what a search finds, and the functions are in it; and that prompt. ``log`` as of `draft`.

        Raises:
            CloisterError: As `draft`; or the pods are down, or the search fails.
        """
        prompt = await self.draft(principal, request, log)
        if prompt is None:
            history = await self._history.before(principal.tenant, request, log)
            history, new = _with_earlier_input(request, history, item_messages(request.input))
            passages: list[Passage] = []
            coverage: Coverage = "found"
            for tool in request.tools:
                queries = self.queries(history, new)
                passages, coverage = await self.search(principal.tenant, request, tool, queries)
            pictures = await self.pictures(principal.tenant, request, history, passages, new)
            prompt = await self.prompt(
                principal.tenant, request, history, passages, new, coverage=coverage, pictures=pictures
            )
        tokens = await self._upstream.count_tokens(
            request.model, prompt.messages, tools=request.functions, attempts=Attempts()
        )
        try:
            count = partial(self._upstream.count_tokens, request.model)
            parts = await counted(prompt.messages, prompt.layout, tokens, count)
        except InvalidRequest:
            parts = prompt.layout.split(tokens)  # Its template takes no beginning of a prompt.
        return tokens, parts, prompt

    async def check_room(self, request: TurnRequest) -> None:
        """Raises `TooManyRequests` where the model rests, and so many wait for it that no more may."""
        await self._upstream.check_room(request.model)

    async def compact(self, principal: Principal, request: TurnRequest) -> tuple[list[Item], Used]:
        """What ``POST /v1/responses/compact`` answers with: the user's messages, and behind them what stands for all
        that was said, the input included; and what making it used.

        Raises:
            CloisterError: As `draft`; or the pods are down, a limit is reached, or there was no summary.
        """
        before = await self._history.before(principal.tenant, request)
        new = item_messages(request.input)
        if before.said.calls or speaks_of_calls(request.input):
            check_returned(principal, before, request.input, "input")
        history = History.of([*before.messages, *new])
        model = self._models.get(request.model)
        if not model.images and history.seen_from(history.floor):
            raise no_images(model, "There are images in what was said", param="model")
        made = await self.summaries.make(principal.tenant, request, history, history.end)
        users = [
            said_item({"role": "user", "content": text_of(message)})
            for message in history.from_place(0)
            if message["role"] == "user" and text_of(message)
        ]
        return [*users, await self.summaries.sealed(principal.tenant, new_id("cmp_"), made.summary)], made.used

    async def messages(self, tenant: str, request: TurnRequest) -> tuple[History, list[Message]]:
        """The messages before this turn, oldest first, and those of this turn."""
        history = await self._history.before(tenant, request)
        return _with_earlier_input(request, history, item_messages(request.input))

    def queries(self, history: History, new: list[Message]) -> list[str]:
        """What to search for."""
        return self._retrieval.queries([*history.messages, *new])

    async def rewritten(self, tenant: str, tool: FileSearch, history: History, new: list[Message]) -> Rewritten | None:
        """A query that a chat model writes for the turn; None if none is wanted, or nothing was said before."""
        wanted = self._rewrites if tool.rewrite_query is None else tool.rewrite_query
        messages = [*history.messages, *new]
        if not wanted or sum(message["role"] == "user" for message in messages) < _LEAST_TURNS:
            return None
        return await self._rewriter.rewrite(tenant, messages)

    async def search(
        self, tenant: str, request: TurnRequest, tool: FileSearch, queries: list[str]
    ) -> tuple[list[Passage], Coverage]:
        """The passages for ``queries`` that who asks may see, best first, and what that says of the question."""
        seeing = self._models.get(request.model).images > 0
        return await self._retrieval.search(tenant, tool, queries, request.caller or NOBODY, seeing=seeing)

    async def pictures(
        self, tenant: str, request: TurnRequest, history: History, passages: list[Passage], new: list[Message]
    ) -> list[Shown]:
        """The pictures of ``passages`` for a model that takes images: as many as those that people show leave room
        for, which come first. They are fetched anew by who takes a run over."""
        images = self._models.get(request.model).images
        if not images or all(passage.image is None for passage in passages):
            return []
        room = ImageRoom(images, MOST_PROMPT_IMAGES).less([*history.seen_from(0), *new])
        return await self._retrieval.pictures(
            tenant, passages, request.caller or NOBODY, images=room.images, characters=room.characters
        )

    async def prompt(
        self,
        tenant: str,
        request: TurnRequest,
        history: History,
        passages: list[Passage],
        new: list[Message],
        boundary: str | None = None,
        coverage: Coverage = "found",
        pictures: Sequence[Shown] = (),
    ) -> Prompt:
        """The prompt, with what had to be left out. ``boundary`` is what the passages stand between, if it is known;
        ``coverage`` what the model is told where there are none; ``pictures`` are those of the passages.

        Raises:
            InvalidRequest: What must stay does not fit (``context_length_exceeded``), or has images that the model does
                not take.
        """
        model = self._models.get(request.model)
        if not model.images and history.seen_from(history.floor):
            raise no_images(model, "There are images in what was said before", param="model")
        functions = await self._functions_tokens(request)
        budget = model.context_tokens - min(self.answer_tokens(request), model.context_tokens // 2) - functions
        count = partial(self._upstream.count_tokens, request.model)
        builder = PromptBuilder(count, budget=budget, model=request.model)
        instructions = "\n\n".join(part for part in (model.instructions, request.instructions) if part)
        try:
            prompt = await builder.build(
                instructions=instructions or None,
                history=history,
                passages=passages,
                new=new,
                drop=request.truncation == "auto",
                cite=request.response_format is None,
                boundary=boundary,
                nothing=NOTHING.get(coverage),
                images=ImageRoom(model.images, MOST_PROMPT_IMAGES),
                pictures=pictures,
                history_tokens=self.summaries.budget(tenant),
            )
        except TooManyImagesError as error:
            raise too_many_images(model, param="input") from error
        except PromptTooLongError as error:
            raise InvalidRequest(
                f"The input has {error.tokens + functions} tokens; with room for the answer this model takes "
                f"{error.budget + functions}. "
                "Send less, start a new conversation, or ask for fewer max_output_tokens.",
                param="input",
                code="context_length_exceeded",
            ) from error
        if not functions:
            return prompt
        note = prompt.note_tokens
        return prompt._replace(
            note_tokens=lambda tokens: note(tokens - functions + 2 * _FUNCTIONS_SLACK),
            at_most=prompt.at_most + functions,
            layout=prompt.layout._replace(weights=prompt.layout.weights._replace(tools=functions - _FUNCTIONS_SLACK)),
        )

    async def _functions_tokens(self, request: TurnRequest) -> int:
        """How many tokens the functions of a request take of its prompt, at most: asked once for each set of them."""
        if not request.functions:
            return 0
        key = f"{request.model} {hashlib.sha256(orjson.dumps(request.functions)).hexdigest()}"
        tokens = self._functions.get(key)
        if tokens is None:
            count = partial(self._upstream.count_tokens, request.model, [{"role": "user", "content": "?"}])
            tokens = await count(tools=request.functions) - await count()
            self._functions.put(key, tokens)
        return max(0, tokens) + _FUNCTIONS_SLACK

    def answer_tokens(self, request: TurnRequest) -> int:
        """The longest answer, in tokens."""
        return self._models.get(request.model).answer_tokens(request.max_output_tokens)

    def most_output_tokens(self, request: TurnRequest) -> int:
        """What the model writes at most: more than the longest answer where it is asked twice."""
        return self.answer_tokens(request) * _times_asked(request)

    def prompt_size(self, request: TurnRequest, draft: Prompt | None) -> PromptSize:
        """How many tokens the prompt has; where the run is yet to make it, it may fill all the room there is."""
        model = self._models.get(request.model)
        room = model.context_tokens - min(self.answer_tokens(request), model.context_tokens // 2)
        together = model.context_tokens * _times_asked(request)
        if draft is None:
            return PromptSize(room, None, together)
        body = {"messages": draft.messages, "tools": request.functions}
        count = partial(count_prompt, self._upstream, request.model, body)
        return PromptSize(min(room, draft.at_most + _TEMPLATE_TOKENS), count, together)

    def check_queue(self, tenant: str, request: TurnRequest, size: PromptSize) -> None:
        """Raises `TooManyRequests` where the model's pods have more before them than ``request`` may wait for."""
        most = self.most_output_tokens(request)
        self._upstream.check_queue(
            request.model, request.work_class, tenant=tenant, size=size.at_most, most_output_tokens=most
        )


def _with_earlier_input(request: TurnRequest, history: History, new: list[Message]) -> tuple[History, list[Message]]:
    """Where the caller wants history summed up, all of its input but the last turn is history: who stores nothing here
    sends it all."""
    if request.compact_threshold is None:
        return history, new
    whole = History.of([*history.messages, *new])
    first = whole.said.starts[-1] if whole.said.starts else 0
    return (history, new) if first <= history.end else (whole.until(first), whole.from_place(first))


def _times_asked(request: TurnRequest) -> int:
    return 2 if is_asked_first(request) else 1
