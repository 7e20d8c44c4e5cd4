"""What is counted of models that rest and wake."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["HELD", "MOVES", "UNWOKEN", "WAKE_SECONDS"]

HELD = Gauge("cloister_model_held", "Requests that this gateway holds until a model is awake.", ["model"])
MOVES = Counter("cloister_model_moves_total", "Models that this gateway woke, or let rest.", ["model", "move"])
UNWOKEN = Counter(
    "cloister_model_unwoken_total",
    "Requests that were held in vain until their deadline, by the phase that the model had reached by then.",
    ["model", "phase"],
)
WAKE_SECONDS = Histogram(
    "cloister_model_wake_seconds",
    "Seconds that models which this gateway woke were in a phase of it; all of them together under 'all'.",
    ["model", "phase"],
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200),
)
