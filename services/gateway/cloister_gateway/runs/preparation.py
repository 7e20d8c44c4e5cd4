"""What a turn needs before its first token: history, passages and the prompt, and whether they fit the model at all."""

import hashlib
from functools import partial

import orjson
from cloister_common.caller import Caller
from cloister_common.errors import InvalidRequest, Unavailable, UpstreamFailed
from cloister_common.vault.cache import ShortCache

from cloister_gateway.grounding import NOTHING, Coverage, FileSearch, Passage, Retrieval
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import History, Prompt, PromptBuilder, PromptTooLongError
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.returned import check_all_returned, check_returned, speaks_of_calls
from cloister_gateway.storage import DamagedError, StoredLog
from cloister_gateway.wire.items import Message, item_messages

__all__ = ["Preparation"]

_FUNCTIONS_SECONDS = 3600.0
_MOST_FUNCTIONS = 10_000
_FUNCTIONS_SLACK = 32
"""Tokens by which what functions take may differ from prompt to prompt: a template puts them beside other words."""


class Preparation:
    """Prepares turns. One instance serves all runs.

    Args:
        models: The chat models.
        upstream: Counts tokens with a model's own tokenizer.
        retrieval: Searches.
        history: Reads what was said before.
    """

    def __init__(
        self,
        *,
        models: Catalog,
        upstream: ModelUpstream,
        retrieval: Retrieval,
        history: HistoryReader,
    ) -> None:
        self._models = models
        self._upstream = upstream
        self._retrieval = retrieval
        self._history = history
        self._functions: ShortCache[int] = ShortCache(seconds=_FUNCTIONS_SECONDS, most=_MOST_FUNCTIONS)

    async def draft(self, principal: Principal, request: TurnRequest, log: StoredLog | None = None) -> Prompt | None:
        """Refuses, before anything is stored, a request that is known to fail; else its prompt, made before it is
        accepted and sent as it is by its run, where nothing comes between.

        None if the run must make it: where it searches, or where nobody can say now. ``log`` are the items of its
        conversation, if they were read just now.

        Raises:
            InvalidRequest: It does not fit into its model (``context_length_exceeded``), or calls and what they
                returned do not fit together.
            NotFound: The conversation, a response of the chain or a vector store is unknown to this tenant.
        """
        tenant = principal.tenant
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
        if history is None or (request.tools and request.truncation == "auto"):
            # What is found comes before history: here it is only seen whether the rest fits.
            history = History.of([])
        try:
            if request.tools:
                await self._retrieval.check(tenant, request.tools, first=request.search_place)
            prompt = await self.prompt(request, history, [], item_messages(request.input))
        except (Unavailable, UpstreamFailed):
            return None  # Nobody can say now. The run asks again.
        return None if request.tools else prompt

    async def messages(self, tenant: str, request: TurnRequest) -> tuple[History, list[Message]]:
        """The messages before this turn, oldest first, and those of this turn."""
        return await self._history.before(tenant, request), item_messages(request.input)

    def queries(self, history: History, new: list[Message]) -> list[str]:
        """What to search for."""
        return self._retrieval.queries([*history.messages, *new])

    async def search(
        self, tenant: str, tool: FileSearch, queries: list[str], caller: Caller
    ) -> tuple[list[Passage], Coverage]:
        """The passages for ``queries`` that ``caller`` may see, best first, and what that says of the question."""
        return await self._retrieval.search(tenant, tool, queries, caller)

    async def prompt(
        self,
        request: TurnRequest,
        history: History,
        passages: list[Passage],
        new: list[Message],
        boundary: str | None = None,
        coverage: Coverage = "found",
    ) -> Prompt:
        """The prompt, with what had to be left out. ``boundary`` is what the passages stand between, if it is known;
        ``coverage`` what the model is told where there are none.

        Raises:
            InvalidRequest: What must stay does not fit (``context_length_exceeded``).
        """
        model = self._models.get(request.model)
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
            )
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
        return prompt._replace(note_tokens=lambda tokens: note(tokens - functions + 2 * _FUNCTIONS_SLACK))

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
