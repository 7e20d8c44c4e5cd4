"""Composes the embedder: settings in, FastAPI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloister_common.access import provide
from cloister_common.app import create_base_app
from fastapi import Depends, FastAPI, Request

from cloister_embedder import catalog
from cloister_embedder.context import Context
from cloister_embedder.embeddings import routes as embeddings
from cloister_embedder.registry import Loader
from cloister_embedder.rerank import routes as rerank
from cloister_embedder.settings import EmbedderSettings

__all__ = ["create_app"]


def create_app(settings: EmbedderSettings, *, load: Loader | None = None) -> FastAPI:
    """The application. Models load in the background once it runs; ``/readyz`` names those that are missing.

    Args:
        settings: The embedder's settings.
        load: How a model folder becomes an encoder, where it is not sentence-transformers (tests of the queue).

    Raises:
        SettingsError: The token file or a model folder is not usable.
    """
    context = Context(settings, load)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.start()
        try:
            yield
        finally:
            await context.close()

    app = create_base_app(
        title="cloister-embedder",
        lifespan=lifespan,
        checks=lambda _: context.registry.checks(),
        max_body_bytes=settings.max_body_bytes,
        max_json_values=settings.max_json_values,
    )
    provide(app.state, context.services)

    async def internal(request: Request) -> None:
        context.tokens.require(request)

    for router in (embeddings.router, rerank.router, catalog.router):
        app.include_router(router, dependencies=[Depends(internal)])
    return app
