"""Routes get the services they ask for, by class."""

import pytest
from cloister_common.access import Services, provide, provided
from starlette.applications import Starlette
from starlette.requests import HTTPConnection


class Store:
    pass


class FolderStore(Store):
    pass


class Other:
    pass


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_route_gets_the_service_of_the_class_it_asks_for(kind: str) -> None:
    app, store = Starlette(), FolderStore()
    provide(app.state, Services(Other(), store))
    connection = HTTPConnection({"type": kind, "app": app})
    for wanted in (Store, FolderStore, Store):
        assert await provided(wanted)(connection) is store


def test_what_the_composition_forgot_is_named() -> None:
    with pytest.raises(LookupError, match="Other"):
        Services(Store()).get(Other)


def test_no_route_gets_one_of_two() -> None:
    with pytest.raises(LookupError, match="Store"):
        Services(Store(), FolderStore()).get(Store)
