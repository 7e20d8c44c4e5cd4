"""The events of a streamed answer in vLLM's very bytes, made beforehand as far as they can be.

vLLM 0.32, ``entrypoints/openai/chat_completion/serving.py`` (``model_dump_json(exclude_unset=True)``) and
``entrypoints/openai/responses``. The second is for peers, which pass it on; the gateway asks for chat completions.
"""

import itertools
import time
from abc import ABC, abstractmethod
from typing import Any

import orjson

__all__ = ["TOKEN", "ChatEvents", "Events", "ResponseEvents", "completion", "most_tokens", "prompt_tokens"]

TOKEN = " fox"
"""The text of every token: readers count it."""

_FINGERPRINT = b',"system_fingerprint":"vllm-0.32.0-00000000"'
_DEFAULT_TOKENS = 64
_ids = itertools.count(0xD00D_0000_0000_0000_0000_0000_0000_0000)


class Events(ABC):
    """The events of one answer.

    Args:
        body: The request.

    Attributes:
        tokens: How many it has.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self.tokens = most_tokens(body)

    @abstractmethod
    def head(self) -> bytes:
        """What comes before the first token."""

    @abstractmethod
    def token(self, number: int) -> bytes:
        """The event of a token, the first of which is 1."""

    @abstractmethod
    def tail(self) -> bytes:
        """What comes after the last."""


class ChatEvents(Events):
    """The chunks of a chat completion, with usage at the end or in each of them where the request asks for it."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        options = body.get("stream_options") or {}
        self._usage = bool(options.get("include_usage"))
        self._continuous = self._usage and bool(options.get("continuous_usage_stats"))
        self._prompt = prompt_tokens(body)
        self._start = (
            b'data: {"id":"chatcmpl-%x","object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (
                next(_ids),
                int(time.time()),
                orjson.dumps(body["model"]),
            )
        )
        self._choice = b'{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null,"token_ids":null}' % (
            TOKEN.encode()
        )

    def head(self) -> bytes:
        role = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return self._chunk(role, 0, b',"prompt_token_ids":null,"prompt_text":null')

    def token(self, number: int) -> bytes:
        if number < self.tokens:
            return self._chunk(self._choice, number)
        last = self._choice.replace(b'"finish_reason":null', b'"finish_reason":"stop","stop_reason":null')
        return self._chunk(last, number, b"" if self._usage else _FINGERPRINT)

    def tail(self) -> bytes:
        if not self._usage:
            return b"data: [DONE]\n\n"
        used = _usage(self._prompt, self.tokens)
        return b'%b],"usage":%b%b}\n\ndata: [DONE]\n\n' % (self._start, used, _FINGERPRINT)

    def _chunk(self, choice: bytes, sent: int, rest: bytes = b"") -> bytes:
        if not self._continuous:
            return b"%b%b]%b}\n\n" % (self._start, choice, rest)
        counted = _usage(self._prompt, sent)[:-1] + b',"completion_tokens_details":null}'
        return b'%b%b],"usage":%b%b}\n\n' % (self._start, choice, counted, rest)


class ResponseEvents(Events):
    """The events of a response that vLLM makes itself, as far as peers look at them."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self._item = f"msg_{next(_ids):x}"
        self._response: dict[str, Any] = {
            "id": f"resp_{next(_ids):x}",
            "object": "response",
            "created_at": int(time.time()),
            "model": body["model"],
            "status": "in_progress",
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": 1.0,
            "top_p": 1.0,
            "metadata": {},
        }
        self._delta = (
            b'event: response.output_text.delta\ndata: {"content_index":0,"delta":"%b","item_id":"%b","logprobs":[],'
            b'"output_index":0,"sequence_number":%%d,"type":"response.output_text.delta"}\n\n'
        ) % (TOKEN.encode(), self._item.encode())
        self._place = {"item_id": self._item, "output_index": 0}

    def head(self) -> bytes:
        message = {"id": self._item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        return (
            self._event(0, "created", response=self._response)
            + self._event(1, "in_progress", response=self._response)
            + self._event(2, "output_item.added", output_index=0, item=message)
            + self._event(3, "content_part.added", **self._place, content_index=0, part=part)
        )

    def token(self, number: int) -> bytes:
        return self._delta % (3 + number)

    def tail(self) -> bytes:
        text = TOKEN * self.tokens
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"id": self._item, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        used = {
            "input_tokens": 8,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8 + self.tokens,
        }
        response = {**self._response, "status": "completed", "output": [message], "usage": used}
        number = 4 + self.tokens
        return (
            self._event(number, "output_text.done", **self._place, content_index=0, text=text, logprobs=[])
            + self._event(number + 1, "content_part.done", **self._place, content_index=0, part=part)
            + self._event(number + 2, "output_item.done", output_index=0, item=message)
            + self._event(number + 3, "completed", response=response)
        )

    def _event(self, number: int, kind: str, **fields: Any) -> bytes:
        event = {**fields, "sequence_number": number, "type": f"response.{kind}"}
        return b"event: response.%b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(event))


def completion(body: dict[str, Any]) -> bytes:
    """A whole chat completion."""
    tokens = most_tokens(body)
    return (
        b'{"id":"chatcmpl-%x","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"%b","refusal":null,"annotations":null,"audio":null,"function_call":null,'
        b'"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}'
        b'],"service_tier":null,"system_fingerprint":null,"usage":%b,"prompt_logprobs":null,"prompt_token_ids":null,'
        b'"kv_transfer_params":null}'
    ) % (
        next(_ids),
        int(time.time()),
        orjson.dumps(body["model"]),
        (TOKEN * tokens).encode(),
        _usage(prompt_tokens(body), tokens),
    )


def prompt_tokens(body: dict[str, Any]) -> int:
    """The tokens of a chat or of a text, counted as `FakeLlm` counts them: words, and one for each message."""
    if "prompt" in body:
        return len(str(body["prompt"]).split())
    return sum(1 + len(_text(message.get("content")).split()) for message in body.get("messages") or ())


def most_tokens(body: dict[str, Any]) -> int:
    """The tokens that the answer has: as many as it may."""
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    return int(next((limit for limit in limits if limit), _DEFAULT_TOKENS))


def _usage(prompt: int, tokens: int) -> bytes:
    return b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (prompt, prompt + tokens, tokens)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")
