"""The gateway's application: the shared shell, the guard, and one router per domain."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from cloister_common.access import provide
from cloister_common.app import BaseApp, ReadinessCheck, create_base_app, error_response
from cloister_common.browsers import Origins
from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError
from cloister_common.vault import VaultError
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from cloister_gateway.admission.middleware import AdmissionMiddleware
from cloister_gateway.batches.routes import router as batches_router
from cloister_gateway.chat.routes import router as chat_router
from cloister_gateway.completions.routes import router as completions_router
from cloister_gateway.context import Context, open_context
from cloister_gateway.conversations.routes import router as conversations_router
from cloister_gateway.documents.routes import router as documents_router
from cloister_gateway.embeddings.routes import router as embedding_router
from cloister_gateway.identity.guard import GuardMiddleware, open_routes
from cloister_gateway.limits.alert_routes import router as alerts_router
from cloister_gateway.limits.history_routes import router as policies_router
from cloister_gateway.limits.routes import router as limits_router
from cloister_gateway.models.adapters.routes import router as adapters_router
from cloister_gateway.models.entry_routes import router as entries_router
from cloister_gateway.models.routes import router as models_router
from cloister_gateway.organization.routes import router as identity_router
from cloister_gateway.planning.routes import router as planning_router
from cloister_gateway.responses.routes import router as responses_router
from cloister_gateway.settings import MEBIBYTE, GatewaySettings
from cloister_gateway.sockets.routes import router as sockets_router
from cloister_gateway.sockets.tickets import router as tickets_router
from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.usage import Meter
from cloister_gateway.usage.routes import router as usage_router
from cloister_gateway.wire.faults import fault_of

__all__ = ["create_app"]

log = get_logger(__name__)

ROUTERS: tuple[APIRouter, ...] = (
    sockets_router,
    chat_router,
    completions_router,
    conversations_router,
    documents_router,
    embedding_router,
    identity_router,
    limits_router,
    alerts_router,
    policies_router,
    models_router,
    planning_router,
    responses_router,
    tickets_router,
    adapters_router,
    entries_router,
    usage_router,
    batches_router,
)
"""Every router of the gateway. No two match the same, so the order is one of cost: FastAPI tries one after the other,
and the last cost 0.3 ms more. The first has one route, of sockets, which a request passes in a microsecond."""

_PART_BYTES = 64 * MEBIBYTE
"""A part of an upload, as OpenAI limits it. Its multipart frame comes on top."""

NOT_SERVED = (
    ("GET", "/v1/chat/completions"),
    ("DELETE", "/v1/models/{model:path}"),
    ("POST", "/v1/responses/compact"),
)
"""Operations of OpenAI's whose paths match other methods' routes here: a 404 like all that is not served, no 405."""


def create_app(settings: GatewaySettings, *, meter: Meter | None = None) -> BaseApp:
    """The application; what it holds is opened when it starts serving.

    Args:
        settings: The settings file.
        meter: What stands behind every generation; by default the limits and the ledger.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_context(settings, meter) as context:
                app.state.context = context
                provide(app.state, context.services)
                yield
        except SettingsError as error:
            log.error("start_refused", reason=str(error))
            raise

    origins = Origins(settings.browsers.origins)
    app = create_base_app(
        title="cloister-gateway",
        lifespan=lifespan,
        checks=lambda app: _checks(app.state.context),
        max_body_bytes=settings.bodies.json_bytes,
        max_json_values=settings.bodies.json_values,
        larger_bodies={
            "/v1/files": settings.bodies.upload_bytes + settings.bodies.json_bytes,
            "/v1/uploads": _PART_BYTES + settings.bodies.json_bytes,
        },
        origins=origins,
    )
    app.add_exception_handler(RedisError, _on_store_fault)
    app.add_exception_handler(VaultError, _on_store_fault)
    for router in ROUTERS:
        app.include_router(router)
    for method, path in NOT_SERVED:
        app.leave_out(method, path)
    # Inside of the shell, so that refusals are logged and counted too; it still comes before routing and any body.
    routes = [*app.routes, *(route for router in ROUTERS for route in router.routes)]
    app.add_layer(AdmissionMiddleware)
    app.add_layer(partial(GuardMiddleware, open_routes=open_routes(routes), origins=origins))
    return app


async def _on_store_fault(request: Request, error: Exception) -> JSONResponse:
    return error_response(fault_of(error, route=getattr(request.scope.get("route"), "path", None)))


def _checks(context: Context) -> Mapping[str, ReadinessCheck]:
    # One that may rest is woken when it is asked for.
    there = [model.name for model in context.catalog.bases() if model.waking is None]
    models = {f"model {name}": partial(context.llm.check, name) for name in there}
    return {
        "redis": lambda: _check_redis(context),
        **models,
        "embedder": context.embedder.check,
        "retriever": context.retriever.check,
    }


async def _check_redis(context: Context) -> None:
    try:
        await context.redis.ping()
    except REDIS_DOWN as error:
        raise Unavailable("no connection") from error
    if not context.bus.connected:
        raise Unavailable("the subscription is not connected")
