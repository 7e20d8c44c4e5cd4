"""Limits hold at every level and for every kind of call, over all gateways, and say so as OpenAI does."""

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.integration.gateway.limits.conftest import Limit, Limited
from tests.support.leaving import ask_and_leave
from tests.support.sockets import ask, opened
from tests.support.waiting import wait_until

HELLO = [{"role": "user", "content": "hello there"}]
DAY: dict[str, Any] = {"level": "project", "per": "day"}


def remaining(answer: httpx.Response, what: str = "tokens") -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{what}"])


def used(limited: Limited, *, most: int, key: str | None = None) -> int:
    """What is used and reserved of a limit of tokens a day, without the request that asks."""
    refused = limited.post("chat/completions", key=key, model="fake", messages=HELLO, max_tokens=2000)
    assert refused.status_code == 429, refused.text
    return most - remaining(refused)


CALLS: dict[str, Callable[[Any], Any]] = {
    "response": lambda c: c.responses.with_raw_response.create(model="fake", input="hi", max_output_tokens=9),
    "response, streamed": lambda c: c.responses.with_raw_response.create(model="fake", input="hi", stream=True),
    "response, in the background": lambda c: c.responses.with_raw_response.create(
        model="fake", input="hi", background=True
    ),
    "chat": lambda c: c.chat.completions.with_raw_response.create(model="fake", messages=HELLO, max_tokens=9),
    "chat, streamed": lambda c: c.chat.completions.with_raw_response.create(model="fake", messages=HELLO, stream=True),
    "completions": lambda c: c.completions.with_raw_response.create(model="fake", prompt="hello there"),
    "embeddings": lambda c: c.embeddings.with_raw_response.create(model="mini", input=["one", "two"]),
    "rerank": lambda c: c.post(
        "/rerank", cast_to=httpx.Response, body={"model": "ranker", "query": "q", "documents": ["a", "b"]}
    ),
}


def test_every_kind_of_call_counts_and_tells_how_its_caller_stands(limit: Limit) -> None:
    calls = len(CALLS)
    with limit({**DAY, "requests": calls, "tokens": 100_000}) as limited, limited.client() as client:
        for number, call in enumerate(CALLS.values(), start=1):
            raw = call(client)
            with contextlib.suppress(AttributeError):
                raw.read()
            headers = raw.headers
            assert headers["x-ratelimit-limit-requests"] == str(calls)
            assert headers["x-ratelimit-remaining-requests"] == str(calls - number)
            assert headers["x-ratelimit-limit-tokens"] == "100000"
            assert "h" in headers["x-ratelimit-reset-requests"] or "m" in headers["x-ratelimit-reset-requests"]
        for call in CALLS.values():
            with pytest.raises(openai.RateLimitError) as refused:
                call(client)
            error, headers = refused.value, refused.value.response.headers
            assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
            assert f"{calls} requests per day" in error.message
            assert int(headers["retry-after"]) > 0
            assert headers["x-ratelimit-remaining-requests"] == "0"
        with opened(limited.urls[0], limited.gateway) as socket:
            ask(socket, "hello")
            event = json.loads(socket.recv())
        assert (event["type"], event["status"], event["error"]["code"]) == ("error", 429, "rate_limit_exceeded")
        assert int(event["headers"]["retry-after"]) > 0


@pytest.mark.parametrize("level", ["organization", "project", "user", "key"])
def test_burst_over_three_gateways_is_let_through_as_far_as_the_limit_goes(limit: Limit, level: str) -> None:
    with limit({"level": level, "per": "month", "requests": 5}, gateways=3) as limited, ThreadPoolExecutor(12) as pool:
        codes = list(pool.map(lambda number: limited.chat(at=number % 3).status_code, range(24)))
    assert sorted(codes) == [200] * 5 + [429] * 19


