"""What a turn needs before its first token: history, passages and the prompt, and whether they fit the model at all."""

from functools import partial

from cloister_common.errors import InvalidRequest, Unavailable, UpstreamFailed

from cloister_gateway.grounding import FileSearch, Passage, Retrieval
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.prompt import History, Prompt, PromptBuilder, PromptTooLongError
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.storage import DamagedError, StoredLog
from cloister_gateway.wire.items import Message, item_messages

__all__ = ["Preparation"]


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

    async def check(self, tenant: str, request: TurnRequest) -> None:
        """Refuses, before anything is stored, a request that is known to fail.

        Raises:
            InvalidRequest: It does not fit into its model (``context_length_exceeded``).
            NotFound: The conversation, a response of the chain or a vector store is unknown to this tenant.
        """
        everything = request.truncation == "disabled"
        history = await self._history.before(tenant, request) if everything else History.of([])
        try:
            await self._retrieval.check(tenant, request.tools)
            await self.prompt(request, history, [], item_messages(request.input))
        except (Unavailable, UpstreamFailed):
            return  # Nobody can say now. The run asks again.

    async def draft(self, tenant: str, request: TurnRequest, log: StoredLog | None = None) -> Prompt | None:
        """The prompt of a turn, made before it is accepted and sent as it is by its run, where nothing comes between.

        None if the run must make it: where it searches, or where nobody can say now. ``log`` are the items of its
        conversation, if they were read just now.

        Raises:
            InvalidRequest, NotFound: As `check`.
        """
        if request.tools:
            await self.check(tenant, request)
            return None
        try:
            history = await self._history.before(tenant, request, log)
            return await self.prompt(request, history, [], item_messages(request.input))
        except (Unavailable, UpstreamFailed):
            return None
        except DamagedError:
            # The run meets it too, and its response tells. Who wants all of the history is told before it is stored.
            if request.truncation == "disabled":
                raise
            return None

    async def messages(self, tenant: str, request: TurnRequest) -> tuple[History, list[Message]]:
        """The messages before this turn, oldest first, and those of this turn."""
        return await self._history.before(tenant, request), item_messages(request.input)

    def queries(self, history: History, new: list[Message]) -> list[str]:
        """What to search for."""
        return self._retrieval.queries([*history.messages, *new])

    async def search(self, tenant: str, tool: FileSearch, queries: list[str]) -> list[Passage]:
        """The passages for ``queries``, best first."""
        return await self._retrieval.search(tenant, tool, queries)

    async def prompt(
        self,
        request: TurnRequest,
        history: History,
        passages: list[Passage],
        new: list[Message],
        boundary: str | None = None,
    ) -> Prompt:
        """The prompt, with what had to be left out. ``boundary`` is what the passages stand between, if it is known.

        Raises:
            InvalidRequest: What must stay does not fit (``context_length_exceeded``).
        """
        model = self._models.get(request.model)
        budget = model.context_tokens - min(self.answer_tokens(request), model.context_tokens // 2)
        count = partial(self._upstream.count_tokens, request.model)
        builder = PromptBuilder(count, budget=budget, model=request.model)
        instructions = "\n\n".join(part for part in (model.instructions, request.instructions) if part)
        try:
            return await builder.build(
                instructions=instructions or None,
                history=history,
                passages=passages,
                new=new,
                drop=request.truncation == "auto",
                cite=request.response_format is None,
                boundary=boundary,
            )
        except PromptTooLongError as error:
            raise InvalidRequest(
                f"The input has {error.tokens} tokens; with room for the answer this model takes {error.budget}. "
                "Send less, start a new conversation, or ask for fewer max_output_tokens.",
                param="input",
                code="context_length_exceeded",
            ) from error

    def answer_tokens(self, request: TurnRequest) -> int:
        """The longest answer, in tokens."""
        return self._models.get(request.model).answer_tokens(request.max_output_tokens)
