"""Values of OpenAI's parameters at random, as the openai package types them: what any client may send."""

import collections.abc
import types
import typing
from collections.abc import Mapping
from typing import Any

import typing_extensions
from hypothesis import strategies as st

__all__ = ["bodies_of", "said"]

_DEEPEST = 4
_TEXTS = st.one_of(st.sampled_from(["", "a", "auto", "5", "Hello."]), st.text("abcé\n", max_size=6))
_NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([0, 1, 2, 3, 8, 20, 100, 0.0, 0.5, 1.0, 2.0]), st.floats(-3, 3), st.integers(-2, 200)
)
_ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), _NUMBERS, _TEXTS, st.just({}), st.just([]), st.just({"type": "object"})
)
_PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.one_of(st.sampled_from([0, 1, 2, 8, 20]), st.integers(-2, 200)),
    float: _NUMBERS,
    str: _TEXTS,
}


def bodies_of(params: Any, base: Mapping[str, Any], *, most: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of ``base`` and up to ``most`` parameters more, or others in its place; any may be null.

    Args:
        params: The TypedDict of the request.
        base: A body that works.
        most: How many parameters are drawn.
    """
    drawn = {
        name: st.one_of(st.none(), *[_values(annotation, 0)] * 3)
        for name, annotation in typing_extensions.get_type_hints(params, include_extras=True).items()
        if name != "model"
    }
    names = st.lists(st.sampled_from(sorted(drawn)), min_size=1, max_size=most, unique=True)
    more = names.flatmap(lambda chosen: st.fixed_dictionaries({name: drawn[name] for name in chosen}))
    return more.map(lambda fields: {**base, **fields})


def said(value: Any) -> bool:
    """Whether a value says anything: null and an empty list do not."""
    return value is not None and value != []


def _values(annotation: Any, depth: int) -> st.SearchStrategy[Any]:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if typing_extensions.is_typeddict(annotation):
        return _objects(annotation, depth)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated):
        return _values(arguments[0], depth)
    if origin == typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*[_values(argument, depth) for argument in arguments])
    if origin is dict:
        return st.dictionaries(_values(arguments[0], depth), _values(arguments[1], depth + 1), max_size=2)
    if isinstance(origin, type) and (
        issubclass(origin, collections.abc.Iterable) or typing_extensions.is_protocol(origin)
    ):
        return st.lists(_values(arguments[0], depth + 1), max_size=2)
    return _ANYTHING


def _objects(params: Any, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    hints = typing_extensions.get_type_hints(params, include_extras=True)
    required = {name for name, hint in hints.items() if typing.get_origin(hint) == typing_extensions.Required}
    fields = {name: _values(hint, depth + 1) for name, hint in hints.items() if depth < _DEEPEST or name in required}
    optional = {name: st.one_of(st.none(), values) for name, values in fields.items() if name not in required}
    return st.fixed_dictionaries({name: fields[name] for name in required & fields.keys()}, optional=optional)
