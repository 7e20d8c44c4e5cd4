"""Every route that has a JSON body reads it strictly."""

from cloister_common.bodies import JsonRoute
from cloister_gateway.app import ROUTERS
from fastapi.routing import APIRoute


def test_every_typed_body_is_read_strictly() -> None:
    typed = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute) and route.body_field]
    assert len(typed) > 8
    assert [route.path for route in typed if not isinstance(route, JsonRoute)] == []
