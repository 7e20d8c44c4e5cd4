"""What is kept of a run, sealed in its response's record: what was asked, what was prepared, how it ended.

    field     holds             written                        by                  until
    request   TurnRequest       when the turn is accepted      acceptance          the response is deleted
    body      ResponseBody      then, and at the run's end     acceptance, the run "
    results   [SearchResult]    at the run's end, if it searched       the run     "
    found     Found             once it has searched           the run             its stream is dropped
    outcome   Outcome           by the version before          the run             "
    prompt    PreparedPrompt    by the version before          the run             "

Whoever takes a run over goes on from these and from its events. The prompt itself is not kept: it is put together again
from what was found and from the history, which lacks what was deleted meanwhile, and that must not be used. Items,
response bodies and search results are OpenAI's, and stay in its JSON.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cloister_common.caller import Caller
from pydantic import BaseModel, ConfigDict, Field

from cloister_gateway.grounding import Coverage, FileSearch, Passage
from cloister_gateway.models.reasoning import Effort
from cloister_gateway.models.work import WorkClass, class_of
from cloister_gateway.prompt import Layout
from cloister_gateway.storage import Record, SealedField
from cloister_gateway.wire.items import Item, Message, ResponseBody, SearchResult

__all__ = [
    "BODY",
    "FOUND",
    "OUTCOME",
    "PROMPT",
    "REQUEST",
    "RESULTS",
    "CitationDetails",
    "Found",
    "IncompleteDetails",
    "InputParts",
    "Outcome",
    "PreparedPrompt",
    "RunError",
    "SummaryDetails",
    "TokenCount",
    "TruncationDetails",
    "TurnRequest",
    "Usage",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class TurnRequest(Record):
    """What was asked: all that another gateway needs to run it.

    Attributes:
        model: The public name of the model.
        input: The items of the turn, with the ids they are stored under.
        instructions: The system turn of the caller.
        conversation: The id of the conversation the turn is part of.
        previous_response_id: The response before this one, in a chain.
        tools: Where to search.
        search_place: Which of the caller's tools that is.
        functions: What the model may call, as Chat Completions declare it.
        function_choice: Whether it must, in their words.
        parallel_calls: Whether it may call more than one at once.
        show_results: Whether the response shows what a search finds.
        response_format: The form of the answer, as Chat Completions have it; None is prose.
        temperature, top_p: As sent to the pod; None, of a version before, is the pod's default.
        presence_penalty, frequency_penalty: As the caller sent them; None is the pod's default.
        logprobs: How many likeliest tokens are told beside each token of the answer; None where not even its own is.
        reasoning_effort: How much the model shall think; None is as the pod has it.
        seal_reasoning: Whether the response shows its reasoning sealed too, for the caller to send back.
        max_output_tokens: The longest answer, in tokens.
        truncation: Whether history may be left out where it does not fit.
        compact_threshold: Tokens of history, over which the caller wants it summed up.
        background: Whether the run goes on with nobody watching.
        work: How soon it is wanted, where ``background`` does not say.
        earlier: The responses before this one, newest first; see `cloister_gateway.runs.history`. None if it was
            stored by a version that named none.
        affinity: Requests with the same one go to the same pod.
        key_id: The credential it was asked with; empty if it was stored by a version that did not note it.
        user: Who it is for within the project, to records of usage; empty as well if a version before stored it.
        caller: Who asked, where it searches: whoever takes the run over searches as them, and finds what they may see.
    """

    model: str
    input: list[Item]
    instructions: str | None = None
    conversation: str | None = None
    previous_response_id: str | None = None
    tools: list[FileSearch] = Field(default_factory=list)
    search_place: int = 0
    functions: list[dict[str, Any]] = Field(default_factory=list)
    function_choice: str | dict[str, Any] = "auto"
    parallel_calls: bool = True
    show_results: bool = False
    response_format: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    reasoning_effort: Effort | None = None
    seal_reasoning: bool = False
    max_output_tokens: int | None = None
    truncation: Literal["auto", "disabled"] = "auto"
    compact_threshold: int | None = None
    background: bool = False
    work: WorkClass | None = None
    earlier: list[str] | None = None
    affinity: str = ""
    key_id: str = ""
    user: str = ""
    caller: Caller | None = None

    @property
    def work_class(self) -> WorkClass:
        """How soon it is wanted, also of what a version before stored."""
        return self.work or class_of(background=self.background)


class Found(Record):
    """What a search found for the prompt: a takeover cites the same.

    Attributes:
        passages: Best first; the prompt has as many of them as fit.
        boundary: What they stand between there.
        coverage: What they say of the question; a search of the version before has found something.
    """

    passages: list[Passage]
    boundary: str
    coverage: Coverage = "found"

    def results(self) -> list[SearchResult]:
        """The same as the response shows it."""
        return [passage.as_result() for passage in self.passages]


class PreparedPrompt(Record):
    """What was prepared, all of it; written by the version before this one.

    Attributes:
        messages: The prompt.
        passages: The excerpts in it, by the numbers that the model cites.
        dropped: How many messages of the history did not fit.
        results: What the search found; None if nothing was searched.
    """

    messages: list[Message]
    passages: list[Passage]
    dropped: int
    results: list[SearchResult] | None


class SummaryDetails(_Part):
    """Ours: what stands for the beginning of the history.

    Attributes:
        turns: How many turns that is; 0 where nothing does.
        status: Whether it was made in this turn, or kept from one before; or was to be made, and was not.
    """

    turns: int
    status: Literal["made", "kept", "failed"]


class TruncationDetails(_Part):
    """Ours: what of the history did not fit, and what was summed up."""

    dropped_messages: int
    summary: SummaryDetails | None = None


class CitationDetails(_Part):
    """Ours: whether all of the answer could be compared with the passages."""

    status: Literal["complete", "partial"]


class IncompleteDetails(_Part):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"]


class RunError(_Part):
    """Why a response failed: OpenAI's code, and a sentence for the caller."""

    code: str
    message: str


