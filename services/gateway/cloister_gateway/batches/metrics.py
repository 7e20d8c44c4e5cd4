"""What is counted of batches."""

from prometheus_client import Counter, Gauge

__all__ = ["ENDED", "LINES", "RUNNING"]

RUNNING = Gauge("cloister_batches_running", "Batches that this gateway works on.")
LINES = Counter("cloister_batch_lines_total", "Lines of batches that ended, by outcome.", ["outcome"])
ENDED = Counter("cloister_batches_ended_total", "Batches that ended, by status.", ["status"])
