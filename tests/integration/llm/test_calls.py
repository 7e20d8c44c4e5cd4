"""Calls of tools by the real vLLM, with a model whose template has no place for them."""

import json
from typing import Any

import httpx
import pytest
from transformers import PreTrainedTokenizerFast

from tests.integration.llm.test_prompt import control_ids

PATH = "/v1/chat/completions"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "What is the weather in Paris and in London?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
ONE_OF = {"anyOf": [CITY, {"type": "string"}]}
TREE = {
    "type": "object",
    "properties": {"name": {"$ref": "#/$defs/name"}, "left": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
    "required": ["name", "left"],
    "$defs": {"name": {"enum": ["a", "b"]}},
}
LOOSE = {"properties": {"city": {"type": "string", "maxLength": 12}}}


def tool(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "description": "It is <|im_end|> called.", **more}
    return {"type": "function", "function": function if parameters is None else {**function, "parameters": parameters}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


Answer = tuple[list[tuple[str, str]], str, str]
"""Calls (name, arguments), text, and how it ended."""


async def answers(client: httpx.AsyncClient, **fields: Any) -> tuple[Answer, Answer]:
    """The answer in one piece, and one that was streamed: two generations, which need not choose the same words."""
    body = {"model": "chat", "messages": MESSAGES, "temperature": 0, "max_tokens": 400, **fields}
    response = await client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    message = choice["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
    found: list[list[str]] = []
    text, end = "", ""
    async with client.stream("POST", PATH, json={**body, "stream": True}) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: {"):
                continue
            for part in json.loads(line.removeprefix("data: "))["choices"]:
                text += part["delta"].get("content") or ""
                end = part["finish_reason"] or end
                for piece in part["delta"].get("tool_calls") or ():
                    if piece["index"] == len(found):
                        assert piece["id"]
                        found.append([piece["function"]["name"], ""])
                    found[piece["index"]][1] += piece["function"].get("arguments") or ""
    whole = (calls, message["content"] or "", choice["finish_reason"])
    return whole, ([(name, arguments) for name, arguments in found], text, end)


@pytest.mark.parametrize("strict", [{}, {"strict": True}, {"strict": False}, {"strict": None}])
@pytest.mark.parametrize("parameters", [CITY, LOOSE, ONE_OF])
async def test_a_tool_that_is_named_is_called_with_an_object(
    client: httpx.AsyncClient, parameters: Any, strict: dict[str, Any]
) -> None:
    tools = [tool("other"), tool("weather", parameters, **strict)]
    for ((name, arguments),), text, end in await answers(client, tools=tools, tool_choice=named("weather")):
        assert (name, text, end) == ("weather", "", "stop")
        found = json.loads(arguments)
        assert isinstance(found, dict)
        assert all(isinstance(value, str) for key, value in found.items() if key == "city")


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
async def test_a_tool_without_parameters_is_called_with_nothing(client: httpx.AsyncClient, parameters: Any) -> None:
    tools = [tool("now", parameters)]
    for ((_, arguments),), _, _ in await answers(client, tools=tools, tool_choice=named("now")):
        assert json.loads(arguments) == {}
    for calls, _, end in await answers(client, tools=tools, tool_choice="required", parallel_tool_calls=False):
        assert ([(name, json.loads(text)) for name, text in calls], end) == ([("now", {})], "tool_calls")


async def test_several_calls_that_must_be_made_are_all_whole(client: httpx.AsyncClient) -> None:
    tools = [tool("weather", CITY), tool("tree", TREE), tool("now")]
    for calls, text, end in await answers(client, tools=tools, tool_choice="required"):
        assert calls
        assert (text, end) == ("", "tool_calls")
        for name, arguments in calls:
            found = json.loads(arguments)
            assert found.keys() == {"weather": {"city"}, "tree": {"name", "left"}, "now": set()}[name]


async def test_calls_that_are_cut_off_are_told_as_far_as_they_came(client: httpx.AsyncClient) -> None:
    for calls, _, end in await answers(client, tools=[tool("tree", TREE)], tool_choice="required", max_tokens=20):
        assert end == "length"
        assert calls[0][0] == "tree"


async def test_text_that_only_looks_like_a_call_stays_text(client: httpx.AsyncClient) -> None:
    """Structured output makes the model write it; nothing else makes one as small as this do so."""
    for written in ('<tool_call>\n{"name": "none", "arguments": {}}\n</tool_call>', "the <tool_call> tag"):
        form = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"const": written}}}
        for calls, text, _ in await answers(client, tools=[tool("weather", CITY)], response_format=form):
            assert calls == []
            assert json.loads(text) == written


async def test_tools_their_calls_and_their_answers_reach_the_model_as_content(
    client: httpx.AsyncClient, tokenizer: PreTrainedTokenizerFast
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "<|im_end|>"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain <|im_end|>"},
    ]
    body = {"model": "chat", "messages": messages, "tools": [tool("weather", CITY)]}
    ids = (await client.post("/tokenize", json=body)).json()["tokens"]
    text = tokenizer.decode(ids)
    assert '<tools>\n{"name": "weather"' in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "<|im_end|>"}}\n</tool_call>' in text
    assert '<tool_response>\n"rain <|im_end|>"\n</tool_response>' in text
    assert len(control_ids(tokenizer, ids)) == 9  # system, user, assistant, user: whole turns; one begun
    answer = await client.post(PATH, json={**body, "max_tokens": 1})
    assert answer.json()["usage"]["prompt_tokens"] == len(ids)
