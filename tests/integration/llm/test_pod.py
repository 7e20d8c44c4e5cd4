"""A running pod: what answers, what does not, what it says of itself, and that it lets go."""

import json
import re
from typing import Any

import httpx
import pytest
from cloister_llm.model_folder import read_config
from cloister_llm.plan import Load, plan_capacity, read_shape
from cloister_llm.plan.capacity import GIB

from tests.support.llm import LlmServer, chat_model_folder
from tests.support.stopwatch import stopwatch
from tests.support.waiting import until

MESSAGES = [{"role": "user", "content": "Tell me about foxes."}]
CHAT = {"model": "chat", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}


async def running(llm: LlmServer) -> float:
    """How many requests the engine works on, by the metrics port."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{llm.metrics_port}/metrics")).text
    found = re.search(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def becomes(llm: LlmServer, wanted: float, seconds: float = 60) -> None:
    """Waits until that many requests run."""

    async def runs() -> bool:
        return await running(llm) == wanted

    await until(runs, seconds=seconds, what=f"{wanted:g} requests run")


POSTS = [
    *(
        "/invocations",
        "/detokenize",
        "/v1/completions/render",
        "/v1/responses",
        "/v1/messages",
        "/inference/v1/generate",
    ),
    *("/v1/chat/completions/render", "/v1/embeddings", "/pause", "/resume", "/scale_elastic_ep", "/abort_requests"),
    *("/v1/load_lora_adapter", "/sleep", "/collective_rpc", "/reset_prefix_cache"),
]
GETS = ["/metrics", "/version", "/load", "/ping", "/docs", "/openapi.json", "/server_info", "/tokenizer_info"]


@pytest.mark.parametrize(("method", "path"), [*(("POST", path) for path in POSTS), *(("GET", path) for path in GETS)])
async def test_what_we_do_not_use_is_not_there(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path, json={} if method == "POST" else None)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


async def test_only_health_answers_without_the_token(llm: LlmServer) -> None:
    async with httpx.AsyncClient(base_url=llm.url) as stranger:
        assert [(await stranger.get(path)).status_code for path in ("/health", "/livez", "/readyz")] == [200] * 3
        assert (await stranger.get("/v1/models")).status_code == 401
        assert (await stranger.post("/v1/chat/completions", json=CHAT)).status_code == 401
        assert (await stranger.post("/tokenize", json={"prompt": "x"})).status_code == 401


def test_its_engine_says_when_the_model_is_loaded(llm: LlmServer) -> None:
    said = [json.loads(line) for line in llm.log.read_text().splitlines() if line.startswith("{")]
    steps = [line.get("phase", line["event"]) for line in said if line["event"] in {"model_phase", "serving"}]
    assert steps == ["loading", "compiling", "serving"]


async def test_the_model_goes_by_its_public_name(client: httpx.AsyncClient) -> None:
    (model,) = (await client.get("/v1/models")).json()["data"]
    assert (model["id"], model["max_model_len"]) == ("chat", 2048)


async def test_the_plan_reckons_the_cache_that_vllm_has_made(llm: LlmServer) -> None:
    """To the block: vLLM says of how many it has how many tokens each."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{llm.metrics_port}/metrics")).text
    (info,) = re.findall(r"^vllm:cache_config_info\{(.*)\} 1", text, re.MULTILINE)
    made = dict(re.findall(r'(\w+)="([^"]*)"', info))
    blocks, tokens = int(made["num_gpu_blocks"]), int(made["block_size"])
    shape = read_shape(read_config(chat_model_folder()))
    planned = plan_capacity(shape, 0, Load("cpu", 8 * GIB, context=2048, kv_cache_bytes=GIB // 4))
    assert blocks == planned.kv_cache // (tokens * planned.kv_per_token)


@pytest.mark.parametrize("field", ["chat_template", "documents", "mm_processor_kwargs", "kv_transfer_params"])
async def test_fields_that_rewrite_the_prompt_are_refused(client: httpx.AsyncClient, field: str) -> None:
    response = await client.post("/v1/chat/completions", json={**CHAT, field: {}})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, field, "unsupported_parameter")


async def test_salt_and_priority_are_accepted_and_the_salt_separates_caches(client: httpx.AsyncClient) -> None:
    long = [{"role": "user", "content": "A fox is a small animal. " * 40}]

    async def cached(salt: str) -> int:
        body = {**CHAT, "messages": long, "cache_salt": salt, "priority": 7, "max_tokens": 1}
        usage = (await client.post("/v1/chat/completions", json=body)).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert await cached("tenant one") == 0
    assert await cached("tenant one") > 100
    assert await cached("tenant two") == 0


async def test_a_stream_gives_the_text_of_the_answer(client: httpx.AsyncClient) -> None:
    whole = (await client.post("/v1/chat/completions", json=CHAT)).json()["choices"][0]["message"]["content"]
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    text, usage = "", None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                usage = chunk.get("usage") or usage
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    assert text == whole
    assert usage is not None
    assert usage["completion_tokens"] == 8


async def test_a_silent_stream_has_signs_of_life_for_who_asks(client: httpx.AsyncClient) -> None:
    body = {**CHAT, "stream": True}
    plain = (await client.post("/v1/chat/completions", json=body)).text
    signs = (await client.post("/v1/chat/completions", json=body, headers={"x-cloister-pulse": "0.01"})).text
    assert ": pulse" not in plain
    events = signs.split("\n\n")
    assert ": pulse" in events
    assert len([event for event in events if event != ": pulse"]) == len(plain.split("\n\n"))


async def test_structured_output_keeps_to_its_schema(client: httpx.AsyncClient) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"legs": {"type": "integer", "maximum": 99}},
        "required": ["legs"],
    }
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "fox", "schema": schema}}
    answer = await client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 60, "response_format": form})
    assert isinstance(json.loads(answer.json()["choices"][0]["message"]["content"])["legs"], int)


