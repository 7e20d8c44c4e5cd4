"""How routes and sockets come by the services they call: by class, without knowing who made them.

    Service = Annotated[ConversationService, Depends(provided(ConversationService))]

`cloister_gateway.context` makes everything and hands it over with `provide`. So a domain's routes import that domain's
service and nothing above it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from starlette.datastructures import State
from starlette.requests import HTTPConnection

__all__ = ["Services", "provide", "provided", "services_of"]

T = TypeVar("T")


class Services:
    """What lives as long as the process, one of each class."""

    def __init__(self, *services: object) -> None:
        self._services: dict[type[Any], object] = {type(one): one for one in services}
        if len(self._services) != len(services):
            raise TypeError("two services are of one class: which of them would a route get?")

    def get(self, wanted: type[T]) -> T:
        """The service of exactly this class. Raises `LookupError` where there is none: the composition forgot it."""
        try:
            return cast("T", self._services[wanted])
        except KeyError:
            raise LookupError(f"no {wanted.__name__} was provided") from None


def provide(state: State, services: Services) -> None:
    """Has `provided` find ``services`` in the application that ``state`` belongs to."""
    state.services = services


def services_of(app: Any) -> Services:
    """What was provided to the application (``scope["app"]``)."""
    return cast("Services", app.state.services)


def provided(wanted: type[T]) -> Callable[[HTTPConnection], Awaitable[T]]:
    """A dependency that gives the service of this class, to requests and sockets alike."""

    # A coroutine, since FastAPI calls other dependencies in a thread.
    async def give(connection: HTTPConnection) -> T:
        return services_of(connection.app).get(wanted)

    return give
