"""What may be used, and what it costs: the settings of limits."""

from typing import Literal, Self

from cloister_common.settings import Settings
from pydantic import Field, model_validator

__all__ = ["LimitRule", "LimitSettings", "PriceSettings", "UsageSettings"]

_AMOUNTS = ("requests", "tokens", "input_tokens", "output_tokens", "spend")
"""What is counted over a time."""


class PriceSettings(Settings):
    """What a model costs, in `limits.currency`: by tokens, by the time of its pods, or both."""

    input: float = Field(0.0, ge=0, description="A million tokens that the model reads.")
    output: float = Field(0.0, ge=0, description="A million tokens that it writes.")
    gpu_hour: float = Field(
        0.0,
        ge=0,
        description="An hour of a GPU of its pods, at work or idle. Where it is set, costs are of the pods' time; "
        "limits of `spend` go by tokens all the same.",
    )
    gpus: int = Field(1, ge=1, le=1024, description="Of each pod, for `gpu_hour`.")


class LimitRule(Settings):
    """One rule. What it does not name is not limited by it."""

    level: Literal["organization", "project", "user", "key"] = Field(
        description="Whose use is counted together: all of the installation's, that of a project, of a user of a "
        "project (who holds the key; else its service account), or of a key."
    )
    of: list[str] = Field(
        [],
        description="Whose it is: ids of projects or keys, or names of users. With none each of that level has as much "
        "for itself.",
    )
    model: str | None = Field(
        None,
        description="The model it is about, chat models and those of the embedder alike; `*` is each model for itself. "
        "Left out, the use of all models is counted together.",
    )
    per: Literal["minute", "day", "month"] | None = Field(
        None,
        description="The time over which all but `running` is counted: minutes, days and months begin as the clock in "
        "UTC does, and count anew.",
    )
    requests: int | None = Field(None, ge=0, description="Generations begun.")
    tokens: int | None = Field(None, ge=0, description="Tokens read and written.")
    input_tokens: int | None = Field(None, ge=0, description="Tokens read.")
    output_tokens: int | None = Field(None, ge=0, description="Tokens written.")
    spend: float | None = Field(
        None,
        ge=0,
        description="Money, in `limits.currency`, by `limits.prices`. A model without a price costs nothing.",
    )
    running: int | None = Field(None, ge=0, description="Generations at once.")

    @model_validator(mode="after")
    def _says_what_it_limits(self) -> Self:
        counted = [name for name in _AMOUNTS if getattr(self, name) is not None]
        if not counted and self.running is None:
            raise ValueError(f"a rule limits something: give one of {', '.join(_AMOUNTS)}, running")
        if bool(counted) != (self.per is not None):
            raise ValueError(
                f"{counted[0]} is counted over a time: give per (minute, day or month)"
                if counted
                else "running is how many there are at once, and counted over no time: leave per out"
            )
        if self.level == "organization" and self.of:
            raise ValueError("there is one organization: leave of out")
        return self


class UsageSettings(Settings):
    """How long what was used is kept, beside the sums by day, which stay."""

    keep_rows_days: int = Field(
        90,
        ge=1,
        description="Days that the row of each generation is kept: whose it was, what it used, never its words.",
    )
    keep_hours_days: int = Field(400, ge=1, description="Days that the sums by hour are kept.")


class LimitSettings(Settings):
    """Who may use how much. With no rule nothing is limited, and nothing is asked of Redis for it.

    Of several rules about the same the least holds. The administration API sets more of them, for projects.
    """

    rules: dict[str, LimitRule] = Field(
        {}, description="Rules, by names of your choice. Taken over while the gateway runs."
    )
    prices: dict[str, PriceSettings] = Field(
        {}, description="What models cost, by their name; the embedder's too. Taken over while the gateway runs."
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of the currency of all prices.")