def test_burst_uses_no_more_tokens_than_there_are_and_settles_to_what_was_used(limit: Limit) -> None:
    most = 300
    with (
        limit({**DAY, "tokens": most}, {**DAY, "level": "key", "tokens": 10_000}, gateways=3) as limited,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = list(pool.map(lambda number: limited.chat(at=number % 3), range(60)))
        spent = [answer.json()["usage"]["total_tokens"] for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert sum(spent) <= most
        assert len(spent) > most // 2 // (10 + 8 + 16)
        wait_until(lambda: used(limited, most=most) == sum(spent), what="all of them are settled")


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_left_of_a_reservation_comes_back_when_its_caller_leaves(limit: Limit, stream: bool) -> None:
    with limit({**DAY, "tokens": 1000}, {"level": "project", "running": 1}) as limited:
        limited.llm.hold_after = 3
        body = {"model": "fake", "messages": HELLO, "stream": stream, "max_tokens": 100}
        url, headers = f"{limited.urls[0]}/v1/chat/completions", dict(limited.gateway.headers())
        ask_and_leave(url, headers, body, limited.llm)
        limited.llm.release()
        wait_until(lambda: limited.chat().status_code == 200, what="nothing runs any more")
        wait_until(lambda: used(limited, most=1000) <= (50 if stream else 160), what="it is settled")


def test_only_so_many_run_at_once_and_the_end_of_one_lets_the_next_begin(limit: Limit) -> None:
    with limit({"level": "user", "running": 2}, gateways=2) as limited, limited.client() as client:
        limited.llm.hold_after = 2
        for _ in range(2):
            client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: limited.llm.running == 2)
        refused = limited.chat(at=1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "2 generations at once" in refused.json()["error"]["message"]
        limited.llm.release()
        wait_until(lambda: limited.chat(at=1).status_code == 200, what="one has ended")


def test_a_cancelled_response_counts_as_what_it_wrote(limit: Limit) -> None:
    with limit({**DAY, "tokens": 1900}) as limited, limited.client() as client:
        limited.llm.hold_after = 3
        made = client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: limited.llm.running)
        assert used(limited, most=1900) > 1000
        client.responses.cancel(made.id)
        wait_until(lambda: used(limited, most=1900) < 50, what="it is settled")


def test_a_turn_is_stored_with_its_reservation_or_not_at_all(limit: Limit) -> None:
    """Both are sent together once it is known what holds for a caller. Redis forgets the script of one meanwhile."""
    with limit({**DAY, "requests": 4}, {"level": "project", "running": 9}) as limited, limited.client() as client:
        conversation = client.conversations.create()

        def ask() -> str:
            made = client.responses.create(model="fake", input="hi", conversation=conversation.id)
            return made.id

        with limited.redis.client() as redis:
            made = [ask(), ask()]
            redis.script_flush()
            made += [ask(), ask()]
            for _ in range(3):
                with pytest.raises(openai.RateLimitError):
                    ask()
            ours = {response.encode() for response in made}
            wait_until(lambda: set(redis.zrange("runs:active", 0, -1)) <= ours, what="no other is listed")
            listed = {key for key in redis.scan_iter("resp:{*}") if b":" not in key.partition(b"}")[2]}
        assert listed == {b"resp:{%b}" % response for response in ours}
        assert len(client.conversations.items.list(conversation.id).data) == 8


def test_a_refused_turn_leaves_nothing_where_its_claim_takes_longer_than_its_reservation(limit: Limit) -> None:
    """The first key of idempotency of a project has a key of the vault made, while the reservation is under way."""
    with limit({**DAY, "requests": 1}) as limited, limited.client() as client, limited.redis.client() as redis:
        made = client.responses.create(model="fake", input="hi")
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="fake", input="hi", extra_headers={"Idempotency-Key": "first"})
        assert {key for key in redis.scan_iter("resp:{*}") if b":" not in key.partition(b"}")[2]} == {
            f"resp:{{{made.id}}}".encode()
        }
        assert list(redis.scan_iter("idem:*")) == []


def test_a_limit_is_of_one_model_or_of_each_or_of_all(limit: Limit) -> None:
    rules = ({**DAY, "model": "fake", "requests": 1}, {**DAY, "model": "*", "requests": 2}, {**DAY, "requests": 4})
    with limit(*rules) as limited:
        assert [limited.chat().status_code for _ in range(2)] == [200, 429]
        embedded = [limited.post("embeddings", model="mini", input="a").status_code for _ in range(3)]
        assert embedded == [200, 200, 429]
        ranked = [limited.post("rerank", model="ranker", query="q", documents=["a"]) for _ in range(2)]
        assert [answer.status_code for answer in ranked] == [200, 429]


def test_only_those_whom_a_rule_names_have_it(limit: Limit) -> None:
    with limit({**DAY, "level": "key", "of": ["key_other"], "requests": 0}) as limited:
        answer = limited.chat()
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_what_never_fits_is_refused_for_good_and_says_so(limit: Limit) -> None:
    with limit({**DAY, "output_tokens": 50}) as limited:
        refused = limited.chat(max_tokens=51)
        assert refused.status_code == 429
        assert refused.headers["x-should-retry"] == "false"
        assert "Limit" in refused.json()["error"]["message"] or "51" in refused.json()["error"]["message"]
        assert limited.chat(max_tokens=50).status_code == 200
        assert limited.llm.chats()[0]["max_tokens"] == 50


def test_money_is_a_quota_by_the_price_of_what_was_used(limit: Limit) -> None:
    spend = {"level": "project", "per": "month", "spend": 0.0001}
    price = {"fake": {"input": 1.0, "output": 10.0}}
    with limit(spend, prices=price, currency="EUR") as limited:
        answers = []
        while (answer := limited.chat()).status_code == 200:
            answers.append(answer.json()["usage"])
        cost = sum(usage["prompt_tokens"] + 10 * usage["completion_tokens"] for usage in answers)
        assert 0 < cost <= 100
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
        assert "0.00 EUR" in error["message"]


def test_nothing_is_begun_while_redis_is_away(limit: Limit) -> None:
    with limit({**DAY, "requests": 100}) as limited:
        assert limited.chat().status_code == 200
        before = len(limited.llm.chats())
        limited.redis.stop()
        try:
            refused = limited.chat()
        finally:
            limited.redis.start()
        assert refused.status_code == 503
        assert len(limited.llm.chats()) == before
        wait_until(lambda: limited.chat().status_code == 200, what="Redis is there again")


def test_without_rules_nothing_of_it_is_asked_of_redis(limit: Limit) -> None:
    with limit() as limited, limited.client() as client:
        client.responses.create(model="fake", input="hi")
        answer = limited.chat()
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
        with limited.redis.client() as redis:
            assert list(redis.scan_iter("limits:*")) == []
