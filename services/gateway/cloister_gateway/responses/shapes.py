"""Responses and items in OpenAI's shapes, made from requests and events."""

import time
from typing import Any

import orjson

from cloister_gateway.grounding import DEFAULT_RESULTS, FileSearch
from cloister_gateway.models import ChatModel
from cloister_gateway.responses.schemas import FileSearchTool, Format, RankingOptions, ResponseParameters
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import ResponseBody, input_item

__all__ = [
    "in_force",
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
        {**item, "content": [{**part, "text": transcript.text(place)} for part in item["content"]]}
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


def in_force(parameters: ResponseParameters, model: ChatModel) -> ResponseParameters:
    """What was asked, with how ``model`` samples where the caller does not say: so pods are told, and the caller."""
    chosen = {"temperature": parameters.temperature, "top_p": parameters.top_p}
    missing = {name: getattr(model, name) for name, value in chosen.items() if value is None}
    return parameters.model_copy(update=missing)


def new_body(response_id: str, parameters: ResponseParameters, *, background: bool) -> ResponseBody:
    """The response as created, in OpenAI's shape: every field of its schema, with the value that is in force.

    Left out are ``user`` where there is none, since it may not be null there, and the fields of what is not done here.

    Args:
        response_id: Its id.
        parameters: What was asked, `in_force`.
        background: Whether the run goes on with nobody watching.
    """
    conversation = parameters.conversation_id()
    text_format = parameters.text.format if parameters.text else None
    body: ResponseBody = {
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
        "moderation": None,
        "output": [],
        "parallel_tool_calls": True if parameters.parallel_tool_calls is None else parameters.parallel_tool_calls,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "previous_response_id": parameters.previous_response_id,
        "prompt": None,
        "conversation": {"id": conversation} if conversation else None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": parameters.store is not False,
        "temperature": parameters.temperature,
        "text": {
            "format": _format_body(text_format) if text_format else {"type": "text"},
            "verbosity": "medium",
        },
        "tool_choice": parameters.tool_choice or "auto",
        "tools": [_tool_body(tool) for tool in parameters.tools or []],
        "top_logprobs": 0,
        "top_p": parameters.top_p,
        "truncation": parameters.truncation or "auto",
        "truncation_details": {"dropped_messages": 0},
        "citation_details": None,
        "usage": None,
        "safety_identifier": parameters.safety_identifier,
        "prompt_cache_key": parameters.prompt_cache_key,
        "prompt_cache_retention": "in_memory",
        "metadata": parameters.metadata or {},
    }
    return body if parameters.user is None else {**body, "user": parameters.user}


def _format_body(chosen: Format) -> dict[str, Any]:
    """``text.format`` with what was in force."""
    body = chosen.model_dump(by_alias=True, exclude_none=True)
    return {"strict": False, **body} if chosen.type == "json_schema" else body


def _tool_body(tool: FileSearchTool) -> dict[str, Any]:
    """A tool with what is in force where the caller does not say."""
    options = tool.ranking_options or RankingOptions()
    return {
        **tool.model_dump(),
        "max_num_results": tool.max_num_results or DEFAULT_RESULTS,
        "ranking_options": options.model_dump(exclude_none=True),
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
        show_results="file_search_call.results" in (parameters.include or []),
        response_format=response_format(parameters),
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        max_output_tokens=parameters.max_output_tokens,
        truncation=parameters.truncation or "auto",
        background=background,
        earlier=[],
        affinity=parameters.conversation_id() or parameters.prompt_cache_key or response_id,
        key_id=key_id,
    )
