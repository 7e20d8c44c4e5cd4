"""An embedder without a model: the same schema and errors, and vectors from hashes of words.

Texts that share words have near vectors, so that tests of search find what they should. Equal texts have equal vectors
in every process. ``tests/contract/embedder`` proves it equal to the real one in shape and errors.
"""

import asyncio
import hashlib
import math
import random
import re
import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloister_common.app import create_base_app
from cloister_common.errors import CloisterError
from cloister_common.internal import InternalTokens
from cloister_common.wire.embeddings import (
    InputType,
    check_dimensions,
    is_bulk,
    parse_embedding_request,
    render_embeddings,
    too_long,
)
from cloister_common.wire.models import ModelKind, model_not_found, model_object, refusal_of_model
from cloister_common.wire.rerank import parse_rerank_request, rerank_body

__all__ = ["FakeEmbedder", "fake_vector"]

_SPECIAL_TOKENS = 2
_PIECE = re.compile(r"\w+|[^\w\s]")


def fake_vector(text: str, dimensions: int) -> bytes:
    """The fake's vector of a text: the normalised sum of a random direction for each of its words."""
    total = [0.0] * dimensions
    for word in sorted(set(_PIECE.findall(text.lower()))) or [text]:
        total = [one + other for one, other in zip(total, _direction(word, dimensions), strict=True)]
    length = math.sqrt(sum(value * value for value in total))
    return struct.pack(f"<{dimensions}f", *(value / length for value in total))


@lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> tuple[float, ...]:
    source = random.Random(hashlib.sha256(word.encode()).digest())  # noqa: S311 - reproducible on purpose
    return tuple(source.gauss(0, 1) for _ in range(dimensions))


class FakeEmbedder:
    """The service; an ASGI application.

    Args:
        token: The internal token it asks for.
        models: Kind of each model by name.
        dimensions: Length of its vectors.
        shorter: To what they may be cut.
        max_tokens: Longest text, with the two special tokens it pretends to add. A token is a word or a sign.

    Attributes:
        errors: Raised for the next calls, one each, before anything else.
        delay_seconds: How long each answer takes.
        texts: Texts embedded so far.
        bulk_calls: Calls that asked for the bulk lane.
        input_types: What each call to embed said its texts are.
    """

    def __init__(
        self,
        token: str | bytes,
        *,
        models: Mapping[str, ModelKind] | None = None,
        dimensions: int = 384,
        shorter: Sequence[int] = (),
        max_tokens: int = 256,
    ) -> None:
        self.models: dict[str, ModelKind] = dict(models or {"all-MiniLM-L6-v2": "text"})
        self.dimensions = dimensions
        self.shorter = shorter
        self.max_tokens = max_tokens
        self.errors: list[CloisterError] = []
        self.delay_seconds = 0.0
        self.texts = 0
        self.bulk_calls = 0
        self.input_types: list[InputType | None] = []
        self._tokens = InternalTokens([token.encode() if isinstance(token, str) else token])
        self._app = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _build(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield

        app = create_base_app(
            title="fake-embedder", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=16 * 1024 * 1024
        )
        router = APIRouter()
        router.post("/v1/embeddings")(self._embeddings)
        router.post("/v1/rerank", response_model=None)(self._rerank)
        router.get("/v1/models", response_model=None)(self._list)
        router.get("/v1/models/{name:path}", response_model=None)(self._retrieve)
        app.include_router(router, dependencies=[Depends(self._admit)])
        return app

    async def _admit(self, request: Request) -> None:
        self._tokens.require(request)
        self.bulk_calls += is_bulk(request.headers)
        if self.errors:
            raise self.errors.pop(0)
        await asyncio.sleep(self.delay_seconds)

    async def _embeddings(self, request: Request) -> Response:
        body = parse_embedding_request(await request.body())
        self._require(body.model, "text", "image")
        inputs: Sequence[str | bytes] = body.inputs() if self.models[body.model] == "image" else body.texts()
        dimensions = check_dimensions(body, self.dimensions, self.shorter)
        # A picture is taken for the words of its digest: the same one has the same vector, in every process.
        texts = [one if isinstance(one, str) else hashlib.sha256(one).hexdigest() for one in inputs]
        tokens = self._count([body.field(index) for index in range(len(texts))], texts)
        self.texts += len(texts)
        self.input_types.append(body.input_type)
        answer = await render_embeddings(
            model=body.model,
            # Its directions of fewer dimensions begin like those of more, so this is what cutting gives.
            vectors=[fake_vector(text, dimensions) for text in texts],
            encoding_format=body.encoding_format,
            prompt_tokens=tokens,
        )
        return Response(answer, media_type="application/json")

    async def _rerank(self, request: Request) -> dict[str, Any]:
        body = parse_rerank_request(await request.body())
        self._require(body.model, "rerank")
        names = [f"documents[{index}]" for index in range(len(body.documents))]
        tokens = self._count(names, [f"{body.query} {document}" for document in body.documents])
        scores = [_overlap(body.query, document) for document in body.documents]
        return rerank_body(body, scores, prompt_tokens=tokens)

    async def _list(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._model(name) for name in self.models]}

    async def _retrieve(self, name: str) -> dict[str, Any]:
        if name not in self.models:
            raise model_not_found(name)
        return self._model(name)

    def _model(self, name: str) -> dict[str, Any]:
        kind = self.models[name]
        dimensions = None if kind == "rerank" else self.dimensions
        return model_object(name, kind, dimensions=dimensions, max_tokens=self.max_tokens, created=0)

    def _require(self, name: str, *kinds: ModelKind) -> None:
        refusal = refusal_of_model(name, self.models, *kinds)
        if refusal is not None:
            raise refusal

    def _count(self, names: Iterable[str], texts: Iterable[str]) -> int:
        total = 0
        for name, text in zip(names, texts, strict=True):
            tokens = len(_PIECE.findall(text)) + _SPECIAL_TOKENS
            if tokens > self.max_tokens:
                raise too_long(name, tokens=tokens, limit=self.max_tokens)
            total += tokens
        return total


def _overlap(query: str, document: str) -> float:
    asked, told = set(_PIECE.findall(query.lower())), set(_PIECE.findall(document.lower()))
    return len(asked & told) / len(asked | told) if asked | told else 0.0
