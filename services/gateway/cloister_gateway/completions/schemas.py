"""What ``POST /v1/completions`` accepts: OpenAI's schema as far as it is served, the rest refused by name.

Source: OpenAI API reference, "Create completion".
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.wire.requests import Hint, hints_of
from pydantic import Field

from cloister_gateway.chat.schemas import LogitBias, Stop, StreamOptions
from cloister_gateway.wire.parameters import (
    FrequencyPenalty,
    IgnoreEos,
    MinP,
    MinTokens,
    PresencePenalty,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    User,
    pod_top_p,
)
from cloister_gateway.wire.strict import LARGEST_NUMBER, MAX_INPUT_CHARACTERS, Strict, only

__all__ = ["CompletionRequest"]

_MOST_PROMPTS = 128
_MOST_CHOICES = 8
"""As many sequences as a pod takes of one request are eight for each of 128 prompts."""

_MOST_LOGPROBS = 20
_MOST_TOKENS = 16
"""OpenAI's length of an answer where none was asked for."""


class CompletionRequest(Strict):
    """The request body."""

    refused: ClassVar[Mapping[str, str]] = {
        "suffix": "Models here go on from the end of a text, and insert nothing. Leave it out.",
    }

    model: str = Field(description="One of `GET /v1/models`.")
    prompt: Any = Field(
        description=f"A text, or up to {_MOST_PROMPTS}. All of it is content: what is spelled like a control token of "
        "the model is text. Token ids are refused, since they could be any."
    )
    best_of: Annotated[Literal[1] | None, only(1), Hint("1 is what there is; others are refused.")] = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = Field(None, description="With `stream: true` only.")
    stop: Stop | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = Field(None, description="0 leaves the likeliest token alone.")
    max_tokens: Annotated[int, Field(ge=0, le=LARGEST_NUMBER)] | None = Field(
        None, description=f"{_MOST_TOKENS} where it is left out, as at OpenAI; 0 with `echo` only."
    )
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = Field(
        None, description=f"Up to {_MOST_CHOICES} for each prompt."
    )
    presence_penalty: PresencePenalty | None = None
    frequency_penalty: FrequencyPenalty | None = None
    logit_bias: LogitBias | None = Field(
        None, description="By the model's own token ids; an id that it does not have is a 400."
    )
    logprobs: Annotated[int, Field(ge=0, le=_MOST_LOGPROBS)] | None = Field(
        None, description=f"Up to {_MOST_LOGPROBS}."
    )
    user: User = None

    ignore_eos: IgnoreEos = None
    min_tokens: MinTokens = None
    top_k: TopK = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None

    @property
    def answers(self) -> int:
        """How many are asked for."""
        return (len(self.prompt) if isinstance(self.prompt, list) else 1) * (self.n or 1)

    @property
    def most_tokens(self) -> int:
        """How long each may be."""
        return _MOST_TOKENS if self.max_tokens is None else self.max_tokens

    def check(self) -> None:
        """What no single field can tell.

        Raises:
            InvalidRequest: Fields contradict each other, or ``prompt`` is no text; ``param`` says which.
        """
        _check_prompt(self.prompt)
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("'max_tokens': 0 asks for nothing without 'echo': true.", param="max_tokens")
        if self.min_tokens and self.min_tokens > self.most_tokens:
            raise InvalidRequest(f"'min_tokens' is over the longest answer, {self.most_tokens}.", param="min_tokens")

    def upstream_body(self) -> dict[str, Any]:
        """The body for vLLM: only what was sent, without what ends at the gateway."""
        body = self.model_dump(exclude_none=True, exclude={*hints_of(CompletionRequest), "stream", "stream_options"})
        body["max_tokens"] = self.most_tokens
        if self.top_p is not None:
            body["top_p"] = pod_top_p(self.top_p)
        if self.stream_options is not None:
            options = self.stream_options.model_dump(exclude_none=True, exclude=set(hints_of(StreamOptions)))
            body["stream_options"] = options
        return body


def _check_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        _check_text(prompt, "prompt")
        return
    if not isinstance(prompt, list):
        raise InvalidRequest("'prompt' must be a text or a list of texts.", param="prompt", code="invalid_type")
    if not prompt:
        raise InvalidRequest("'prompt' must not be an empty list. Send a text.", param="prompt", code="empty_array")
    if len(prompt) > _MOST_PROMPTS and isinstance(prompt[0], str):
        raise InvalidRequest(
            f"'prompt' has {len(prompt)} texts; the limit is {_MOST_PROMPTS} in one request. Send several requests.",
            param="prompt",
            code="array_above_max_length",
        )
    for index, text in enumerate(prompt):
        _check_text(text, f"prompt[{index}]")


def _check_text(text: Any, param: str) -> None:
    if isinstance(text, list | int) and not isinstance(text, bool):
        raise UnsupportedParameter(param, f"'{param}' holds token ids. Send the text itself.")
    if not isinstance(text, str):
        raise InvalidRequest(f"'{param}' must be a text.", param=param, code="invalid_type")
    if not text:
        raise InvalidRequest(f"'{param}' is empty, which a model cannot go on from.", param=param, code="empty_string")
    if len(text) > MAX_INPUT_CHARACTERS:
        raise InvalidRequest(
            f"'{param}' has {len(text)} characters; the limit is {MAX_INPUT_CHARACTERS}. Send a shorter text.",
            param=param,
            code="string_above_max_length",
        )
