"""The routes of the services, and the request models that their bodies are read into."""

from typing import Any

from cloister_gateway.app import ROUTERS
from cloister_retriever.files.routes import router as files
from cloister_retriever.reembedding.routes import router as reembedding
from cloister_retriever.search.routes import router as search
from cloister_retriever.vector_stores.file_routes import router as files_in_stores
from cloister_retriever.vector_stores.routes import router as vector_stores
from fastapi.routing import APIRoute

__all__ = ["bodies"]


def bodies() -> dict[str, set[Any]]:
    """The models that the body of each route may be, by its path."""
    routers = [*ROUTERS, files, search, files_in_stores, vector_stores, reembedding]
    routes = [
        route for router in routers for route in router.routes if isinstance(route, APIRoute) and route.body_field
    ]
    annotations = {str(route.path): route.body_field.field_info.annotation for route in routes if route.body_field}
    return {
        path: {arm for arm in getattr(annotation, "__args__", (annotation,)) if arm is not type(None)}
        for path, annotation in annotations.items()
    }