class InputParts(_Part):
    """Ours: the prompt's tokens by what they are of; see `cloister_gateway.prompt.parts`."""

    system: int = 0
    history: int = 0
    retrieved: int = 0
    tools: int = 0
    new: int = 0


class _InputTokens(_Part):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class _OutputTokens(_Part):
    reasoning_tokens: int = 0


class Usage(_Part):
    """What was used, in OpenAI's shape; and, as ours beside it, what the input is made of, where that is known.

    (Not among the details of the input: there clients take numbers, and nothing else.)
    """

    input_tokens: int = 0
    input_tokens_details: _InputTokens = _InputTokens()
    output_tokens: int = 0
    output_tokens_details: _OutputTokens = _OutputTokens()
    total_tokens: int = 0
    cloister: InputParts | None = None


@dataclass(slots=True)
class TokenCount:
    """What is used while a run goes on, in tokens. Plain, since it is counted with each chunk of the model.

    Attributes:
        prompt: The prompt's; None until the model has said.
        cached: Those of the prompt that the pod had in its cache.
        output: The answer's so far, over all pods and gateways that made it.
        reasoning: Those of ``output`` that are reasoning, as far as the pod says.
        unspoken: Those besides that the model began to answer with, where it was asked first whether it calls.
        query_prompt, query_output: Those of the model that wrote a query for the search.
        layout: What the prompt is made of; None until there is one.
    """

    prompt: int | None = None
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    unspoken: int = 0
    query_prompt: int = 0
    query_output: int = 0
    layout: Layout | None = None

    def note_query(self, prompt: int, output: int) -> None:
        """Adds what writing a query used."""
        self.query_prompt += prompt
        self.query_output += output

    def usage(self) -> Usage:
        """The same in OpenAI's shape."""
        prompt, output = (self.prompt or 0) + self.query_prompt, self.output + self.unspoken + self.query_output
        parts: InputParts | None = None
        if self.layout is not None:
            # (What writing a query took is of the search.)
            split = self.layout.split(self.prompt or 0, beside=self.query_prompt)
            parts = InputParts.model_validate(split._asdict())
        return Usage(
            input_tokens=prompt,
            input_tokens_details=_InputTokens(cached_tokens=self.cached),
            output_tokens=output,
            output_tokens_details=_OutputTokens(reasoning_tokens=self.reasoning),
            total_tokens=prompt + output,
            cloister=parts,
        )


class Outcome(Record):
    """How it ended, as changes of the response.

    The version before wrote it down before its last events, which were several writes; a run that broke off between
    them ends so.
    """

    status: Literal["completed", "incomplete", "failed", "cancelled"]
    completed_at: int | None = None
    incomplete_details: IncompleteDetails | None = None
    error: RunError | None = None
    truncation_details: TruncationDetails | None = None
    citation_details: CitationDetails | None = None
    usage: Usage | None = None

    def changes(self) -> ResponseBody:
        """The fields of the response that change."""
        return self.model_dump(exclude={"v"}, exclude_none=True)


REQUEST = SealedField("request", TurnRequest)
BODY = SealedField("body", ResponseBody)
RESULTS = SealedField("results", list[SearchResult])
FOUND = SealedField("found", Found)
PROMPT = SealedField("prompt", PreparedPrompt)
OUTCOME = SealedField("outcome", Outcome)
