"""Batching across callers: two lanes of waiting texts for each model, and the loop that empties them."""

from cloister_embedder.batching.batcher import Batcher, BatcherLimits
from cloister_embedder.batching.lane import BatchLimits, Entry, Job, Lane

__all__ = ["BatchLimits", "Batcher", "BatcherLimits", "Entry", "Job", "Lane"]
