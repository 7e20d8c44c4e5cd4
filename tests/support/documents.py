"""Small documents for tests, and waiting until they are ingested."""

import io
from collections.abc import Sequence
from typing import Any

import openai
from openai.types import VectorStore, VectorStoreSearchResponse
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.support.waiting import wait_until

__all__ = ["ingested", "pdf", "place", "upload"]


def pdf(pages: Sequence[str], *, password: str | None = None) -> bytes:
    """A PDF with one line of text a page."""
    out = io.BytesIO()
    encryption = None if password is None else StandardEncryption(password)
    canvas = Canvas(out, encrypt=encryption)
    for text in pages:
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def upload(sdk: openai.OpenAI, name: str, content: bytes) -> str:
    """Uploads a file and gives its id."""
    return sdk.files.create(file=(name, content), purpose="assistants").id


def ingested(sdk: openai.OpenAI, store_id: str, *, seconds: float = 60) -> VectorStore:
    """The vector store, once nothing in it is in progress."""

    def settled() -> VectorStore | None:
        store = sdk.vector_stores.retrieve(store_id)
        return store if store.file_counts.in_progress == 0 else None

    store = wait_until(settled, seconds=seconds, what="every file is ingested")
    assert isinstance(store, VectorStore)
    return store


def place(found: VectorStoreSearchResponse) -> dict[str, Any]:
    """Our addition to a search result: where the passage is."""
    assert found.model_extra is not None
    passage = found.model_extra["passage"]
    assert isinstance(passage, dict)
    return passage
