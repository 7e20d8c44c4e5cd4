"""The client of the embedder, for the gateway (no numpy) and the retriever (numpy).

Vectors are ``bytes``: little-endian float32, as they come off the wire. Either side uses them as it likes:

    numpy.frombuffer(b"".join(result.vectors), "<f4").reshape(-1, result.dimensions)
    array.array("f", vector)          # little-endian machines
    struct.unpack(f"<{dimensions}f", vector)
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from cloister_common.clients.call import AWAY_SECONDS, RetryPolicy, call, check_ready
from cloister_common.errors import InvalidRequest, UpstreamFailed
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.wire.embeddings import BULK, FLOAT_BYTES, LANE_HEADER, InputType
from cloister_common.wire.pictures import data_url

__all__ = ["Answer", "EmbedderClient", "Embeddings", "Ranked"]

_PART = "embedder"

_USAGE = b'"usage":'
"""As it stands in an answer. In a string of the answer its quotes would be escaped."""

_TEXTS_A_CALL = 256
"""Texts in one call of `EmbedderClient.embed`: long lists go in several, so that no answer is huge."""


_IMAGES_A_CALL = 8
"""Pictures of 448 pixels a side that are hard to pack have 0.6 MB each, and a body may have 8 MiB."""


class Answer(NamedTuple):
    """An answer as it came, for those who pass it on.

    Attributes:
        content: Its JSON.
        prompt_tokens: What the model read for it.
    """

    content: bytes
    prompt_tokens: int


class Embeddings(NamedTuple):
    """Vectors in the order of the texts.

    Attributes:
        vectors: Each ``dimensions`` little-endian float32, Euclidean length 1.
        dimensions: 0 if there were no texts.
        tokens: What the model read, its special tokens included.
    """

    vectors: list[bytes]
    dimensions: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place among those that were reranked: its index in the request and a score from 0 to 1."""

    index: int
    score: float


