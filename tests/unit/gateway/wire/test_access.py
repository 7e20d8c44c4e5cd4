"""Routes get the services they ask for, by class."""

import pytest
from cloister_gateway.wire.access import Services, provide, provided
from starlette.applications import Starlette
from starlette.requests import HTTPConnection


class One:
    pass


class Other:
    pass


async def test_a_route_gets_the_service_of_the_class_it_asks_for() -> None:
    app, one = Starlette(), One()
    provide(app.state, Services(one, Other()))
    for kind in ("http", "websocket"):
        assert await provided(One)(HTTPConnection({"type": kind, "app": app})) is one


def test_what_the_composition_forgot_is_named() -> None:
    with pytest.raises(LookupError, match="Other"):
        Services(One()).get(Other)


def test_two_services_of_one_class_are_refused() -> None:
    with pytest.raises(TypeError):
        Services(One(), One())
