"""What was used is written down once, sealed, and told as OpenAI's admin API tells it."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.limit_settings import UsageSettings
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage.records import Row
from cloister_gateway.usage.store import UsageStore

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.waiting import wait_until

HELLO: Any = [{"role": "user", "content": "hello there"}]


class Shared(NamedTuple):
    """One gateway with an empty ledger."""

    gateway: GatewayFixture
    url: str
    llm: FakeLlm
    redis: RedisServer


@pytest.fixture
def shared(_redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    _redis_process.flush()
    folder, llm = tmp_path_factory.mktemp("secrets"), FakeLlm(token=INTERNAL_TOKEN)
    embedder = FakeEmbedder(INTERNAL_TOKEN, models={"mini": "text", "ranker": "rerank"})
    with served(llm) as pod, served(embedder) as embedder_url:
        token = str(secret_file(folder, "token", INTERNAL_TOKEN))
        rule = {"level": "project", "per": "month", "tokens": 100_000}
        settings = gateway_settings(
            folder,
            _redis_process,
            models={"fake": {"urls": [pod], "context_tokens": 2048}},
            embedder={"url": embedder_url, "token_file": token},
            limits={"rules": {"r": rule}, "prices": {"fake": {"input": 1.0, "output": 10.0}}, "currency": "EUR"},
        )
        gateway = first_keys(settings)
        with gateway.serve() as url:
            yield Shared(gateway, url, llm, _redis_process)


def admin(shared: Shared) -> Any:
    return closing(
        openai.OpenAI(
            base_url=f"{shared.url}/v1", api_key="none", admin_api_key=shared.gateway.admin_key, max_retries=0
        )
    ).admin.organization


def client(shared: Shared) -> openai.OpenAI:
    return closing(
        openai.OpenAI(base_url=f"{shared.url}/v1", api_key=shared.gateway.project_key, max_retries=0, timeout=30)
    )


def since() -> int:
    """A time of which all that a test does is after, also where a day ends meanwhile."""
    return int(time.time()) - 86_400


def results(page: Any) -> list[Any]:
    return [result for bucket in page.data for result in bucket.results]


def total(shared: Shared) -> tuple[int, int, int]:
    """Requests, tokens read and written, by the completions' usage."""
    found = results(admin(shared).usage.completions(start_time=since()))
    return (
        sum(one.num_model_requests for one in found),
        sum(one.input_tokens for one in found),
        sum(one.output_tokens for one in found),
    )


def test_every_kind_of_call_is_in_the_sums_once(shared: Shared) -> None:
    api = client(shared)
    used = [api.responses.create(model="fake", input="hi").usage for _ in range(2)]
    chat = api.chat.completions.create(model="fake", messages=HELLO).usage
    for _ in api.chat.completions.create(model="fake", messages=HELLO, stream=True):
        pass
    assert chat is not None
    read = sum(one.input_tokens for one in used if one) + 2 * chat.prompt_tokens
    written = sum(one.output_tokens for one in used if one) + 2 * chat.completion_tokens
    wait_until(lambda: total(shared) == (4, read, written), what="it is written down")
    api.embeddings.create(model="mini", input=["one", "two"])
    found = wait_until(lambda: results(admin(shared).usage.embeddings(start_time=since(), group_by=["model"])))
    assert [(one.model, one.num_model_requests) for one in found] == [("mini", 1)]
    # The same to the token as the limits count.
    left = int(api.embeddings.with_raw_response.create(model="mini", input="x").headers["x-ratelimit-remaining-tokens"])
    assert left <= 100_000 - read - written


def test_usage_is_told_apart_filtered_paged_and_priced(shared: Shared) -> None:
    usage, api = admin(shared).usage, client(shared)
    api.chat.completions.create(model="fake", messages=HELLO)
    wait_until(lambda: total(shared)[0] == 1)
    everything = ["project_id", "user_id", "api_key_id", "model"]
    for width in ("1h", "1d"):
        (one,) = results(usage.completions(start_time=since(), group_by=everything, bucket_width=width, limit=30))
        assert (one.model, one.project_id[:5], one.api_key_id[:4], one.user_id[:9]) == (
            "fake",
            "proj_",
            "key_",
            "svc_acct_",
        )
    asked: list[tuple[dict[str, Any], int]] = [
        ({"models": ["fake"]}, 1),
        ({"models": ["other"]}, 0),
        ({"project_ids": [one.project_id]}, 1),
        ({"project_ids": ["proj_other"]}, 0),
        ({"api_key_ids": ["key_other", one.api_key_id]}, 1),
        ({"user_ids": ["somebody"]}, 0),
    ]
    for filters, count in asked:
        assert len(results(usage.completions(start_time=since(), **filters))) == count
    page = usage.completions(start_time=since(), limit=1)
    assert page.has_more
    assert (
        page.data[0].end_time == usage.completions(start_time=since(), limit=1, page=page.next_page).data[0].start_time
    )
    (cost,) = results(usage.costs(start_time=since()))
    assert (cost.amount.currency, cost.amount.value) == ("eur", pytest.approx((3 + 10 * 7) / 1_000_000))
    items = results(usage.costs(start_time=since(), group_by=["line_item"]))
    assert {item.line_item for item in items} == {"fake, input", "fake, output"}


