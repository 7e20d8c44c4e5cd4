"""True and subtly false sentences about given passages, in four languages."""

from tests.support.claims import english, german, kinds, others
from tests.support.claims.topic import Topic

__all__ = ["TOPICS", "Topic"]

TOPICS = (*english.TOPICS, *german.TOPICS, *others.TOPICS, *kinds.TOPICS)
