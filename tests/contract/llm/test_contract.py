"""What the gateway relies on, asked of the real vLLM pod and of its fake."""

import asyncio
import json
from contextlib import aclosing
from typing import Any, get_args

import httpx
import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.flight import HEADER, Flight, flight_of, told
from cloister_gateway.models import ModelUpstream
from cloister_gateway.models.loads import LOAD_PATH
from cloister_gateway.models.reasoning import Effort, thinking
from cloister_gateway.models.work import WorkClass

from tests.contract.llm.conftest import CONTEXT_TOKENS, MODEL, Pod
from tests.support.payloads import payloads_of
from tests.support.waiting import until

QUESTION = [{"role": "user", "content": "Tell me about foxes."}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
PATH = "/v1/chat/completions"
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        },
    },
}
CALL: dict[str, Any] = {
    **CHAT,
    "max_tokens": 60,
    "ignore_eos": False,
    "tools": [LOOK],
    # By name, since a model as small as this one would choose none, and never end a list of calls that it must make.
    "tool_choice": {"type": "function", "function": {"name": "look"}},
}


async def whole(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post(PATH, json={**CHAT, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def chunks(http: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream, whose form is looked at too."""
    answer = await http.post(PATH, json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def text_of(found: list[dict[str, Any]], index: int = 0) -> str:
    pieces = [
        choice["delta"].get("content") or ""
        for chunk in found
        for choice in chunk["choices"]
        if choice["index"] == index
    ]
    return "".join(pieces)


async def test_a_whole_answer_has_text_an_end_and_a_count(http: httpx.AsyncClient) -> None:
    body = await whole(http)
    assert (body["object"], body["model"]) == ("chat.completion", MODEL)
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    usage = body["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


async def test_a_stream_is_the_same_answer_in_pieces(http: httpx.AsyncClient) -> None:
    # The form leaves vLLM no choice of words: two generations may differ by a rounding, at temperature 0 too.
    fixed = {"type": "json_schema", "json_schema": {"name": "foxes", "schema": {"const": "Foxes are red."}}}
    body = {**CHAT, "ignore_eos": False, "max_tokens": 30, "response_format": fixed}
    expected = await whole(http, **body)
    found = await chunks(http, {**body, "stream_options": {"include_usage": True}})
    *pieces, last = found
    assert {(chunk["object"], chunk["model"]) for chunk in found} == {("chat.completion.chunk", MODEL)}
    assert len({chunk["id"] for chunk in found}) == 1
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(pieces) == expected["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in pieces] == [
        *[None] * (len(pieces) - 1),
        expected["choices"][0]["finish_reason"],
    ]
    assert last["choices"] == []
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [last["usage"][name] for name in counted] == [expected["usage"][name] for name in counted]


async def test_a_pod_tells_its_load(http: httpx.AsyncClient, pod: Pod) -> None:
    async def load() -> dict[str, Any]:
        found: dict[str, Any] = (await http.get(LOAD_PATH)).raise_for_status().json()
        return found

    assert (await load())["ending"] is False
    if pod.fake is not None:
        pod.fake.delay_seconds = 0.05
    async with http.stream("POST", PATH, json={**CHAT, "max_tokens": 1000, "stream": True}) as answer:
        await anext(answer.aiter_lines())

        async with asyncio.timeout(30):
            while (await load())["running"] != 1:
                await asyncio.sleep(0.02)
    assert (await load())["waiting"] == 0


async def test_a_pod_tells_what_it_holds_and_what_other_gateways_have_under_way(http: httpx.AsyncClient) -> None:
    async def load(gateway: str, tokens: int) -> dict[str, Any]:
        word = told(gateway, Flight(tokens, 2, 1, frozenset({"quiet"})))
        found: dict[str, Any] = (await http.get(LOAD_PATH, headers={HEADER: word})).raise_for_status().json()
        return found

    found = await load("first", 700)
    assert found["tokens"] >= CONTEXT_TOKENS
    assert found["requests"] >= 1
    async with asyncio.timeout(60):  # A word is kept for a few seconds only.
        while flight_of((await load("second", 40))["others"]) != Flight(700, 2, 1, frozenset({"quiet"})):
            await load("first", 700)


@pytest.mark.parametrize("work", list(WorkClass))
async def test_a_pod_takes_the_priority_of_each_class(upstream: ModelUpstream, pod: Pod, work: WorkClass) -> None:
    body = {"messages": QUESTION, "max_tokens": 4, "ignore_eos": True}
    answer = json.loads(await upstream.complete_chat(MODEL, body, tenant="proj_a", work=work))
    assert answer["usage"]["completion_tokens"] == 4
    if pod.fake is not None:
        assert pod.fake.chats()[-1].get("priority", 0) == work.priority


async def test_without_being_asked_for_it_a_stream_counts_nothing(http: httpx.AsyncClient) -> None:
    assert not any(chunk.get("usage") for chunk in await chunks(http, CHAT))


async def test_several_choices_come_whole_and_in_pieces(http: httpx.AsyncClient) -> None:
    two = {"n": 2, "temperature": 1, "seed": 1}  # vLLM gives the likeliest answer once
    body = await whole(http, **two)
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["completion_tokens"] == 16
    found = await chunks(http, {**CHAT, **two})
    assert all(text_of(found, index) for index in (0, 1))
    ends = {choice["index"]: choice["finish_reason"] for chunk in found for choice in chunk["choices"]}
    assert ends == {0: "length", 1: "length"}


async def test_the_later_name_of_the_limit_is_known_too(http: httpx.AsyncClient) -> None:
    fields = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    answer = (await http.post(PATH, json={**fields, "max_completion_tokens": 3})).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_an_answer_is_continued_and_not_begun_again(http: httpx.AsyncClient) -> None:
    begun = (await whole(http))["choices"][0]["message"]["content"]
    messages = [*QUESTION, {"role": "assistant", "content": begun}]
    fields = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    rest = (await whole(http, **fields))["choices"][0]["message"]["content"]
    assert rest
    assert not rest.startswith(begun)


async def test_an_answer_is_continued_after_its_thought(http: httpx.AsyncClient) -> None:
    begun = (await whole(http))["choices"][0]["message"]["content"]
    messages = [*QUESTION, {"role": "assistant", "content": begun, "reasoning": "I see."}]
    fields = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert (await whole(http, **fields))["choices"][0]["message"]["content"]


@pytest.mark.parametrize("effort", get_args(Effort))
async def test_any_model_is_told_how_much_to_think(http: httpx.AsyncClient, effort: Effort) -> None:
    assert (await whole(http, **thinking(effort)))["choices"][0]["message"]["content"]


async def test_a_tool_is_called_whole_and_in_pieces(pod: Pod, http: httpx.AsyncClient) -> None:
    if pod.fake is not None:
        pod.fake.tool_call = ("look", '{"ok": true}')
    answer = await http.post(PATH, json=CALL)
    (choice,) = answer.json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "look")
    assert call["id"]
    assert isinstance(json.loads(call["function"]["arguments"])["ok"], bool)
    found = await chunks(http, CALL)
    pieces = [piece for chunk in found for one in chunk["choices"] for piece in one["delta"].get("tool_calls") or []]
    assert {piece["index"] for piece in pieces} == {0}
    assert (pieces[0]["type"], pieces[0]["function"]["name"], bool(pieces[0]["id"])) == ("function", "look", True)
    assert "".join(piece["function"].get("name") or "" for piece in pieces) == "look"
    assert isinstance(json.loads("".join(piece["function"].get("arguments") or "" for piece in pieces))["ok"], bool)
    ends = [one["finish_reason"] for chunk in found for one in chunk["choices"] if one["finish_reason"]]
    assert (choice["finish_reason"], ends) == ("stop", ["stop"])


async def test_a_call_and_what_it_returned_are_part_of_a_prompt(http: httpx.AsyncClient) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"ok":true}'}}
    says = {"role": "assistant", "content": "", "tool_calls": [call]}
    messages = [*QUESTION, says, {"role": "tool", "tool_call_id": "call_1", "content": "A fox."}]
    answer = await whole(http, messages=messages)
    counted = (await http.post("/tokenize", json={"model": MODEL, "messages": messages})).json()["count"]
    assert counted == answer["usage"]["prompt_tokens"]
    assert counted > (await whole(http))["usage"]["prompt_tokens"]


async def test_the_tokens_of_tools_are_counted_too(pod: Pod, http: httpx.AsyncClient) -> None:
    if pod.fake is not None:
        pod.fake.tool_call = ("look", '{"ok": true}')
    asked = {"model": MODEL, "messages": QUESTION, "tools": [LOOK]}
    counted = (await http.post("/tokenize", json=asked)).json()["count"]
    assert counted == (await http.post(PATH, json=CALL)).json()["usage"]["prompt_tokens"]


async def test_tokens_are_counted_as_the_prompt_will_be(http: httpx.AsyncClient) -> None:
    counted = (await http.post("/tokenize", json={"model": MODEL, "messages": QUESTION})).json()
    assert counted["count"] == len(counted["tokens"])
    assert counted["max_model_len"] == CONTEXT_TOKENS
    assert counted["count"] == (await whole(http))["usage"]["prompt_tokens"]
    plain = {"model": MODEL, "prompt": "Tell me about foxes.", "add_special_tokens": False}
    assert 0 < (await http.post("/tokenize", json=plain)).json()["count"] < counted["count"]


async def test_the_gateways_client_reads_streams_answers_and_counts(upstream: ModelUpstream) -> None:
    await upstream.check(MODEL)
    body = {name: value for name, value in CHAT.items() if name != "model"}
    answer = json.loads(await upstream.complete_chat(MODEL, body, tenant="proj_a"))
    streamed = [json.loads(payload) async for payload in payloads_of(upstream, MODEL, body, tenant="proj_a")]
    assert text_of(streamed) == answer["choices"][0]["message"]["content"]
    assert await upstream.count_tokens(MODEL, QUESTION) == answer["usage"]["prompt_tokens"]
    assert await upstream.tokenize(MODEL, prompt="foxes")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_over_the_context_is_the_same_refusal(
    stream: bool, http: httpx.AsyncClient, upstream: ModelUpstream
) -> None:
    messages = [{"role": "user", "content": "fox " * (CONTEXT_TOKENS + 10)}]
    answer = await http.post(PATH, json={**CHAT, "messages": messages, "stream": stream})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert str(CONTEXT_TOKENS) in error["message"]
    body = {"messages": messages, "max_tokens": 8}
    streamed = payloads_of(upstream, MODEL, body, tenant="proj_a")
    with pytest.raises(InvalidRequest) as refused:
        await (anext(streamed) if stream else upstream.complete_chat(MODEL, body, tenant="proj_a"))
    await streamed.aclose()
    assert (refused.value.error_code, refused.value.param) == ("context_length_exceeded", "messages")


async def test_who_leaves_ends_the_generation(pod: Pod, upstream: ModelUpstream) -> None:
    if pod.fake is not None:
        pod.fake.hold_after = 2
    body = {**CHAT, "max_tokens": 1900}
    async with aclosing(payloads_of(upstream, MODEL, body, tenant="proj_a")) as pieces:
        await anext(pieces)
        await until(lambda: pod.running() == 1, seconds=60, what="the generation runs")
    await until(lambda: pod.running() == 0, seconds=60, what="nothing runs in the pod")


async def test_the_model_says_its_name_and_its_context(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == (MODEL, "model", CONTEXT_TOKENS)


async def test_only_its_health_answers_strangers(pod: Pod) -> None:
    async with httpx.AsyncClient(base_url=pod.url, timeout=60) as stranger:
        assert (await stranger.get("/health")).status_code == 200
        refused = [
            await stranger.get("/v1/models"),
            await stranger.post(PATH, json=CHAT),
            await stranger.post("/tokenize", json={"model": MODEL, "prompt": "x"}),
        ]
    assert [answer.status_code for answer in refused] == [401] * 3
    assert all(answer.json()["error"].keys() >= {"message", "type", "param", "code"} for answer in refused)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/embeddings"), ("GET", "/metrics"), ("POST", "/detokenize")])
async def test_what_the_gateway_does_not_use_is_not_there(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 404
    assert answer.json()["error"].keys() >= {"message", "type", "param", "code"}
