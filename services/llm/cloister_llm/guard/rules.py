"""What a request to vLLM may be: the routes that answer, and the fields their bodies may have.

vLLM has dozens of routes, and its API key does not cover all of them; it takes fields that replace the chat template,
add token ids, load media or reach into other pods. The caller is our own gateway, which sends none of that; these
lists hold even when it errs.
"""

from collections.abc import Mapping
from typing import Any

from cloister_common.errors import InvalidRequest, UnsupportedParameter

from cloister_llm.guard.load import LOAD_PATH
from cloister_llm.guard.sampling import SAMPLING_FIELDS, check_sampling
from cloister_llm.guard.schemas import check_structure
from cloister_llm.rendering.vocabulary import ROLES, TEMPLATE_WORDS, is_word

__all__ = ["ALIVE", "BODIES", "HEALTH", "PATHS", "check_body"]

HEALTH = {"/health": "/health", "/livez": "/health", "/readyz": "/health"}
"""Open paths, and the one of vLLM's that answers them. vLLM listens only once the model is loaded, so that an answer
means ready."""

ALIVE = frozenset({"/health", "/livez", LOAD_PATH})
"""Paths that answer while the pod stops: so that it is not killed before its last requests are done, and gets no new
ones."""

PATHS = frozenset(
    {
        *(("GET", "/v1/models"), ("GET", LOAD_PATH)),
        *(("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize")),
    }
)
"""What answers a caller with our internal token."""

_ANSWERED = SAMPLING_FIELDS | {"model", "user", "request_id", "cache_salt", "priority"}
_CHAT = (_ANSWERED - {"echo"}) | {
    *("messages", "tools", "tool_choice", "reasoning_effort", "response_format"),
    *("add_generation_prompt", "continue_final_message", "chat_template_kwargs"),
}
_COMPLETION = (_ANSWERED | {"prompt"}) - {
    *("max_completion_tokens", "top_logprobs", "include_reasoning", "parallel_tool_calls"),
}
_TOKENIZE = frozenset(
    {
        *("model", "messages", "prompt", "tools", "add_generation_prompt", "continue_final_message"),
        *("chat_template_kwargs", "return_token_strs", "add_special_tokens"),
    }
)
BODIES = {"/v1/chat/completions": _CHAT, "/v1/completions": _COMPLETION, "/tokenize": _TOKENIZE}
"""Fields of each body that is accepted."""

_TEMPLATE_VARIABLES = frozenset({"enable_thinking", "thinking", "reasoning_effort"})
_MESSAGE = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning", "reasoning_content"}
)
_MOST_ANSWERS = 1024  # vLLM's bound on prompts
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}


def check_body(path: str, body: Any) -> None:
    """Checks the decoded body of a POST to ``path``.

    Raises:
        UnsupportedParameter: A field that is not in the lists, by its name.
        InvalidRequest: No object; a role, a part or a value that is not accepted.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    for field in body:
        if field not in BODIES[path]:
            raise UnsupportedParameter(str(field))
    messages = body.get("messages")
    if messages is not None:
        if not isinstance(messages, list):
            raise InvalidRequest("Invalid value for 'messages': must be a list.", param="messages")
        for at, message in enumerate(messages):
            _check_message(message, f"messages[{at}]")
    _check_template_variables(body.get("chat_template_kwargs"))
    check_sampling(body)
    if "prompt" in BODIES[path]:
        _check_prompt(body.get("prompt"), choices=body.get("n") or 1, required="messages" not in BODIES[path])
    check_structure(body)


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"Invalid value for '{where}': must be an object.", param=where)
    for field in message:
        if field not in _MESSAGE:
            raise UnsupportedParameter(f"{where}.{field}")
    if not is_word(message.get("role"), ROLES):
        raise InvalidRequest(
            f"Invalid value for '{where}.role': must be one of {', '.join(sorted(ROLES))}.", param=f"{where}.role"
        )
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(
            f"Invalid value for '{where}.content': must be text or a list of text parts.", param=f"{where}.content"
        )
    for at, part in enumerate(content):
        _check_part(part, f"{where}.content[{at}]")


def _check_part(part: Any, where: str) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    field = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise UnsupportedParameter(f"{where}.type", f"Unsupported value for '{where}.type': only text is taken.")
    for name in part:
        if name not in {"type", field}:
            raise UnsupportedParameter(f"{where}.{name}")
    if not isinstance(part.get(field), str):
        raise InvalidRequest(f"Invalid value for '{where}.{field}': must be text.", param=f"{where}.{field}")


def _check_prompt(prompt: Any, *, choices: int, required: bool) -> None:
    """Text, or texts: ids of tokens would be control tokens where the caller wants them."""
    if prompt is None and not required:
        return
    texts = prompt if isinstance(prompt, list) else [prompt]
    if any(isinstance(text, int | list) for text in texts):
        raise UnsupportedParameter("prompt", "'prompt' must be text or a list of texts: token ids are not taken.")
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("Invalid value for 'prompt': must be text or a list of texts.", param="prompt")
    if len(texts) * choices > _MOST_ANSWERS:
        raise InvalidRequest(
            f"Invalid value for 'prompt': no more than {_MOST_ANSWERS} prompts, times 'n'.", param="prompt"
        )


def _check_template_variables(variables: Any) -> None:
    if variables is None:
        return
    if not isinstance(variables, Mapping):
        raise InvalidRequest(
            "Invalid value for 'chat_template_kwargs': must be an object.", param="chat_template_kwargs"
        )
    for name, value in variables.items():
        where = f"chat_template_kwargs.{name}"
        if name not in _TEMPLATE_VARIABLES:
            raise UnsupportedParameter(where)
        if not isinstance(value, bool) and not is_word(value, TEMPLATE_WORDS):
            raise InvalidRequest(f"Invalid value for '{where}'.", param=where)
