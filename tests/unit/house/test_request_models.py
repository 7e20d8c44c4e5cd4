"""A bad body costs one error: every list and map of every request model stops at its first bad element."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import cloister_common
import cloister_gateway
import cloister_retriever
import pytest
from cloister_common.wire.requests import RequestModel

from tests.support.routes import bodies


def _models() -> list[type[RequestModel]]:
    for package in (cloister_common, cloister_gateway, cloister_retriever):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(("schemas", "wire.embeddings", "wire.rerank", "wire.filters")):
                importlib.import_module(module.name)

    def below(cls: type[RequestModel]) -> Iterator[type[RequestModel]]:
        for child in cls.__subclasses__():
            yield child
            yield from below(child)

    return sorted({cls for cls in below(RequestModel) if cls.__module__.startswith("cloister_")}, key=repr)


def _collections(schema: Any) -> Iterator[dict[str, Any]]:
    """Every list and map in a core schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "set", "frozenset", "tuple", "dict"):
            yield schema
        for value in schema.values():
            yield from _collections(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _collections(value)


def _can_fail(schema: dict[str, Any]) -> bool:
    """Whether it can have a bad element: a map of any names to anything cannot."""
    inner = [schema.get(key, {"type": "any"}) for key in ("items_schema", "keys_schema", "values_schema")]
    return any(part["type"] != "any" and part != {"type": "str"} for part in inner) or schema["type"] != "dict"


@pytest.mark.parametrize("model", _models(), ids=lambda cls: cls.__name__)
def test_every_list_and_map_stops_at_its_first_bad_element(model: type[RequestModel]) -> None:
    found = list(_collections(model.__pydantic_core_schema__))
    assert [schema for schema in found if _can_fail(schema) and not schema.get("fail_fast")] == []


def test_every_body_of_a_route_is_such_a_model() -> None:
    found = bodies()
    for path, arms in found.items():
        assert arms <= set(_models()), path
    assert len(found) > 12
