"""What the embedder counts. Labels are model names and lanes; nothing of the texts is ever one."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "BATCH_SECONDS",
    "BATCH_TEXTS",
    "MODEL_READY",
    "QUEUED_TEXTS",
    "QUEUE_SECONDS",
    "TEXTS",
    "TOKENS",
]

QUEUED_TEXTS = Gauge("cloister_embedder_queued_texts", "Texts waiting for a batch.", ["model", "lane"])
QUEUE_SECONDS = Histogram(
    "cloister_embedder_queue_seconds",
    "Seconds from a text's arrival to the start of its batch.",
    ["model", "lane"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
BATCH_TEXTS = Histogram(
    "cloister_embedder_batch_texts",
    "Texts in one forward pass.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_SECONDS = Histogram(
    "cloister_embedder_batch_seconds",
    "Seconds of one forward pass.",
    ["model"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
TOKENS = Counter("cloister_embedder_tokens_total", "Tokens computed; padding is the waste.", ["model", "part"])
TEXTS = Counter(
    "cloister_embedder_texts_total",
    "Texts by what became of them: encoded, duplicate (took another's result), dropped (caller gone), refused.",
    ["model", "outcome"],
)
MODEL_READY = Gauge("cloister_embedder_model_ready", "1 once the model is loaded.", ["model"])