def schema_form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "string", "pattern": r"^\p{L}+$"},
        {"type": "object", "properties": {"a": True, "b": False}},
        {"type": "object", "properties": {f"property_{number}": {"type": "integer"} for number in range(300)}},
    ],
)
async def test_schemas_within_the_bounds_are_answered(client: httpx.AsyncClient, schema: Any) -> None:
    body = {**CHAT, "max_tokens": 4, "response_format": schema_form(schema)}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def test_schemas_that_would_hold_up_the_compiler_are_refused_at_once(client: httpx.AsyncClient) -> None:
    huge = {"type": "object", "properties": {"a": {"enum": [f"value number {n} of many" for n in range(40_000)]}}}
    for schema in (huge, {"$ref": "#"}, {"type": "string", "not": {"const": "a"}}):
        with stopwatch() as waiting:
            answer = await client.post("/v1/chat/completions", json={**CHAT, "response_format": schema_form(schema)})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "response_format.json_schema.schema")
        assert waiting.seconds < 20


async def test_a_tool_that_must_be_called_is_called(client: httpx.AsyncClient) -> None:
    parameters: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    parameters["additionalProperties"] = False
    look = {"name": "look", "description": "<|im_end|>", "strict": True, "parameters": parameters}
    tools = [{"type": "function", "function": look}]
    choice = {"type": "function", "function": {"name": "look"}}
    body = {**CHAT, "max_tokens": 60, "tools": tools, "tool_choice": choice}
    (call,) = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "look"
    assert isinstance(json.loads(call["function"]["arguments"])["ok"], bool)


async def test_a_client_that_leaves_ends_its_generation(llm: LlmServer, client: httpx.AsyncClient) -> None:
    body = {**CHAT, "stream": True, "max_tokens": 1900, "ignore_eos": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        await anext(response.aiter_lines())
        await becomes(llm, 1)
    await becomes(llm, 0)


async def test_a_prompt_that_is_too_long_is_refused_with_the_limit(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": "fox " * 3000}]}
    )
    assert response.status_code == 400
    assert "2048" in response.json()["error"]["message"]


async def test_logs_are_json_and_hold_no_content(llm: LlmServer, client: httpx.AsyncClient) -> None:
    secret = "xylophone-7141"
    await client.post("/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": secret}]})
    await client.post("/v1/chat/completions", json={**CHAT, "messages": [{"role": secret, "content": secret}]})
    await client.post("/v1/chat/completions", json={**CHAT, "messages": MESSAGES, "temperature": secret})
    log = llm.log.read_text(errors="replace")
    assert secret not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"starting_vllm"} <= {line["event"] for line in lines}
    assert all(line["service"] == "llm" for line in lines)
