"""OpenAI's embeddings schema, as the embedder serves it and the gateway offers it.

Source: OpenAI API reference, ``POST /v1/embeddings``. Vectors travel inside our process as ``bytes``: little-endian
float32, which is what OpenAI's base64 encoding carries. So neither side needs numpy, and whoever has numpy reads them
with ``numpy.frombuffer(vector, "<f4")`` without a copy.
"""

import asyncio
import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import ConfigDict, Field

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.wire.pictures import DATA_URL, image_bytes, image_url_of
from cloister_common.wire.requests import Extension, Hint, RequestModel, parse_request

__all__ = [
    "BULK",
    "FLOAT_BYTES",
    "LANE_HEADER",
    "MAX_IMAGES",
    "MAX_TEXTS",
    "EmbeddingRequest",
    "InputType",
    "check_dimensions",
    "is_bulk",
    "parse_embedding_request",
    "render_embeddings",
    "too_long",
]

MAX_TEXTS = 2048
"""OpenAI's limit of inputs in one request."""

MAX_IMAGES = 64
"""Of one request."""

FLOAT_BYTES = 4

LANE_HEADER = "x-cloister-lane"
BULK = "bulk"
"""A caller that is in no hurry (ingestion, batches) says so, and people's queries go before it."""

InputType = Literal["query", "passage"]
"""What a text is for. Models that were trained with prefixes want another one before each."""

_ROWS_AT_ONCE = 64
"""Vectors encoded before the event loop gets its turn: 64 x 384 floats take about a millisecond."""


class EmbeddingRequest(RequestModel):
    """The body of ``POST /v1/embeddings``. Build it with `parse_embedding_request`."""

    model_config = ConfigDict(frozen=True)

    model: str
    input: Any = Field(
        description="Texts, or token ids of `cl100k_base`, which stand for texts; for a CLIP model also images: data "
        "URLs, or content parts `input_image` with one."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, description="Fewer than the model has where it is a Matryoshka one; an error says which there may be."
    )
    input_type: Annotated[InputType | None, Extension()] = Field(
        None,
        description="What the texts are: a model that was trained with prefixes (as e5 with `query: ` and `passage: `) "
        "gets the right one before each. Other models give the same vectors either way.",
    )
    user: Annotated[
        str | None, Hint("It helps a provider to find abuse among its customers; here keys and projects say who asks.")
    ] = None

    def texts(self) -> list[str]:
        """The texts to embed, in order, where a model takes nothing else.

        Raises:
            InvalidRequest: None, too many, an empty one, or something that is not text; ``param`` says which.
        """
        texts: list[str] = []
        for index, item in enumerate(self.inputs()):
            if isinstance(item, bytes):
                param = self.field(index)
                raise UnsupportedParameter(
                    param, f"'{param}' is an image, and the model '{self.model}' reads only text."
                )
            texts.append(item)
        return texts

    def field(self, index: int) -> str:
        """What the input of this number is called in an error."""
        return f"input[{index}]" if isinstance(self.input, list) else "input"

    def inputs(self) -> list[str | bytes]:
        """What to embed, in order: texts, and images as the bytes of their files.

        Raises:
            InvalidRequest: None, too many, an empty one, or something else; ``param`` says which.
        """
        value = self.input
        if not isinstance(value, list) and (isinstance(value, str) or image_url_of(value) is not None):
            return [_input(value, "input")]
        if not isinstance(value, list):
            raise InvalidRequest("'input' must be a string or a list of strings.", param="input", code="invalid_type")
        if not value:
            raise InvalidRequest(
                "'input' must not be an empty list. Send at least one string.", param="input", code="empty_array"
            )
        if len(value) > MAX_TEXTS:
            raise InvalidRequest(
                f"'input' has {len(value)} items; the limit is {MAX_TEXTS} in one request. Send several requests.",
                param="input",
                code="array_above_max_length",
            )
        inputs = [_input(item, f"input[{index}]") for index, item in enumerate(value)]
        images = sum(isinstance(one, bytes) for one in inputs)
        if images > MAX_IMAGES:
            raise InvalidRequest(
                f"'input' has {images} images; the limit is {MAX_IMAGES} in one request. Send several requests.",
                param="input",
                code="array_above_max_length",
            )
        return inputs


