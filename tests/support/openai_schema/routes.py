"""What each route answers with, as a fact. The pages of lists have no types in the SDKs, and stand here."""

import re
from typing import Any

from tests.support.openai_schema.checker import SCHEMA, Fact

__all__ = ["ERROR", "answer_of", "event_of", "socket_event_of"]

_STRING_OR_NULL: Fact = {"one_of": ["string", "null"]}


def _object(**required: Fact) -> Fact:
    return {"required": required, "optional": {}}


def _page(element: Fact) -> Fact:
    return _object(
        object={"enum": ["list"]},
        data={"list": element},
        first_id=_STRING_OR_NULL,
        last_id=_STRING_OR_NULL,
        has_more="boolean",
    )


def _deleted(kind: str) -> Fact:
    return _object(id="string", object={"enum": [kind]}, deleted={"enum": [True]})


def _alert(kind: str) -> Fact:
    """A spend alert. (The SDKs name one currency; here it is that of the installation.)"""
    channel = _object(type={"enum": ["email"]}, recipients={"list": "string"})
    channel["optional"] = {"subject_prefix": _STRING_OR_NULL}
    return _object(
        id="string",
        object={"enum": [f"{kind}.spend_alert"]},
        currency="string",
        interval={"enum": ["month"]},
        threshold_amount="integer",
        notification_channel=channel,
    )


def _gone(kind: str) -> Fact:
    """The same of what has no id."""
    return _object(object={"enum": [kind]}, deleted={"enum": [True]})


ROOTS = SCHEMA.roots
ERROR: Fact = _object(error={"object": "ErrorObject"})
_SEARCH_PAGE: Fact = _object(
    object={"enum": ["vector_store.search_results.page"]},
    search_query={"list": "string"},
    data={"list": ROOTS["VectorStoreSearchResponse"]},
    has_more="boolean",
    next_page=_STRING_OR_NULL,
)
_SEARCH_PAGE["optional"] = {"query_rewritten": "boolean"}
_CONTENT_PAGE: Fact = _object(
    object={"enum": ["vector_store.file_content.page"]},
    data={"list": ROOTS["FileContentResponse"]},
    has_more="boolean",
    next_page=_STRING_OR_NULL,
)

_INPUT_TOKENS: Fact = _object(
    object={"enum": ["response.input_tokens"]},
    input_tokens="integer",
    cloister=_object(
        parts={"map": "integer"},
        dropped_messages="integer",
        most_output_tokens="integer",
        limits={
            "list": _object(
                **dict.fromkeys(("level", "unit", "per"), "string"),
                **dict.fromkeys(("limit", "used", "takes"), "integer"),
                model=_STRING_OR_NULL,
            )
        },
    ),
)

# The SDK's type of the output has no messages of users, of which its own text says that they are in it.
_COMPACTED: Fact = _object(
    id="string",
    object={"enum": ["response.compaction"]},
    created_at="integer",
    output={"list": {"one_of": [ROOTS["ResponseInputMessageItem"], ROOTS["ResponseCompactionItem"]]}},
    usage=ROOTS["ResponseUsage"],
)

_OUR_EVENTS: dict[str, Fact] = {
    "conversation.subscribed": _object(type={"enum": ["conversation.subscribed"]}, conversation_id="string"),
    "cloister.ticket.accepted": _object(type={"enum": ["cloister.ticket.accepted"]}),
}
_EVENT: Fact = ROOTS["ResponseStreamEvent"]

_STORE = r"/v1/vector_stores/[^/]+"
_ORGANIZATION = "/v1/organization"
_PROJECT = rf"{_ORGANIZATION}/projects/[^/]+"
_CONVERSATION = "/v1/conversations/[^/]+"