class EmbedderClient:
    """Calls an embedder. One instance serves any number of tasks; `close` it at the end.

    Args:
        url: Its base URL, without ``/v1``.
        tokens: The embedder's internal tokens.
        tls: Whom to trust where the URL is https.
        model: The model of `embed`; None where nothing is embedded but what callers of ours ask for.
        deadline_seconds: Bound of one call, its retries included.
        retry: How often and how patiently calls are repeated.
    """

    def __init__(
        self,
        url: str,
        tokens: InternalTokens,
        tls: ClientTls,
        model: str | None,
        *,
        deadline_seconds: float = 60.0,
        retry: RetryPolicy = RetryPolicy(),
    ) -> None:
        self.model = model
        self._tokens = tokens
        self._deadline_seconds = deadline_seconds
        self._retry = retry
        self._http = http_client(url, tls=tls, timeout_seconds=deadline_seconds)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def embed(
        self,
        texts: Sequence[str],
        *,
        bulk: bool = False,
        input_type: InputType | None = None,
        model: str | None = None,
    ) -> Embeddings:
        """Vectors of any number of texts.

        Args:
            texts: None may be empty or, with the model's prefix, longer than it reads.
            input_type: What they are to a search; None where they are compared with each other.
            model: Another one than this client's.
            bulk: Nobody is waiting: let people's queries go first, and be patient while the embedder is away. Else
                that is said within `AWAY_SECONDS`.

        Raises:
            InvalidRequest: A text is empty or too long; ``param`` is ``input[i]`` with ``i`` counted in ``texts``.
            Unavailable: The embedder is down, or did not answer in time.
            TooManyRequests: Its queue stayed full.
            UpstreamFailed: It answered something else.
        """
        model = model or self.model
        if model is None:
            raise ValueError("this client was made without a model of its own")
        asked = {"model": model, "encoding_format": "base64"} | ({"input_type": input_type} if input_type else {})
        vectors: list[bytes] = []
        tokens = 0
        for start in range(0, len(texts), _TEXTS_A_CALL):
            part = list(texts[start : start + _TEXTS_A_CALL])
            try:
                answer = await self.create(asked | {"input": part}, bulk=bulk)
            except InvalidRequest as error:
                raise _counted_from(error, start) from error
            vectors += _vectors(answer, len(part))
            tokens += int(answer["usage"]["prompt_tokens"])
        return Embeddings(vectors, len(vectors[0]) // FLOAT_BYTES if vectors else 0, tokens)

    async def embed_images(self, model: str, images: Sequence[bytes], *, bulk: bool = False) -> Embeddings:
        """CLIP's vectors of files of images, PNG, JPEG, WebP or GIF.

        Args:
            model: One of the kind ``image``.
            images: The files.
            bulk: As `embed` has it.

        Raises:
            InvalidRequest: One cannot be read.
            CloisterError: As `embed`.
        """
        return await self._image_vectors(model, [data_url(image) for image in images], bulk=bulk)

    async def embed_for_images(self, model: str, texts: Sequence[str]) -> Embeddings:
        """The vectors of texts that pictures are searched by: CLIP's text tower.

        Raises:
            CloisterError: As `embed`.
        """
        return await self._image_vectors(model, list(texts), bulk=False)

    async def _image_vectors(self, model: str, inputs: Sequence[str], *, bulk: bool) -> Embeddings:
        vectors: list[bytes] = []
        tokens = 0
        for start in range(0, len(inputs), _IMAGES_A_CALL):
            part = list(inputs[start : start + _IMAGES_A_CALL])
            answer = await self.create({"model": model, "encoding_format": "base64", "input": part}, bulk=bulk)
            vectors += _vectors(answer, len(part))
            tokens += int(answer["usage"]["prompt_tokens"])
        return Embeddings(vectors, len(vectors[0]) // FLOAT_BYTES if vectors else 0, tokens)

    async def create(self, body: Mapping[str, Any], *, bulk: bool = False) -> dict[str, Any]:
        """OpenAI's ``POST /v1/embeddings`` as it is: ``body`` in, the answer's JSON out.

        Raises:
            CloisterError: As `embed`.
        """
        return _json(await self._post("/v1/embeddings", orjson.dumps(body), bulk=bulk))

    async def pass_embeddings(self, body: bytes, *, tenant: str, bulk: bool = False) -> Answer:
        """``POST /v1/embeddings`` for a caller of ours, whose ``body`` was checked. The vectors are not looked at.

        Raises:
            CloisterError: As `embed`.
        """
        return _answer(await self._post("/v1/embeddings", body, bulk=bulk, tenant=tenant))

    async def pass_rerank(self, body: bytes, *, tenant: str) -> Answer:
        """``POST /v1/rerank`` for a caller of ours, whose ``body`` was checked.

        Raises:
            CloisterError: As `embed`.
        """
        return _answer(await self._post("/v1/rerank", body, bulk=False, tenant=tenant))

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        bulk: bool = False,
    ) -> list[Ranked]:
        """``documents`` by their relevance to ``query``, best first.

        Raises:
            InvalidRequest: No documents, or a query and document together longer than the model reads.
            CloisterError: As `embed`.
        """
        body: dict[str, Any] = {"model": model, "query": query, "documents": list(documents)}
        if top_n is not None:
            body["top_n"] = top_n
        answer = _json(await self._post("/v1/rerank", orjson.dumps(body), bulk=bulk))
        try:
            return [Ranked(int(hit["index"]), float(hit["relevance_score"])) for hit in answer["results"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed() from error

    async def models(self, *, tenant: str | None = None, within_seconds: float | None = None) -> list[dict[str, Any]]:
        """OpenAI's model objects, each with ``cloister: {kind, dimensions, max_tokens}``.

        Args:
            tenant: For whom it is asked.
            within_seconds: For those who can do without: asks once, and waits no longer than this.

        Raises:
            CloisterError: As `embed`.
        """
        response = await call(
            self._http,
            _PART,
            "GET",
            "/v1/models",
            headers=self._tokens.headers(tenant),
            deadline_seconds=within_seconds or self._deadline_seconds,
            retry=RetryPolicy(attempts=1) if within_seconds else self._retry,
            away_seconds=None if within_seconds else AWAY_SECONDS,
        )
        data = _json(response.content).get("data")
        if not isinstance(data, list):
            raise _malformed()
        return data

    async def check(self) -> None:
        """Raises `Unavailable` unless the embedder says that it is ready."""
        await check_ready(self._http, _PART)

    async def _post(self, path: str, body: bytes, *, bulk: bool, tenant: str | None = None) -> bytes:
        headers = self._tokens.headers(tenant) | {"content-type": "application/json"}
        if bulk:
            headers[LANE_HEADER] = BULK
        response = await call(
            self._http,
            _PART,
            "POST",
            path,
            headers=headers,
            content=body,
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=None if bulk else AWAY_SECONDS,
        )
        return response.content


def _counted_from(error: InvalidRequest, start: int) -> InvalidRequest:
    """The error with the index of the whole list, where the call carried a part that began at ``start``."""

    def shifted(match: re.Match[str]) -> str:
        return f"input[{int(match[1]) + start}]"

    if error.param is None or not start:
        return error
    param = re.sub(r"^input\[(\d+)\]", shifted, error.param)
    message = error.message.replace(f"'{error.param}'", f"'{param}'")
    return InvalidRequest(message, param=param, code=error.error_code)


def _json(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _malformed() from error
    if not isinstance(body, dict):
        raise _malformed()
    return body


def _answer(content: bytes) -> Answer:
    """The answer with its usage, which comes last in it: megabytes of vectors are not read for one number."""
    place = content.rfind(_USAGE)
    try:
        usage = orjson.loads(content[place + len(_USAGE) : -1]) if place >= 0 else None
    except orjson.JSONDecodeError:
        usage = None
    if not isinstance(usage, dict):
        usage = _json(content).get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int):
        raise _malformed()
    return Answer(content, tokens)


def _vectors(answer: dict[str, Any], expected: int) -> list[bytes]:
    """The vectors of an answer in base64, checked: as many as asked for, in order, of one length."""
    try:
        rows = answer["data"]
        vectors = [base64.b64decode(row["embedding"], validate=True) for row in rows]
        in_order = [row["index"] for row in rows] == list(range(expected))
    except (KeyError, TypeError, binascii.Error) as error:
        raise _malformed() from error
    lengths = {len(vector) for vector in vectors}
    if not in_order or len(lengths) != 1 or lengths == {0} or lengths.pop() % FLOAT_BYTES:
        raise _malformed()
    return vectors


def _malformed() -> UpstreamFailed:
    return UpstreamFailed(f"The {_PART} answered something that is not its schema.")
