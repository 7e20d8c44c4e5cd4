"""How routes and sockets come by the services they call: by class, without knowing who made them.

    Service = Annotated[ConversationService, Depends(provided(ConversationService))]

Each service's ``context`` makes everything and hands it over with `provide`. So a domain's routes import that domain's
service and nothing above it.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from starlette.datastructures import State
from starlette.requests import HTTPConnection

__all__ = ["Direct", "Services", "provide", "provided", "services_of"]

T = TypeVar("T")


class Direct(Generic[T]):
    """A dependency that is there at once: a `cloister_common.direct.DirectRoute` only calls it, FastAPI awaits it.

    Args:
        give: Gives it to a request or a socket, or raises why not.
    """

    def __init__(self, give: Callable[[HTTPConnection], T]) -> None:
        self.give = give

    # A coroutine, since FastAPI calls other dependencies in a thread.
    async def __call__(self, connection: HTTPConnection) -> T:
        return self.give(connection)


class Services:
    """What lives as long as the process. A class stands for its instance, and for that of its only subclass."""

    def __init__(self, *services: object) -> None:
        self._services = services
        self._found: dict[type[Any], object] = {}

    def get(self, wanted: type[T]) -> T:
        """The service of this class.

        Raises:
            LookupError: The composition forgot it, or made two of it.
        """
        if wanted not in self._found:
            fitting = [one for one in self._services if isinstance(one, wanted)]
            if len(fitting) != 1:
                raise LookupError(f"{len(fitting)} services were provided that are {wanted.__name__}, and not one")
            self._found[wanted] = fitting[0]
        return cast("T", self._found[wanted])


def provide(state: State, services: Services) -> None:
    """Has `provided` find ``services`` in the application that ``state`` belongs to."""
    state.services = services


def services_of(app: Any) -> Services:
    """What was provided to the application (``scope["app"]``)."""
    return cast("Services", app.state.services)


def provided(wanted: type[T]) -> Direct[T]:
    """A dependency that gives the service of this class, to requests and sockets alike."""
    return Direct(lambda connection: services_of(connection.app).get(wanted))
