"""What a request to vLLM may be: the routes that answer, and the fields their bodies may have.

vLLM has dozens of routes, and its API key does not cover all of them; it takes fields that replace the chat template,
add token ids, load media or reach into other pods. The caller is our own gateway, which sends none of that; these
lists hold even when it errs.
"""

import re
from collections.abc import Mapping
from typing import Any

from cloister_common.errors import InvalidRequest, UnsupportedParameter

from cloister_llm.adapters.service import LOAD_ADAPTER, UNLOAD_ADAPTER
from cloister_llm.guard.load import LOAD_PATH
from cloister_llm.guard.sampling import SAMPLING_FIELDS, check_sampling
from cloister_llm.guard.schemas import check_structure
from cloister_llm.guard.sleep import SLEEP_PATHS
from cloister_llm.rendering.vocabulary import ROLES, TEMPLATE_WORDS, is_word

__all__ = ["ALIVE", "BODIES", "HEALTH", "PATHS", "check_body", "check_images", "check_told_prompt"]

HEALTH = {"/health": "/health", "/livez": "/health", "/readyz": "/health"}
"""Open paths, and the one of vLLM's that answers them. vLLM accepts only once the model is loaded, and its answer means
ready; before, it is the launcher's herald that answers (`cloister_llm.starting.herald`)."""

ALIVE = frozenset({"/health", "/livez", LOAD_PATH})
"""Paths that answer while the pod stops: so that it is not killed before its last requests are done, and gets no new
ones."""

PATHS = frozenset(
    {
        *(("GET", "/v1/models"), ("GET", LOAD_PATH)),
        *(("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/tokenize")),
        *(("POST", LOAD_ADAPTER), ("POST", UNLOAD_ADAPTER)),
        *SLEEP_PATHS,
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
_SHOWING = frozenset({"user", "tool"})
"""The roles whose messages may have images: what the user shows, and what a function returned."""
_IMAGES = ("data:image/png;base64,", "data:image/jpeg;base64,")
_UUID = re.compile(r"[0-9a-f]{64}")
"""By which vLLM finds again what it has computed of an image. The gateway's has the tenant in it."""


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


def check_told_prompt(body: Mapping[str, Any]) -> None:
    """For a pod that takes adapters, whose engine dies of it in vLLM 0.32: the adapters' kernels for logits have an
    index for each token that is sampled, and none for those of the prompt.

    Raises:
        UnsupportedParameter: The logprobs of the prompt are asked for.
    """
    if body.get("echo") and body.get("logprobs") is not None:
        raise UnsupportedParameter(
            "logprobs",
            "Unsupported parameter: 'logprobs' with 'echo' are not supported by this model, which takes adapters. "
            "Leave one of the two out.",
        )


def check_images(body: Mapping[str, Any], most: int) -> None:
    """Checks that a checked body has no more images than ``most``, which is 0 for a model that takes none.

    Raises:
        InvalidRequest: By the name of the first that is too many.
    """
    places = [
        f"messages[{at}].content[{place}]"
        for at, message in enumerate(body.get("messages") or ())
        if isinstance(message.get("content"), list)
        for place, part in enumerate(message["content"])
        if part["type"] == "image_url"
    ]
    if len(places) > most:
        takes = f"takes {most} images in one prompt" if most else "takes no images"
        raise InvalidRequest(f"This model {takes}.", param=places[most])


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
        _check_part(part, f"{where}.content[{at}]", images=message["role"] in _SHOWING)


def _check_part(part: Any, where: str, *, images: bool) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image_url" and images:
        _check_image(part, where)
        return
    field = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if field is None:
        also = ", and images" if images else ""
        raise UnsupportedParameter(f"{where}.type", f"Unsupported value for '{where}.type': only text{also} is taken.")
    for name in part:
        if name not in {"type", field}:
            raise UnsupportedParameter(f"{where}.{name}")
    if not isinstance(part.get(field), str):
        raise InvalidRequest(f"Invalid value for '{where}.{field}': must be text.", param=f"{where}.{field}")


def _check_image(part: Mapping[str, Any], where: str) -> None:
    """An image in the request itself: nothing is fetched, and what reads it is two decoders and no more."""
    for name in part:
        if name not in {"type", "image_url", "uuid"}:
            raise UnsupportedParameter(f"{where}.{name}")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) and set(image) == {"url"} else None
    if not isinstance(url, str) or not url.startswith(_IMAGES):
        raise InvalidRequest(
            f"Invalid value for '{where}.image_url': must be an object with a 'url', which is a data URL of a PNG or "
            "JPEG in base64.",
            param=f"{where}.image_url",
        )
    uuid = part.get("uuid")
    if uuid is not None and not (isinstance(uuid, str) and _UUID.fullmatch(uuid)):
        raise InvalidRequest(f"Invalid value for '{where}.uuid': must be 64 hexadecimal digits.", param=f"{where}.uuid")


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
