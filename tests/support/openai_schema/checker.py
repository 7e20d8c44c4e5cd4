"""Whether a JSON value is what OpenAI's schema says, with every fault and its place.

Stricter than a client: a field that the schema does not have is a fault unless `EXTENSIONS` names it, and a field that
OpenAI's server always sends (`ALWAYS`) may not be missing although the schema lets it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.support.openai_schema.extract import FACTS

__all__ = ["ALWAYS", "EXTENSIONS", "NULLS", "SCHEMA", "VALUES", "Schema"]

Fact = Any
"""A name of JSON's types, ``{"enum": […]}``, ``{"list": fact}``, ``{"map": fact}``, ``{"one_of": [fact, …]}``,
``{"object": name}``, or an object written out: ``{"required": {field: fact}, "optional": {field: fact}}``."""

_CITATION = frozenset({"page", "section", "quote"})
_THOUGHTS = frozenset({"reasoning", "reasoning_content"})

EXTENSIONS: Mapping[str, frozenset[str]] = {
    # The last three stand in what OpenAI's server answers, and in the Open Responses schema, but not in OpenAI's.
    "Response": frozenset({"truncation_details", "citation_details", "store", "presence_penalty", "frequency_penalty"}),
    "ResponseUsage": frozenset({"cloister"}),
    "ResponseCompactionItem": frozenset({"cloister"}),
    "ChatCompletionMessage": _THOUGHTS,
    "ChatCompletionChunkChoiceDelta": _THOUGHTS,
    "Model": frozenset({"cloister", "parent", "root"}),
    # As OpenAI's sockets send it; the schema has it missing.
    "ResponsesServerEventResponseWsError": frozenset({"headers"}),
    "ResponseFileSearchToolCall": frozenset({"coverage"}),
    "ResponseFileSearchToolCallResult": frozenset({"image"}),
    "ResponseQueuedEvent": frozenset({"queue"}),
    "FileSearchTool": frozenset({"rewrite_query"}),
    "VectorStore": frozenset({"description", "progress", "protection", "status_details"}),
    "VectorStoreFile": frozenset({"access", "progress", "status_details"}),
    "VectorStoreFileBatch": frozenset({"progress", "status_details"}),
    "FileObject": frozenset({"access"}),
    "VectorStoreSearchResponse": frozenset({"found_by", "image", "passage"}),
    "Project": frozenset({"status_details"}),
    "ProjectServiceAccount": frozenset({"status_details"}),
    "ProjectAPIKey": frozenset({"scopes", "user", "groups", "status_details"}),
    "AdminAPIKey": frozenset({"status_details"}),
    "ResponseOutputTextAnnotationFileCitation": _CITATION,
    "ResponseOutputTextAnnotationAddedEventAnnotationFileCitation": _CITATION,
}
"""Fields of ours, of which docs/api.md tells."""

NULLS: Mapping[str, frozenset[str]] = {
    # As OpenAI's server has it until the end, and the Open Responses schema says; OpenAI's schema has it missing.
    "Response": frozenset({"usage"}),
    # As OpenAI's server and its reference have them until there is something to say; the schema has them missing.
    "Batch": frozenset(
        {
            *("cancelled_at", "cancelling_at", "completed_at", "error_file_id", "errors", "expired_at", "failed_at"),
            *("finalizing_at", "in_progress_at", "model", "output_file_id", "usage"),
        }
    ),
    # The schema has one type for whole answers and for chunks, in which OpenAI's server has it at the end only.
    "CompletionChoice": frozenset({"finish_reason"}),
}
"""Fields that may be null though the schema does not say so."""

VALUES: Mapping[str, Mapping[str, Fact]] = {
    # What is damaged where it is stored.
    "VectorStore": {"status": {"enum": ["error"]}},
    # A file whose project is over a limit: OpenAI's word for it elsewhere.
    "VectorStoreFileLastError": {"code": {"enum": ["rate_limit_exceeded"]}},
    # With ``encoding_format: base64``, as the SDK asks for it: the schema knows the other form only.
    "Embedding": {"embedding": "string"},
}
"""What a field may hold besides."""

ALWAYS: Mapping[str, frozenset[str]] = {
    "Response": frozenset(
        {
            *("background", "completed_at", "conversation", "max_output_tokens", "max_tool_calls"),
            *("previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning"),
            *("safety_identifier", "service_tier", "status", "text", "top_logprobs", "truncation", "usage"),
            *("store", "presence_penalty", "frequency_penalty"),
        }
    ),
    "ChatCompletion": frozenset({"service_tier", "system_fingerprint", "usage"}),
    "ChatCompletionMessage": frozenset({"annotations"}),
    "ChatCompletionChunkChoice": frozenset({"finish_reason"}),
    "CompletionUsage": frozenset({"prompt_tokens_details", "completion_tokens_details"}),
    "CompletionUsagePromptTokensDetails": frozenset({"cached_tokens", "audio_tokens"}),
    "CompletionUsageCompletionTokensDetails": frozenset(
        {"reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
    ),
    "ResponseTextConfig": frozenset({"format", "verbosity"}),
    "ResponseOutputText": frozenset({"logprobs"}),
    "ResponseFileSearchToolCall": frozenset({"results"}),
    "ResponseFileSearchToolCallResult": frozenset({"attributes", "file_id", "filename", "score", "text"}),
    "Batch": frozenset(
        {
            *("cancelled_at", "cancelling_at", "completed_at", "error_file_id", "errors", "expired_at", "expires_at"),
            *("failed_at", "finalizing_at", "in_progress_at", "metadata", "model", "output_file_id"),
            *("request_counts", "usage"),
        }
    ),
    "VectorStore": frozenset({"expires_at"}),
    "VectorStoreFile": frozenset({"attributes", "chunking_strategy"}),
}
"""Fields that may be missing by the schema, and are there always."""

_PLAIN: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class Schema:
    """The table of facts.

    Args:
        facts: As `tests.support.openai_schema.extract` writes them.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.versions: Mapping[str, str] = facts["versions"]
        self.roots: Mapping[str, Fact] = facts["roots"]
        self.objects: Mapping[str, Any] = facts["objects"]

    def faults(self, fact: Fact, value: Any, place: str = "$") -> list[str]:
        """What of ``value`` is not as ``fact`` says, each with its place."""
        return list(self._faults(fact, value, place))

    def _faults(self, fact: Fact, value: Any, place: str) -> Iterator[str]:
        if isinstance(fact, str):
            yield from _plain_faults(fact, value, place)
        elif "enum" in fact:
            if value not in fact["enum"]:
                yield f"{place} is {_shown(value)}, and must be one of {fact['enum']}"
        elif "one_of" in fact:
            yield from self._one_of(fact["one_of"], value, place)
        elif "list" in fact:
            yield from self._each(fact["list"], value, place, list)
        elif "map" in fact:
            yield from self._each(fact["map"], value, place, dict)
        elif "object" in fact:
            yield from self._object(fact["object"], self.objects[fact["object"]], value, place)
        else:
            yield from self._object("", fact, value, place)

    def _each(self, fact: Fact, value: Any, place: str, kind: type) -> Iterator[str]:
        pairs: Iterable[tuple[Any, Any]] | None = None
        if kind is list and isinstance(value, list):
            pairs = enumerate(value)
        elif kind is dict and isinstance(value, dict):
            pairs = value.items()
        if pairs is None:
            yield f"{place} is {_shown(value)}, and must be a {kind.__name__}"
            return
        for key, element in pairs:
            yield from self._faults(fact, element, f"{place}[{key!r}]")

    def _object(self, name: str, fact: Fact, value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{place} is {_shown(value)}, and must be an object ({name})"
            return
        required, optional = fact["required"], fact["optional"]
        nulls, extensions = NULLS.get(name, ()), EXTENSIONS.get(name, ())
        for field in (*required, *ALWAYS.get(name, ())):
            if field not in value:
                yield f"{place}.{field} is missing ({name})"
        for field, element in value.items():
            known = required.get(field, optional.get(field))
            if known is not None:
                besides = VALUES.get(name, {}).get(field)
                if not (element is None and field in nulls):
                    fact = known if besides is None else {"one_of": [known, besides]}
                    yield from self._faults(fact, element, f"{place}.{field}")
            elif field not in extensions:
                yield f"{place}.{field} is no field of {name}: {_shown(element)}"

    def _one_of(self, facts: list[Fact], value: Any, place: str) -> Iterator[str]:
        """The faults of the alternative that is meant: by its constants, else of the nearest."""
        meant = [fact for fact in facts if self._is_meant(fact, value)] or facts
        found = [self.faults(fact, value, place) for fact in meant]
        yield from min(found, key=len)

    def _is_meant(self, fact: Fact, value: Any) -> bool:
        if not isinstance(fact, dict) or "object" not in fact or not isinstance(value, dict):
            return False
        fields = self.objects[fact["object"]]["required"]
        constants = {name: said["enum"] for name, said in fields.items() if isinstance(said, dict) and "enum" in said}
        return "type" in constants and value.get("type") in constants["type"]


def _plain_faults(fact: str, value: Any, place: str) -> Iterator[str]:
    kinds = _PLAIN.get(fact)
    # To Python a boolean is an integer.
    if kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        yield f"{place} is {_shown(value)}, and must be of type {fact}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


SCHEMA = Schema(json.loads(FACTS.read_text(encoding="utf-8")))
