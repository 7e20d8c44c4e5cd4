"""Responses and items in OpenAI's shapes, made from requests and events."""

import time
from typing import Any

import orjson
from cloister_common.ids import new_id
from pydantic import BaseModel

from cloister_gateway.grounding import DEFAULT_RESULTS, FileSearch
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import ChatModel
from cloister_gateway.models.work import class_of
from cloister_gateway.responses.schemas import Format, ResponseParameters
from cloister_gateway.responses.tools import FileSearchTool, FunctionTool, RankingOptions, offered
from cloister_gateway.runs.records import TokenCount, TurnRequest
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.usage import Used
from cloister_gateway.wire.items import Item, ResponseBody
from cloister_gateway.wire.parameters import tier_served

__all__ = [
    "compacted_body",
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
        {**item, "content": [transcript.part(place)] if item["content"] else []}
        if item["type"] in {"message", "reasoning"} and item["status"] == "in_progress"
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


def reasoning_summary(parameters: ResponseParameters) -> str | None:
    """What was asked for, under the newer of its two names."""
    asked = parameters.reasoning
    return None if asked is None else asked.summary or asked.generate_summary


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
        "max_tool_calls": parameters.max_tool_calls,
        "model": parameters.model,
        "moderation": None,
        "output": [],
        "parallel_tool_calls": True if parameters.parallel_tool_calls is None else parameters.parallel_tool_calls,
        "presence_penalty": parameters.presence_penalty or 0.0,
        "frequency_penalty": parameters.frequency_penalty or 0.0,
        "previous_response_id": parameters.previous_response_id,
        "prompt": None,
        "conversation": {"id": conversation} if conversation else None,
        "reasoning": {"effort": parameters.effort(), "summary": reasoning_summary(parameters)},
        "service_tier": tier_served(parameters.service_tier),
        "store": parameters.store is not False,
        "temperature": parameters.temperature,
        "text": {
            "format": _format_body(text_format) if text_format else {"type": "text"},
            "verbosity": "medium",
        },
        "tool_choice": _choice_shown(parameters),
        "tools": [_tool_shown(tool) for tool in parameters.tools or []],
        "top_logprobs": parameters.top_logprobs or 0,
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


def _choice_shown(parameters: ResponseParameters) -> Any:
    choice = parameters.tool_choice
    return choice.model_dump() if isinstance(choice, BaseModel) else choice or "auto"


def _tool_shown(tool: FileSearchTool | FunctionTool) -> dict[str, Any]:
    """A tool with what is in force where the caller does not say."""
    if isinstance(tool, FileSearchTool):
        options = (tool.ranking_options or RankingOptions()).model_dump(exclude_none=True)
        most = tool.max_num_results or DEFAULT_RESULTS
        left_out = {"rewrite_query"} if tool.rewrite_query is None else set()
        return {**tool.model_dump(exclude=left_out), "max_num_results": most, "ranking_options": options}
    # OpenAI shows all fields of a function, and means `strict` where it says nothing else.
    shown = tool.model_dump(include={"type", "name", "description", "parameters"})
    return {**shown, "strict": tool.strict is not False}


def compacted_body(output: list[Item], used: Used) -> ResponseBody:
    """The answer of ``POST /v1/responses/compact``."""
    tokens = TokenCount(prompt=used.prompt, cached=used.cached, output=used.output)
    usage = tokens.usage().model_dump(exclude_none=True)
    if used.split is not None:
        usage["cloister"] = used.split._asdict()
    return {
        "id": new_id("resp_"),
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": output,
        "usage": usage,
    }


def new_request(
    response_id: str, parameters: ResponseParameters, items: list[Item], principal: Principal, *, background: bool
) -> TurnRequest:
    """What is stored of the request of ``principal``, with its ``items``: all that another gateway needs to run it."""
    tools = offered(parameters.tools, parameters.tool_choice)
    return TurnRequest(
        model=parameters.model,
        input=items,
        instructions=parameters.instructions,
        conversation=parameters.conversation_id(),
        previous_response_id=parameters.previous_response_id,
        tools=[FileSearch.model_validate(tool.model_dump(exclude_none=True)) for tool in tools.searches],
        search_place=next((at for at, tool in enumerate(parameters.tools or []) if tool.type == "file_search"), 0),
        functions=[tool.declaration() for tool in tools.functions],
        function_choice=tools.choice,
        parallel_calls=parameters.parallel_tool_calls is not False,
        show_results=parameters.wants_results(),
        response_format=response_format(parameters),
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        presence_penalty=parameters.presence_penalty,
        frequency_penalty=parameters.frequency_penalty,
        logprobs=parameters.logprobs(),
        reasoning_effort=parameters.effort(),
        seal_reasoning=parameters.seals_reasoning(),
        max_output_tokens=parameters.max_output_tokens,
        truncation=parameters.truncation or "auto",
        background=background,
        work=class_of(background=background, service_tier=parameters.service_tier),
        earlier=[],
        affinity=parameters.conversation_id() or parameters.prompt_cache_key or response_id,
        key_id=principal.credential.id,
        user=principal.payer,
        caller=principal.reader if tools.searches else None,
    )
