"""Where Redis is can be said in three ways, of which one is given, and what cannot work is refused by name."""

from typing import Any

import pytest
from cloister_gateway.settings import RedisSettings
from pydantic import ValidationError

SENTINEL = {"urls": ["redis://one:26379", "redis://two:26379"], "service": "chat"}
CLUSTER = {"urls": ["rediss://one:7000", "rediss://two:7000"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of url, sentinel and cluster, which say where Redis is; none of them is given"),
        ({"url": "redis://one:6379", "cluster": CLUSTER}, "url and cluster is given"),
        ({"url": "redis://user:secret@one:6379"}, "redis.url|url"),
        ({"sentinel": {**SENTINEL, "service": ""}}, "sentinel.service"),
        ({"sentinel": {**SENTINEL, "urls": []}}, "sentinel.urls"),
        ({"sentinel": {**SENTINEL, "urls": ["redis://one:26379/0"]}}, "sentinel.urls"),
        ({"cluster": {"urls": ["redis://one:7000", "rediss://two:7000"]}}, "all of them must begin with redis://"),
        ({"url": "redis://one:6379", "replicas_to_wait": 1, "wait_milliseconds": 5000}, "wait_milliseconds must be"),
    ],
)
def test_what_cannot_work_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RedisSettings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"url": "redis://one:6379/2"}, "Redis at redis://one:6379/2"),
        ({"sentinel": SENTINEL}, "Redis 'chat' of the sentinels at redis://one:26379, redis://two:26379"),
        ({"cluster": CLUSTER}, "The Redis Cluster at rediss://one:7000, rediss://two:7000"),
    ],
)
def test_messages_say_where_it_was_looked_for(given: dict[str, Any], place: str) -> None:
    assert RedisSettings.model_validate(given).place == place
