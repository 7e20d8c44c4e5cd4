"""What a plan of use starts from. Every number has a default that is said in the answer, so that a guess is seen."""

from typing import Self

from pydantic import Field, model_validator

from cloister_gateway.wire.strict import Strict

__all__ = ["Conversation", "Pod", "Price", "UsageQuestion", "Week"]

_MOST_TOKENS = 10_000_000
_MOST_USERS = 100_000_000


class Conversation(Strict):
    """A conversation as it usually is."""

    turns: int = Field(6, ge=1, le=1000, description="Questions and answers.")
    system_tokens: int = Field(60, ge=0, le=_MOST_TOKENS, description="Instructions, before everything else.")
    message_tokens: int = Field(80, ge=1, le=_MOST_TOKENS, description="Of a question.")
    answer_tokens: int = Field(300, ge=1, le=_MOST_TOKENS, description="Of an answer.")
    retrieved_tokens: int = Field(
        0, ge=0, le=_MOST_TOKENS, description="Of the excerpts of documents in each turn. They are not kept in history."
    )
    template_tokens: int = Field(5, ge=0, le=1000, description="That the model's template puts around a message.")


class Week(Strict):
    """When people ask."""

    hours_a_day: float = Field(8, gt=0, le=24, description="In which they do.")
    days_a_month: float = Field(21, gt=0, le=31, description="On which they do.")
    peak_factor: float = Field(
        3, ge=1, le=1000, description="How much more is asked in the busiest minutes than on average in those hours."
    )


class Pod(Strict):
    """What a pod of the model can do, as ``cloister_llm plan --json`` says it: ``capacity`` and ``estimate``."""

    context_tokens: int = Field(8192, ge=16, le=_MOST_TOKENS, description="The longest conversation.")
    streams: int = Field(32, ge=1, le=100_000, description="Answers at once.")
    one_stream: float = Field(60, gt=0, description="Tokens a second of one answer alone.")
    many_streams: float = Field(900, gt=0, description="Tokens a second of all answers, with `streams` of them.")
    prompt_rate: float = Field(8000, gt=0, description="Tokens a second of prompts that are in no cache.")
    gpus: int = Field(1, ge=1, le=1024, description="Of one pod.")

    @model_validator(mode="after")
    def _faster_together(self) -> Self:
        if self.many_streams < self.one_stream:
            raise ValueError("'many_streams' are the tokens of all streams together: at least those of 'one_stream'")
        if self.many_streams > self.one_stream * self.streams:
            raise ValueError(
                "'many_streams' are at most 'streams' times 'one_stream': no stream is faster beside others"
            )
        return self


class Price(Strict):
    """What GPUs cost."""

    currency: str = Field("EUR", min_length=1, max_length=8, description="Only its name.")
    gpu_hour: float = Field(1.5, ge=0, description="Of a GPU that is there all month.")
    serverless_gpu_hour: float | None = Field(
        None, ge=0, description="Of one that is there only while it is asked; as `gpu_hour` if left out."
    )
    idle_seconds: float = Field(600, ge=0, description="Without a question before a model sleeps.")
    wake_seconds: float = Field(90, ge=0, description="Until a sleeping one answers.")


class UsageQuestion(Strict):
    """Who asks how much, of what."""

    users: int = Field(ge=1, le=_MOST_USERS, description="Who have conversations.")
    conversations_per_user_and_day: float = Field(3, gt=0, le=10_000, description="On a day on which they do.")
    conversation: Conversation = Field(default_factory=Conversation, description="As it usually is.")
    history_tokens: int = Field(2000, ge=1, le=_MOST_TOKENS, description="Of history under the policies that bound it.")
    summary_tokens: int = Field(200, ge=1, le=_MOST_TOKENS, description="Of a summary of what was said before.")
    prefix_cache_share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Of what a prompt has in common with the one before, so much is still in the cache.",
    )
    week: Week = Field(default_factory=Week, description="When they ask.")
    pod: Pod = Field(default_factory=Pod, description="What a pod can do: from `cloister_llm plan --json`.")
    price: Price = Field(default_factory=Price, description="What GPUs cost.")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        said = self.conversation
        needed = said.system_tokens + said.retrieved_tokens + said.message_tokens + said.answer_tokens
        needed += 4 * said.template_tokens
        if needed > self.pod.context_tokens:
            raise ValueError(
                f"a single turn has {needed} tokens with its answer, more than 'pod.context_tokens' "
                f"({self.pod.context_tokens}): ask for shorter ones or a longer context"
            )
        if self.summary_tokens >= self.history_tokens:
            raise ValueError("'summary_tokens' must be fewer than 'history_tokens', or a summary saves nothing")
        return self
