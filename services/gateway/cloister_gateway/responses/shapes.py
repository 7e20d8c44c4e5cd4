"""Responses and items in OpenAI's shapes, made from requests and events."""

import time
from typing import Any

import orjson

from cloister_gateway.grounding import FileSearch
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import ResponseBody, input_item

__all__ = [
    "last_event",
    "new_body",
    "new_request",
    "snapshot",
]


def last_event(body: ResponseBody, number: int) -> bytes:
    """The event that carries a finished response, for readers who come after its stream was dropped."""
    kind = {"completed": "response.completed", "failed": "response.failed"}.get(body["status"], "response.incomplete")
    return orjson.dumps({"type": kind, "sequence_number": number, "response": body})


def snapshot(body: ResponseBody, events: list[bytes]) -> ResponseBody:
    """The response after ``events``."""
    transcript = Transcript(body)
    transcript.replay(events)
    response = {**transcript.response}
    response["output"] = [
        {**item, "content": [transcript.part(place)] if item["content"] else []}
        if item["type"] == "message" and item["status"] == "in_progress"
        else item
        for place, item in enumerate(transcript.output)
    ]
    return response


def response_format(parameters: ResponseParameters) -> dict[str, Any] | None:
    """``text.format`` as Chat Completions calls it, or None for plain text."""
    chosen = parameters.text.format if parameters.text else None
    if chosen is None or chosen.type == "text":
        return None
    if chosen.type == "json_object":
        return {"type": "json_object"}
    schema = chosen.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
    return {"type": "json_schema", "json_schema": schema}


def new_body(response_id: str, parameters: ResponseParameters, *, background: bool) -> ResponseBody:
    """The response as created, in OpenAI's shape."""
    conversation = parameters.conversation_id()
    text_format = parameters.text.format if parameters.text else None
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued" if background else "in_progress",
        "background": background,
        "error": None,
        "incomplete_details": None,
        "instructions": parameters.instructions,
        "max_output_tokens": parameters.max_output_tokens,
        "max_tool_calls": None,
        "model": parameters.model,
        "output": [],
        "parallel_tool_calls": True if parameters.parallel_tool_calls is None else parameters.parallel_tool_calls,
        "previous_response_id": parameters.previous_response_id,
        "conversation": {"id": conversation} if conversation else None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": parameters.store is not False,
        "temperature": parameters.temperature,
        "text": {
            "format": text_format.model_dump(by_alias=True, exclude_none=True) if text_format else {"type": "text"}
        },
        "tool_choice": parameters.tool_choice or "auto",
        "tools": [tool.model_dump(exclude_none=True) for tool in parameters.tools or []],
        "top_p": parameters.top_p,
        "truncation": parameters.truncation or "auto",
        "truncation_details": {"dropped_messages": 0},
        "citation_details": None,
        "usage": None,
        "user": parameters.user,
        "safety_identifier": parameters.safety_identifier,
        "prompt_cache_key": parameters.prompt_cache_key,
        "metadata": parameters.metadata or {},
    }


def new_request(response_id: str, parameters: ResponseParameters, *, key_id: str, background: bool) -> TurnRequest:
    """What is stored of the request: all that another gateway needs to run it."""
    tools = [] if parameters.tool_choice == "none" else (parameters.tools or [])
    return TurnRequest(
        model=parameters.model,
        input=[input_item(message) for message in parameters.input],
        instructions=parameters.instructions,
        conversation=parameters.conversation_id(),
        previous_response_id=parameters.previous_response_id,
        tools=[FileSearch.model_validate(tool.model_dump(exclude_none=True)) for tool in tools],
        show_results=parameters.wants_results(),
        response_format=response_format(parameters),
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        presence_penalty=parameters.presence_penalty,
        frequency_penalty=parameters.frequency_penalty,
        logprobs=parameters.logprobs(),
        max_output_tokens=parameters.max_output_tokens,
        truncation=parameters.truncation or "auto",
        background=background,
        earlier=[],
        affinity=parameters.conversation_id() or parameters.prompt_cache_key or response_id,
        key_id=key_id,
    )
