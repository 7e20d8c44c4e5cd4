"""How much of a conversation its turns send: the settings of history."""

from typing import Literal, Self

from cloister_common.settings import Settings
from pydantic import Field, model_validator

__all__ = ["HistoryPolicySettings", "HistorySettings", "PolicyName"]

PolicyName = Literal["all", "budget", "summary"]

_ENOUGH_TOKENS = 64
"""Fewer tokens of history are none."""


class HistoryPolicySettings(Settings):
    """What a turn sends of what was said before it."""

    policy: PolicyName = Field(
        "all",
        description="`all` that fits into the model's context; a `budget` of tokens, over which the oldest turns go; "
        "or, where it grows over that, a `summary` that the chat model makes once of all but the newest quarter.",
    )
    tokens: int | None = Field(
        None,
        ge=_ENOUGH_TOKENS,
        description="Of history, for `budget` and `summary`, with what the chat template puts around it.",
    )
    summary_tokens: int = Field(
        400, ge=16, le=100_000, description="The longest summary; half of `tokens` where that is less."
    )

    @model_validator(mode="after")
    def _bounded_by_something(self) -> Self:
        if self.policy != "all" and self.tokens is None:
            raise ValueError(f"the policy '{self.policy}' bounds history by tokens: give tokens")
        if self.policy == "all" and self.tokens is not None:
            raise ValueError("the policy 'all' sends what fits: leave tokens out, or choose 'budget' or 'summary'")
        return self


class HistorySettings(HistoryPolicySettings):
    """What turns send of what was said before them. The administration API sets it for a project, too."""

    projects: dict[str, HistoryPolicySettings] = Field(
        {}, description="The same for single projects, by their ids, in place of what holds for all."
    )
    summary_seconds: float = Field(
        60.0,
        gt=0,
        le=600,
        description="Longest wait for a summary. Then, as where it fails, the turn drops the oldest turns and says so.",
    )
