"""The retriever's application: documents in, passages out."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cloister_common.access import Services, provide
from cloister_common.app import ReadinessCheck, create_base_app
from cloister_common.errors import Unavailable
from cloister_common.vault import VaultError
from cloister_common.wire.images import MOST_IMAGE_FILE_BYTES
from cloister_common.wire.reading import MOST_FILE_BYTES
from fastapi import FastAPI

from cloister_retriever.charges.routes import router as charges
from cloister_retriever.context import Context, open_context
from cloister_retriever.damage import on_damage
from cloister_retriever.files.parts import router as result_parts
from cloister_retriever.files.results import router as results
from cloister_retriever.files.routes import router as files
from cloister_retriever.pictures.routes import router as pictures
from cloister_retriever.reading.routes import router as reading
from cloister_retriever.reembedding.routes import router as reembedding
from cloister_retriever.search.routes import router as search
from cloister_retriever.settings import RetrieverSettings
from cloister_retriever.uploads.routes import router as uploads
from cloister_retriever.uploads.schemas import PART_BYTES
from cloister_retriever.vector_stores.file_routes import router as files_in_stores
from cloister_retriever.vector_stores.routes import router as vector_stores

__all__ = ["create_app"]

_MAX_BODY_BYTES = 2 * 1024 * 1024
"""A batch of 2,000 files, each with attributes."""

_PICTURE_BODY_BYTES = 8 * 1024 * 1024
"""A search with a photograph. One that is larger can be uploaded, and asked with by its id."""

_FORM_BYTES = 1024 * 1024
"""What a form may hold beside the file."""


def create_app(settings: RetrieverSettings) -> FastAPI:
    """The application for ``settings``. A process with the role ``ingest`` has only the health routes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_context(settings) as context:
            app.state.context = context
            provide(app.state, Services(*vars(context).values()))
            yield

    app = create_base_app(
        title="cloister-retriever",
        lifespan=lifespan,
        checks=_checks,
        max_body_bytes=_MAX_BODY_BYTES,
        larger_bodies={
            "/v1/files": settings.ingestion.max_file_bytes + _FORM_BYTES,
            "/internal/files": settings.ingestion.max_file_bytes,
            # (Parts of results have to be taken however small uploads are, or batches would wait for that.)
            "/internal/batches": max(settings.ingestion.max_file_bytes, MOST_FILE_BYTES),
            "/internal/read": MOST_FILE_BYTES,
            "/internal/image": MOST_IMAGE_FILE_BYTES,
            "/v1/uploads": PART_BYTES + _FORM_BYTES,
            "/v1/vector_stores": _PICTURE_BODY_BYTES,
            "/internal/search": _PICTURE_BODY_BYTES,
        },
    )
    app.add_exception_handler(VaultError, on_damage)
    if settings.role != "ingest":
        for router in (
            charges,
            files,
            results,
            result_parts,
            uploads,
            reading,
            pictures,
            search,
            files_in_stores,
            vector_stores,
            reembedding,
        ):
            app.include_router(router)
    return app


def _checks(app: FastAPI) -> Mapping[str, ReadinessCheck]:
    context = app.state.context
    assert isinstance(context, Context)

    async def embedder() -> None:
        models = [model.get("id") for model in await context.embedder.models()]
        if context.embedder.model not in models:
            raise Unavailable(f"The embedder does not serve the model '{context.embedder.model}'.")

    return {"object_store": context.objects.check, "milvus": context.milvus.check, "embedder": embedder}
