"""What models are to callers: the embedder's model objects, and the errors of models that are not there."""

from collections.abc import Mapping
from typing import Any, Literal

from cloister_common.errors import CloisterError, InvalidRequest, NotFound

__all__ = ["ModelKind", "model_not_found", "model_object", "refusal_of_model"]

ModelKind = Literal["text", "image", "rerank"]


def model_object(
    name: str, kind: ModelKind, *, dimensions: int | None, max_tokens: int, created: int
) -> dict[str, Any]:
    """OpenAI's model object, with ``cloister: {kind, dimensions, max_tokens}``.

    ``max_tokens`` is the longest input with the special tokens the model adds; ``dimensions`` is null for a reranker.
    """
    facts = {"kind": kind, "dimensions": dimensions, "max_tokens": max_tokens}
    return {"id": name, "object": "model", "created": created, "owned_by": "cloister", "cloister": facts}


def refusal_of_model(name: str, kinds: Mapping[str, ModelKind], *served: ModelKind) -> CloisterError | None:
    """Why a route that serves the kinds ``served`` refuses model ``name``, or None if it does not."""
    kind = kinds.get(name)
    if kind is None:
        return model_not_found(name)
    if kind not in served:
        use = "/v1/rerank" if kind == "rerank" else "/v1/embeddings"
        return InvalidRequest(
            f"The model '{name}' does not serve this. Use {use} with it.", param="model", code="wrong_model_kind"
        )
    return None


def model_not_found(name: str) -> NotFound:
    """OpenAI's error of an unknown model, the same from whichever part knows that it is."""
    return NotFound(
        f"The model '{name}' does not exist here. GET /v1/models lists those that do.",
        param="model",
        code="model_not_found",
    )