def test_a_caller_sees_its_own_and_no_one_elses_and_as_a_table(shared: Shared) -> None:
    client(shared).chat.completions.create(model="fake", messages=HELLO)
    wait_until(lambda: total(shared)[0] == 1)
    other = admin(shared).projects.create(name="other")
    account = admin(shared).projects.service_accounts.create(other.id, name="a")
    url, query = f"{shared.url}/cloister/v1/usage/me", {"start_time": str(since())}
    counts = []
    for key in (shared.gateway.project_key, account.api_key.value):
        body = httpx.get(url, params=query, headers=dict(shared.gateway.headers(key)), timeout=30).json()
        counts.append(sum(one["num_model_requests"] for bucket in body["data"] for one in bucket["results"]))
    assert counts == [1, 0]
    headers = {**shared.gateway.headers(), "accept": "text/csv"}
    lines = httpx.get(url, params=query, headers=headers, timeout=30).text.splitlines()
    assert lines[0].startswith("start_time,end_time,model,input_tokens")
    assert len(lines) == 2
    refused = httpx.get(
        f"{shared.url}/v1/organization/usage/completions",
        params=query,
        headers=dict(shared.gateway.headers()),
        timeout=30,
    )
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "start_time"),
        ({"start_time": "x"}, "start_time"),
        ({"start_time": 10, "end_time": 10}, "end_time"),
        ({"start_time": 1, "bucket_width": "1m"}, "bucket_width"),
        ({"start_time": 1, "bucket_width": "2d"}, "bucket_width"),
        ({"start_time": 1, "group_by": "weather"}, "group_by"),
        ({"start_time": 1, "limit": 32}, "limit"),
        ({"start_time": 1, "batch": "maybe"}, "batch"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(shared: Shared, query: dict[str, Any], param: str) -> None:
    answer = httpx.get(
        f"{shared.url}/v1/organization/usage/completions",
        params=query,
        headers=dict(shared.gateway.headers(shared.gateway.admin_key)),
        timeout=30,
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_rows_hold_through_a_killed_gateway_and_a_deleted_conversation(shared: Shared, tmp_path: Any) -> None:
    api = client(shared)
    # (The pod counts words, and what was written before counts by its tokenizer.)
    shared.llm.answer = [f" word{number}" for number in range(7)]
    process = GatewayProcess(tmp_path, shared.gateway.settings)
    process.start()
    try:
        shared.llm.hold_after = 3
        conversation = api.conversations.create().id
        with openai.OpenAI(base_url=f"{process.url}/v1", api_key=shared.gateway.project_key, max_retries=0) as there:
            made = there.responses.create(model="fake", input="hi", conversation=conversation, background=True)
        wait_until(lambda: shared.llm.running)
    finally:
        process.kill()
    shared.llm.release()
    wait_until(lambda: api.responses.retrieve(made.id).status == "completed", what="it was taken up")
    usage = api.responses.retrieve(made.id).usage
    assert usage is not None
    expected = (1, usage.input_tokens, usage.output_tokens)
    wait_until(lambda: total(shared) == expected, what="it is written down")
    api.conversations.delete(conversation)
    assert total(shared) == expected


def test_rows_of_calls_say_how_long_they_waited_and_took(shared: Shared) -> None:
    api = client(shared)
    api.responses.create(model="fake", input="hi")
    for _ in api.chat.completions.create(model="fake", messages=HELLO, stream=True):
        pass
    api.chat.completions.create(model="fake", messages=HELLO)
    wait_until(lambda: total(shared)[0] == 3, what="they are written down")

    async def rows() -> list[Row]:
        async with open_storage(shared.gateway.settings.redis, shared.gateway.settings.vault) as (redis, keyring):
            store = UsageStore(redis, keyring, UsageSettings())
            days = {time.strftime("%Y%m%d", time.gmtime(at)) for at in (since() + 86_000, time.time())}
            (project,) = [one.id for one in admin(shared).projects.list()]
            return [one for day in days for one in await store.rows(project, day)]

    found = asyncio.run(rows())
    assert len(found) == 3
    for one in found:
        assert one.times.queued is not None
        assert one.times.whole is not None
        moments = [one.times.queued, one.times.first, one.times.whole]
        assert sorted(moment for moment in moments if moment is not None) == [m for m in moments if m is not None]
    # Their prompts are told apart by their parts, to the token; of a chat too, whether it is streamed or not.
    for one in found:
        assert one.used.split is not None
        assert sum(one.used.split) == one.used.read > 0
    # What is answered as a whole has no first token.
    assert sorted(one.times.first is None for one in found) == [False, False, True]
