"""The check of what goes out finds what it is there for, and its table is of the SDK that is installed."""

import copy
from typing import Any

import openai
import pytest
from cloister_gateway.models import ChatModel
from cloister_gateway.responses.schemas import CreateResponse
from cloister_gateway.responses.shapes import in_force, new_body

from tests.support.openai_schema.checker import ALWAYS, EXTENSIONS, NULLS, SCHEMA, VALUES
from tests.support.openai_schema.extract import FACTS
from tests.support.openai_schema.traffic import check_answer

RESPONSE = SCHEMA.roots["Response"]
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
    "phase": None,
}


def body(**asked: Any) -> dict[str, Any]:
    """A response as created, as the model samples that says 0.2."""
    parameters = CreateResponse.model_validate({"model": "fake", "input": "hi", **asked})
    model = ChatModel("fake", 2048, 100, temperature=0.2)
    return new_body("resp_1", in_force(parameters, model), background=False)


def test_table_is_of_the_installed_sdk_and_small() -> None:
    again = "python -m tests.support.openai_schema.extract NODE_MODULES/openai"
    assert SCHEMA.versions["python"] == openai.__version__, f"another SDK: run {again}"
    assert FACTS.stat().st_size < 64 * 1024


def test_what_is_said_beside_the_table_is_of_objects_in_it() -> None:
    assert {*ALWAYS, *EXTENSIONS, *NULLS, *VALUES} <= set(SCHEMA.objects)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}], "tool_choice": "required"},
        {
            "tools": [
                {
                    "type": "file_search",
                    "vector_store_ids": ["vs_1"],
                    "max_num_results": 3,
                    "filters": {"type": "and", "filters": [{"type": "eq", "key": "a", "value": 1}]},
                    "ranking_options": {"score_threshold": 0.5},
                }
            ]
        },
        {"text": {"format": {"type": "json_object"}}, "user": "u", "metadata": {"a": "b"}, "store": False},
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
        {"conversation": "conv_1", "instructions": "Be brief.", "safety_identifier": "s", "prompt_cache_key": "k"},
    ],
)
def test_a_response_is_whole_when_it_is_created(asked: dict[str, Any]) -> None:
    assert SCHEMA.faults(RESPONSE, body(**asked)) == []


def test_a_response_says_what_was_in_force_where_the_caller_said_nothing() -> None:
    made = body(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}])
    assert (made["temperature"], made["top_p"]) == (0.2, 1.0)
    assert (made["presence_penalty"], made["frequency_penalty"], made["top_logprobs"]) == (0.0, 0.0, 0)
    assert made["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert made["tools"][0]["max_num_results"] == 5
    assert "user" not in made
    assert body(temperature=0, top_p=0.5)["temperature"] == 0
    assert body(temperature=0, top_p=0.5)["top_p"] == 0.5


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"temperature": "warm"}, '$.temperature is "warm", and must be of type number'),
        ({"tool_choice": "perhaps"}, "$.tool_choice"),
        ({"kv_transfer_params": None}, "$.kv_transfer_params is no field of Response: null"),
        ({"output": [{**MESSAGE, "status": "over"}]}, "$.output[0].status"),
        ({"output": [{**MESSAGE, "content": [{"type": "output_text", "text": "a"}]}]}, "$.output[0].content[0].annot"),
        ({"output": [{"type": "web_search_call", "id": "ws_1"}]}, "$.output[0]"),
        ({"parallel_tool_calls": 1}, "$.parallel_tool_calls is 1, and must be of type boolean"),
        ({"created_at": True}, "$.created_at is true"),
        ({"user": None}, "$.user is null, and must be of type string"),
    ],
)
def test_what_openais_schema_does_not_have_is_found(change: dict[str, Any], fault: str) -> None:
    found = SCHEMA.faults(RESPONSE, {**body(), **change})
    assert [one for one in found if one.startswith(fault)], found


@pytest.mark.parametrize("field", ["temperature", "status", "usage", "reasoning", "id", "store"])
def test_a_field_that_is_missing_is_found(field: str) -> None:
    made = copy.deepcopy(body())
    del made[field]
    assert SCHEMA.faults(RESPONSE, made) == [f"$.{field} is missing (Response)"]


def test_streams_are_checked_up_to_their_last_whole_event() -> None:
    good = b'data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,'
    good += b'"content_index":0,"delta":"Hi","logprobs":[]}\n\n'
    bad = good.replace(b'"delta":"Hi",', b"")

    def faults(raw: bytes) -> list[str]:
        return check_answer("POST", "/v1/responses", 200, "text/event-stream; charset=utf-8", raw)

    assert faults(b": keep-alive\n\n" + good + bad[:-1]) == []
    assert faults(good + bad) == ["POST /v1/responses (200).delta is missing (ResponseTextDeltaEvent)"]


def test_an_answer_of_a_route_that_nobody_described_is_a_fault() -> None:
    assert check_answer("GET", "/v1/unheard_of", 200, "application/json", b"{}") != []
    error = b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"unknown_url"}}'
    assert check_answer("GET", "/v1/unheard_of", 404, "application/json", error) == []