def is_bulk(headers: Mapping[str, str]) -> bool:
    """Whether the caller asked for the bulk lane.

    Raises:
        InvalidRequest: The header has another value.
    """
    lane = headers.get(LANE_HEADER, "")
    if lane not in {"", BULK}:
        raise InvalidRequest(f"The header {LANE_HEADER} knows only '{BULK}'. Leave it out.", param=LANE_HEADER)
    return lane == BULK


def parse_embedding_request(body: bytes) -> EmbeddingRequest:
    """Reads a request body.

    Raises:
        InvalidRequest: Not JSON, or a wrong, missing or unknown field.
    """
    return parse_request(EmbeddingRequest, body)


def check_dimensions(request: EmbeddingRequest, dimensions: int, shorter: Sequence[int] = ()) -> int:
    """How many dimensions the answer's vectors have.

    Args:
        request: Which may ask for some.
        dimensions: What the model's vectors have.
        shorter: To what they may be cut: of a Matryoshka model, ascending.

    Raises:
        UnsupportedParameter: It asks for what the model does not have.
    """
    asked = request.dimensions
    if asked is None or asked == dimensions:
        return dimensions
    if asked in shorter:
        return asked
    if not shorter:
        has, mend = "cannot be shortened", f"or send {dimensions}"
    elif isinstance(shorter, range):
        has, mend = "can be shortened", f"or send a number from {shorter[0]} to {dimensions}"
    else:
        has, mend = "can be shortened", f"or send one of {', '.join(map(str, shorter))}, {dimensions}"
    raise UnsupportedParameter(
        "dimensions",
        f"The model '{request.model}' has {dimensions} dimensions and {has}. Leave 'dimensions' out, {mend}.",
    )


def too_long(param: str, *, tokens: int, limit: int) -> InvalidRequest:
    """The error of a text that is longer than the model reads. Nothing is ever cut to fit."""
    return InvalidRequest(
        f"'{param}' has {tokens} tokens; the model reads at most {limit}, its own special tokens included. "
        "Split the text.",
        param=param,
        code="context_length_exceeded",
    )


async def render_embeddings(
    *, model: str, vectors: Sequence[bytes], encoding_format: Literal["float", "base64"], prompt_tokens: int
) -> bytes:
    """The JSON body of the answer. Gives way to other requests between groups of vectors."""
    pieces: list[bytes] = []
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        rows = [
            {"object": "embedding", "index": start + offset, "embedding": _encode(vector, encoding_format)}
            for offset, vector in enumerate(vectors[start : start + _ROWS_AT_ONCE])
        ]
        pieces.append(orjson.dumps(rows)[1:-1])
    usage = orjson.dumps({"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens})
    name = orjson.dumps(model)
    return b'{"object":"list","data":[' + b",".join(pieces) + b'],"model":' + name + b',"usage":' + usage + b"}"


def _encode(vector: bytes, encoding_format: Literal["float", "base64"]) -> str | tuple[float, ...]:
    if encoding_format == "base64":
        return base64.b64encode(vector).decode("ascii")
    return struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)


def _input(item: Any, param: str) -> str | bytes:
    if isinstance(item, str):
        if not item:
            raise InvalidRequest(
                f"'{param}' is an empty string, which has no meaning to embed. Leave it out.",
                param=param,
                code="empty_string",
            )
        # Base64 right after it, or it is a text about such addresses.
        return image_bytes(item, param) if item.startswith(DATA_URL) and ";base64," in item[:64] else item
    if isinstance(item, bool | float) or item is None:
        raise InvalidRequest(f"'{param}' must be a string.", param=param, code="invalid_type")
    if isinstance(item, int | list):
        raise UnsupportedParameter(param, f"'{param}' holds token ids. Send the text itself.")
    url = image_url_of(item)
    if url is None:
        raise UnsupportedParameter(param, f"'{param}' is an object. Only strings and images are served here.")
    return image_bytes(url, param)
