"""Stateless calls through the whole stack, with the unmodified SDK."""

import base64
import json
import struct
from typing import Any

import openai
import pytest

from tests.e2e.conftest import CHAT_MODEL, EMBEDDING_MODEL
from tests.support.waiting import wait_until


def test_models_lists_the_chat_and_the_embedding_model(client: Any) -> None:
    assert {model.id for model in client.models.list()} == {CHAT_MODEL, EMBEDDING_MODEL}
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


def test_chat_completion_answers_and_counts(client: Any) -> None:
    done = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_completion_tokens=12,
        temperature=0,
        seed=1,
        logprobs=True,
    )
    assert done.model == CHAT_MODEL
    assert done.choices[0].message.content
    assert done.choices[0].logprobs is not None
    assert done.usage is not None
    assert 0 < done.usage.completion_tokens <= 12


def test_chat_stream_is_what_the_completion_says(client: Any) -> None:
    # The form leaves no choice of words: two generations may differ by a rounding, at temperature 0 too.
    form = {"type": "json_schema", "json_schema": {"name": "count", "schema": {"const": "one two three four five"}}}
    question: dict[str, Any] = {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": "Count to five."}],
        "max_tokens": 40,
        "response_format": form,
    }
    whole = client.chat.completions.create(**question)
    chunks = list(client.chat.completions.create(**question, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content == '"one two three four five"'
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_structured_output_follows_the_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    done = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": "Is water wet?"}],
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        max_tokens=20,
    )
    assert json.loads(done.choices[0].message.content)["answer"] in {"yes", "no"}


def test_a_tool_is_called_and_its_answer_taken_back(client: Any) -> None:
    city = {"type": "string", "enum": ["Paris", "Rome"]}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters, "strict": True}}
    ask: dict[str, Any] = {"model": CHAT_MODEL, "tools": [tool], "temperature": 0}
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    choice = {"type": "function", "function": {"name": "get_weather"}}
    called = client.chat.completions.create(**ask, messages=messages, tool_choice=choice, max_tokens=80)
    (call,) = called.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
    messages += [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}]
    assert client.chat.completions.create(**ask, messages=messages, max_tokens=4).usage.completion_tokens


def test_embeddings_are_the_same_in_both_encodings(client: Any) -> None:
    floats = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"], encoding_format="float")
    encoded = client.embeddings.with_raw_response.create(model=EMBEDDING_MODEL, input=["one"], encoding_format="base64")
    raw = base64.b64decode(encoded.http_response.json()["data"][0]["embedding"])
    assert struct.unpack("<384f", raw) == pytest.approx(floats.data[0].embedding, abs=0.01)
    assert floats.usage.prompt_tokens == 6


def test_too_long_a_text_is_an_error_that_names_the_limit(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="256"):
        client.embeddings.create(model=EMBEDDING_MODEL, input="word " * 3000)


@pytest.mark.parametrize("path", ["/images/generations", "/audio/speech", "/assistants", "/nothing"])
def test_the_rest_of_openais_api_is_a_proper_404(client: Any, path: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.post(path, body={}, cast_to=object)
    assert caught.value.code == "unknown_url"
    assert caught.value.type == "invalid_request_error"


def test_callers_cannot_set_what_rewrites_the_prompt_or_shares_a_cache(client: Any) -> None:
    for name in ("cache_salt", "chat_template", "prompt_token_ids", "priority"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model=CHAT_MODEL, messages=[{"role": "user", "content": "x"}], extra_body={name: "x"}
            )
        assert caught.value.code == "unsupported_parameter"
        assert caught.value.param == name


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_a_batch_is_answered_line_by_line(client: Any, endpoint: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {
            "model": CHAT_MODEL,
            "messages": [{"role": "user", "content": "Hello."}],
            "max_tokens": 4,
        },
        "/v1/responses": {"model": CHAT_MODEL, "input": "Hello.", "max_output_tokens": 4},
        "/v1/embeddings": {"model": EMBEDDING_MODEL, "input": "Hello."},
    }
    names = [f"line-{number}" for number in range(6)]
    lines = [{"custom_id": name, "method": "POST", "url": endpoint, "body": bodies[endpoint]} for name in names]
    content = "\n".join(map(json.dumps, lines)).encode()
    source = client.files.create(file=("lines.jsonl", content), purpose="batch")
    made = client.batches.create(input_file_id=source.id, endpoint=endpoint, completion_window="24h")
    batch = wait_until(
        lambda: (now := client.batches.retrieve(made.id)).completed_at and now, seconds=120, what="the batch is done"
    )
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 6, 6, 0)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == names
    assert {answer["response"]["status_code"] for answer in answers} == {200}
