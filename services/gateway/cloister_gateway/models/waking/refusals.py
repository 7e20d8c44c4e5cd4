"""What a caller is told whose request is not held, or was held in vain."""

from collections.abc import Mapping

from cloister_common.errors import TooManyRequests, Unavailable
from cloister_common.logs import get_logger

from cloister_gateway.models.waking.metrics import UNWOKEN
from cloister_gateway.models.waking.records import PHASES, Phase, Waking
from cloister_gateway.models.waking.store import Place

__all__ = ["not_awake", "queue_full"]

log = get_logger(__name__)

_RETRY_SECONDS = 10
_REACHED: Mapping[Phase, str] = dict(
    zip(
        PHASES,
        (
            "no pod of it has a place yet (scheduling)",
            "a pod has a place, and nothing listens in it: it fetches its image or weights, or just began (pulling)",
            "a pod loads it (loading)",
            "a pod compiles it and warms up (compiling)",
            "a pod was ready, and refused the request (ready)",
        ),
        strict=True,
    )
)


def queue_full(model: str, waking: Waking, place: Place) -> TooManyRequests:
    """So many are held as may be; when it is worth to come again, by how long the last waking took."""
    left = (place.took or _RETRY_SECONDS) - place.waited
    return TooManyRequests(
        f"The model '{model}' wakes, and {waking.queue} requests wait for it. Try again later.",
        code="queue_full",
        retry_after=max(1, round(left)),
    )


def not_awake(model: str, waking: Waking, phase: Phase | None, fault: str | None) -> Unavailable:
    """What was reached by the deadline."""
    log.error("model_not_awake", model=model, phase=phase, fault=fault)
    UNWOKEN.labels(model, phase or "unknown").inc()
    reached = "nothing is known of its pods" if phase is None else _REACHED[phase]
    why = "" if fault is None else f", and {fault}"
    return Unavailable(
        f"The model '{model}' was not awake within {waking.deadline_seconds:g} s: {reached}{why}. Try again later; the "
        "operator's log says more.",
        code="model_not_ready",
        retry_after=_RETRY_SECONDS,
    )