_ANSWERS: list[tuple[str, str, Fact]] = [
    ("POST", "/v1/responses", ROOTS["Response"]),
    ("POST", "/v1/responses/input_tokens", _INPUT_TOKENS),
    ("POST", "/v1/responses/compact", _COMPACTED),
    ("GET", "/v1/responses/[^/]+", ROOTS["Response"]),
    ("POST", "/v1/responses/[^/]+/cancel", ROOTS["Response"]),
    ("DELETE", "/v1/responses/[^/]+", _deleted("response")),
    ("GET", "/v1/responses/[^/]+/input_items", _page(ROOTS["ResponseInputItem"])),
    ("POST", "/v1/conversations", ROOTS["Conversation"]),
    ("GET|POST", _CONVERSATION, ROOTS["Conversation"]),
    ("DELETE", _CONVERSATION, ROOTS["ConversationDeleted"]),
    ("GET|POST", f"{_CONVERSATION}/items", _page(ROOTS["ConversationItem"])),
    ("GET", f"{_CONVERSATION}/items/[^/]+", ROOTS["ConversationItem"]),
    ("DELETE", f"{_CONVERSATION}/items/[^/]+", ROOTS["Conversation"]),
    ("POST", "/v1/chat/completions", ROOTS["ChatCompletion"]),
    ("POST", "/v1/completions", ROOTS["Completion"]),
    ("POST", "/v1/embeddings", ROOTS["CreateEmbeddingResponse"]),
    ("GET", "/v1/models", _object(object={"enum": ["list"]}, data={"list": ROOTS["Model"]})),
    ("GET", "/v1/models/.+", ROOTS["Model"]),
    ("POST", "/v1/files", ROOTS["FileObject"]),
    ("GET", "/v1/files", _page(ROOTS["FileObject"])),
    ("GET", "/v1/files/[^/]+", ROOTS["FileObject"]),
    ("DELETE", "/v1/files/[^/]+", ROOTS["FileDeleted"]),
    ("POST", "/v1/uploads(/[^/]+/(complete|cancel))?", ROOTS["Upload"]),
    ("POST", "/v1/uploads/[^/]+/parts", ROOTS["UploadPart"]),
    ("GET", "/v1/batches", _page(ROOTS["Batch"])),
    ("POST", "/v1/batches(/[^/]+/cancel)?", ROOTS["Batch"]),
    ("GET", "/v1/batches/[^/]+", ROOTS["Batch"]),
    ("POST", "/v1/vector_stores", ROOTS["VectorStore"]),
    ("GET", "/v1/vector_stores", _page(ROOTS["VectorStore"])),
    ("GET|POST", _STORE, ROOTS["VectorStore"]),
    ("DELETE", _STORE, ROOTS["VectorStoreDeleted"]),
    ("POST", f"{_STORE}/search", _SEARCH_PAGE),
    ("POST", f"{_STORE}/files", ROOTS["VectorStoreFile"]),
    ("GET", f"{_STORE}/files", _page(ROOTS["VectorStoreFile"])),
    ("GET|POST", f"{_STORE}/files/[^/]+", ROOTS["VectorStoreFile"]),
    ("DELETE", f"{_STORE}/files/[^/]+", ROOTS["VectorStoreFileDeleted"]),
    ("GET", f"{_STORE}/files/[^/]+/content", _CONTENT_PAGE),
    ("POST", f"{_STORE}/file_batches(/[^/]+/cancel)?", ROOTS["VectorStoreFileBatch"]),
    ("GET", f"{_STORE}/file_batches/[^/]+", ROOTS["VectorStoreFileBatch"]),
    ("GET", f"{_STORE}/file_batches/[^/]+/files", _page(ROOTS["VectorStoreFile"])),
    ("GET", f"{_ORGANIZATION}/admin_api_keys", _page(ROOTS["AdminAPIKey"])),
    ("POST", f"{_ORGANIZATION}/admin_api_keys", ROOTS["AdminAPIKeyCreateResponse"]),
    ("GET", f"{_ORGANIZATION}/admin_api_keys/[^/]+", ROOTS["AdminAPIKey"]),
    ("DELETE", f"{_ORGANIZATION}/admin_api_keys/[^/]+", _deleted("organization.admin_api_key.deleted")),
    ("GET", f"{_ORGANIZATION}/projects", _page(ROOTS["Project"])),
    ("GET|POST", f"{_ORGANIZATION}/projects(/[^/]+(/archive)?)?", ROOTS["Project"]),
    ("GET", f"{_PROJECT}/service_accounts", _page(ROOTS["ProjectServiceAccount"])),
    ("POST", f"{_PROJECT}/service_accounts", ROOTS["ServiceAccountCreateResponse"]),
    ("GET", f"{_PROJECT}/service_accounts/[^/]+", ROOTS["ProjectServiceAccount"]),
    ("DELETE", f"{_PROJECT}/service_accounts/[^/]+", _deleted("organization.project.service_account.deleted")),
    ("GET", f"{_PROJECT}/api_keys", _page(ROOTS["ProjectAPIKey"])),
    ("GET", f"{_PROJECT}/api_keys/[^/]+", ROOTS["ProjectAPIKey"]),
    ("DELETE", f"{_PROJECT}/api_keys/[^/]+", _deleted("organization.project.api_key.deleted")),
    ("GET", f"{_ORGANIZATION}/(usage/(completions|embeddings|vector_stores)|costs)", ROOTS["UsageCostsResponse"]),
    ("GET", f"{_PROJECT}/rate_limits", _page(ROOTS["ProjectRateLimit"])),
    ("POST", f"{_PROJECT}/rate_limits/.+", ROOTS["ProjectRateLimit"]),
    ("GET|POST", f"{_PROJECT}/spend_limit", ROOTS["ProjectSpendLimit"]),
    ("DELETE", f"{_PROJECT}/spend_limit", _gone("project.spend_limit.deleted")),
    ("GET|POST", f"{_PROJECT}/spend_alerts/[^/]+", _alert("project")),
    ("POST", f"{_PROJECT}/spend_alerts", _alert("project")),
    ("GET", f"{_PROJECT}/spend_alerts", _page(_alert("project"))),
    ("DELETE", f"{_PROJECT}/spend_alerts/[^/]+", _deleted("project.spend_alert.deleted")),
    ("GET|POST", f"{_ORGANIZATION}/spend_alerts/[^/]+", _alert("organization")),
    ("POST", f"{_ORGANIZATION}/spend_alerts", _alert("organization")),
    ("GET", f"{_ORGANIZATION}/spend_alerts", _page(_alert("organization"))),
    ("DELETE", f"{_ORGANIZATION}/spend_alerts/[^/]+", _deleted("organization.spend_alert.deleted")),
    ("GET|POST", f"{_ORGANIZATION}/spend_limit", ROOTS["OrganizationSpendLimit"]),
    ("DELETE", f"{_ORGANIZATION}/spend_limit", _gone("organization.spend_limit.deleted")),
]

_OURS = re.compile(r"/v1/rerank|.*/files/[^/]+/content|/v1/organization/projects/[^/]+/service_accounts/[^/]+/api_keys")
"""Routes that OpenAI does not have, or that answer with a file."""


def answer_of(method: str, path: str) -> Fact | None:
    """What the route answers with; None for one without a schema of OpenAI's. Raises `LookupError` for an unknown."""
    for methods, pattern, fact in _ANSWERS:
        if method in methods.split("|") and re.fullmatch(pattern, path):
            return fact
    if _OURS.fullmatch(path):
        return None
    raise LookupError(f"{method} {path} has no schema in tests/support/openai_schema/routes.py")


def event_of(path: str) -> Fact:
    """What the events of a stream at the route are."""
    chunks = {"/v1/chat/completions": ROOTS["ChatCompletionChunk"], "/v1/completions": ROOTS["Completion"]}
    return chunks.get(path, _EVENT)


def socket_event_of(event: Any) -> Fact:
    """What a socket's event must be: an error of its own, an event of ours, or that of a response."""
    kind = event.get("type") if isinstance(event, dict) else None
    if kind == "error" and "error" in event:
        return ROOTS["ResponseWsError"]
    return _OUR_EVENTS.get(str(kind), _EVENT)
