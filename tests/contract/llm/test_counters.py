"""What the ledger has of a quiet run is what vLLM itself has counted, to the token."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.contract.llm.conftest import CONTEXT_TOKENS, MODEL, Pod
from tests.support.gateway import GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

_COUNTERS = ("prompt_tokens", "prompt_tokens_cached", "generation_tokens")


def counted(pod: Pod) -> list[int]:
    """Tokens of prompts, those of them that were in the cache, and tokens of answers, since it started."""
    text = httpx.get(pod.metrics_url, timeout=30).text
    found = [re.search(rf"^vllm:{name}_total\{{[^}}]*\}} ([0-9.e+]+)$", text, re.MULTILINE) for name in _COUNTERS]
    return [int(float(one[1])) for one in found if one is not None]


@pytest.fixture
def gateway(real: Pod, tmp_path: Path) -> Iterator[tuple[GatewayFixture, str]]:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        token = secret_file(tmp_path, "pod-token", real.token)
        settings = gateway_settings(
            tmp_path,
            redis,
            models={MODEL: {"urls": [real.url], "context_tokens": CONTEXT_TOKENS}},
            llm={"token_file": str(token)},
        )
        gateway = first_keys(settings)
        with gateway.serve() as url:
            yield gateway, f"{url}/v1"
    finally:
        redis.stop()


def written(gateway: GatewayFixture, url: str) -> list[int]:
    """What the ledger has: generations, then as `counted`."""
    with openai.OpenAI(base_url=url, api_key="none", admin_api_key=gateway.admin_key) as client:
        admin: Any = client.admin.organization
        page = admin.usage.completions(start_time=int(time.time()) - 86_400)
    used = [result for bucket in page.data for result in bucket.results]
    names = ("num_model_requests", "input_tokens", "input_cached_tokens", "output_tokens")
    return [sum(getattr(one, name) for one in used) for name in names]


def test_the_rows_of_a_quiet_run_sum_to_vllms_own_counters(real: Pod, gateway: tuple[GatewayFixture, str]) -> None:
    keys, url = gateway
    before = counted(real)
    question: Any = [{"role": "user", "content": "Say something."}]
    with openai.OpenAI(base_url=url, api_key=keys.project_key, max_retries=0) as client:
        first = client.responses.create(model=MODEL, input="Tell a story. " * 80, max_output_tokens=16)
        for _ in client.responses.create(
            model=MODEL, input="Go on.", previous_response_id=first.id, max_output_tokens=16, stream=True
        ):
            pass
        twice = client.chat.completions.create(model=MODEL, messages=question, max_tokens=8, n=2)
        for _ in client.chat.completions.create(model=MODEL, messages=question, max_tokens=8, stream=True):
            pass
        client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
        for _ in client.completions.create(model=MODEL, prompt=["The fox", "A bird"], max_tokens=8, stream=True):
            pass
    wait_until(lambda: written(keys, url)[0] == 6, what="all of it is written down")
    assert twice.usage is not None
    read, cached, answered = (now - then for now, then in zip(counted(real), before, strict=True))
    # vLLM counts a prompt for each of its answers. The ledger counts it once, as OpenAI does.
    assert written(keys, url)[1:] == [read - twice.usage.prompt_tokens, cached, answered]
    assert cached > 0, "the second turn begins with what the first one sent"


def test_a_stream_that_is_cut_off_is_counted_as_its_prompt_and_no_more_than_vllm_has_written(
    real: Pod, gateway: tuple[GatewayFixture, str]
) -> None:
    keys, url = gateway
    before = counted(real)
    with openai.OpenAI(base_url=url, api_key=keys.project_key, max_retries=0) as client:
        stream = client.responses.create(
            model=MODEL, input="Tell a story.", max_output_tokens=1500, stream=True, background=True
        )
        name, seen = "", 0
        for event in stream:
            if event.type == "response.created":
                name = event.response.id
            seen += event.type == "response.output_text.delta"
            if seen == 3:
                break
        client.responses.cancel(name)
        stream.close()
    wait_until(lambda: written(keys, url)[0] == 1, what="it is written down")
    wait_until(lambda: real.running() == 0, what="vLLM has stopped")
    _, read, cached, answered = written(keys, url)
    vllm_read, vllm_cached, vllm_answered = (now - then for now, then in zip(counted(real), before, strict=True))
    assert (read, cached) == (vllm_read, vllm_cached)
    assert 3 <= answered <= vllm_answered
