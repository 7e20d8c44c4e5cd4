"""Wire models of limits in OpenAI's admin schema: rate limits of a project by model, spend limits by month.

Source: OpenAI API reference, "Project rate limits", "Spend limit" and "Spend alerts", and the types of the ``openai``
package (3.54).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from cloister_common.wire.requests import RequestModel
from pydantic import BaseModel, Field

from cloister_gateway.limits.rules import SpendAlert

__all__ = [
    "NO_LIMIT",
    "RATES",
    "RateLimitListQuery",
    "RateLimitUpdate",
    "SpendAlertListQuery",
    "SpendAlertUpdate",
    "SpendLimitUpdate",
    "rate_id",
    "rate_limit_body",
    "spend_alert_body",
]

NO_LIMIT = 2_147_483_647
"""OpenAI's schema has no word for a rate without end: this number stands for it, both ways."""

RATES: Mapping[str, str] = {
    "max_requests_per_1_minute": "requests/minute",
    "max_tokens_per_1_minute": "tokens/minute",
    "max_requests_per_1_day": "requests/day",
}
"""What is limited, by the field that says how much."""

_RATE = Annotated[int, Field(ge=0, le=NO_LIMIT)]
_PREFIX = "rl-"


class RateLimitListQuery(BaseModel):
    """``GET …/rate_limits``"""

    after: str | None = None
    before: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 100


class RateLimitUpdate(RequestModel):
    """``POST …/rate_limits/{id}``. What is left out stays as it is."""

    refused: ClassVar[Mapping[str, str]] = {
        "batch_1_day_max_input_tokens": "Batches count as all else does: set 'max_tokens_per_1_minute'.",
        "max_audio_megabytes_per_1_minute": "No model here takes sound.",
        "max_images_per_1_minute": "Pictures count by their tokens: set 'max_tokens_per_1_minute'.",
    }

    max_requests_per_1_minute: _RATE | None = Field(None, description=f"{NO_LIMIT} takes the limit away.")
    max_tokens_per_1_minute: _RATE | None = Field(None, description=f"{NO_LIMIT} takes the limit away.")
    max_requests_per_1_day: _RATE | None = Field(None, description=f"{NO_LIMIT} takes the limit away.")


class SpendLimitUpdate(RequestModel):
    """``POST …/spend_limit``"""

    currency: str = Field(description="As in `limits.currency`.")
    interval: Literal["month"]
    threshold_amount: int = Field(ge=0, le=NO_LIMIT, description="In hundredths of the currency.")


class NotificationChannel(RequestModel):
    """Whom a spend alert is for."""

    type: Literal["email"]
    recipients: Annotated[
        list[Annotated[str, Field(min_length=3, max_length=320)]], Field(min_length=1, max_length=50, fail_fast=True)
    ] = Field(description="Addresses. No mail leaves the installation: see docs/limits.md.")
    subject_prefix: Annotated[str, Field(max_length=256)] | None = None


class SpendAlertUpdate(RequestModel):
    """``POST …/spend_alerts`` and ``POST …/spend_alerts/{id}``"""

    currency: str = Field(description="As in `limits.currency`.")
    interval: Literal["month"]
    notification_channel: NotificationChannel = Field(description="Kept and told; who reads the event sends the mail.")
    threshold_amount: int = Field(ge=1, le=NO_LIMIT, description="In hundredths of the currency.")

    def alert(self, alert_id: str = "") -> SpendAlert:
        """What it asks for."""
        channel = self.notification_channel
        return SpendAlert(alert_id, self.threshold_amount, tuple(channel.recipients), channel.subject_prefix)


class SpendAlertListQuery(BaseModel):
    """``GET …/spend_alerts``"""

    after: str | None = None
    before: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"


def spend_alert_body(kind: str, alert: SpendAlert, currency: str) -> dict[str, Any]:
    """``KIND.spend_alert``"""
    channel = {"type": "email", "recipients": list(alert.recipients), "subject_prefix": alert.prefix}
    return {
        "object": f"{kind}.spend_alert",
        "id": alert.id,
        "currency": currency,
        "interval": "month",
        "threshold_amount": alert.hundredths,
        "notification_channel": channel,
    }


def rate_id(model: str) -> str:
    """The id of the rate limits of a model, in each project."""
    return f"{_PREFIX}{model}"


def rate_limit_body(model: str, most: Mapping[str, int]) -> dict[str, Any]:
    """``project.rate_limit``, from what is allowed by ``UNIT/PERIOD``."""
    amounts = {field: most.get(rate, NO_LIMIT) for field, rate in RATES.items()}
    return {"object": "project.rate_limit", "id": rate_id(model), "model": model, **amounts}
