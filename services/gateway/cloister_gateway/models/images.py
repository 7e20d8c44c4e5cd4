"""Models that take images: who does, how many, and what a pod is sent of them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cloister_common.errors import InvalidRequest, UnsupportedParameter

from cloister_gateway.models.catalog import ChatModel

__all__ = ["MOST_PROMPT_IMAGES", "check_images", "no_images", "own_images", "too_many_images"]

MOST_PROMPT_IMAGES = 8 * 1024 * 1024
"""Characters of all data URLs in one prompt: pods take bodies of 10 MiB."""


def check_images(model: ChatModel, places: Sequence[str]) -> None:
    """Refuses images that a request has at ``places`` and ``model`` does not take.

    Raises:
        UnsupportedParameter: It takes none, by the name of the first.
        InvalidRequest: It takes fewer, by the name of the first that is too many.
    """
    if places and not model.images:
        raise no_images(model, f"Unsupported value: '{places[0]}.type'", param=f"{places[0]}.type")
    if len(places) > model.images:
        raise too_many_images(model, param=places[model.images])


def no_images(model: ChatModel, what: str, *, param: str) -> UnsupportedParameter:
    """Of a model that takes none."""
    return UnsupportedParameter(
        param, f"{what}: the model '{model.name}' reads text only. Use one whose entry in /v1/models has 'images'."
    )


def too_many_images(model: ChatModel, *, param: str) -> InvalidRequest:
    """Of a model that takes some."""
    return InvalidRequest(
        f"The model '{model.name}' takes {model.images} images in one prompt, of {MOST_PROMPT_IMAGES // 2**20} MiB "
        "together. Send fewer, or smaller ones.",
        param=param,
        code="too_many_images",
    )


def own_images(messages: Sequence[Mapping[str, Any]], salt: str) -> tuple[list[Mapping[str, Any]], int]:
    """The messages as a pod gets them, and how many characters of them are images.

    A pod finds what it has computed of an image again by its ``uuid``. That has the tenant's ``salt`` in it, so that
    nobody learns from a pod's haste what another tenant has shown it.
    """
    found: list[Mapping[str, Any]] = []
    characters = 0
    for message in messages:
        parts = message.get("content")
        if isinstance(parts, list):
            urls = [part["image_url"]["url"] if "image_url" in part else "" for part in parts]
            characters += sum(map(len, urls))
            own = [
                {**part, "uuid": hashlib.sha256(f"{salt} {url}".encode()).hexdigest()} if url else part
                for part, url in zip(parts, urls, strict=True)
            ]
            message = {**message, "content": own}
        found.append(message)
    return found, characters
