"""What a JSON schema for structured answers may be: the one place for its bounds, for the gateway and the llm pod.

A schema becomes a grammar, and the grammar is compiled in the pod that serves everybody: what a schema may cost is
bounded before it goes there. The bounds are those that OpenAI publishes ("Structured Outputs", supported schemas):
5,000 properties, 10 levels of objects, 1,000 values of enumerations, 120,000 characters in names and values, and
15,000 characters in one enumeration of more than 250 values. Ours are those of the JSON itself, of counts
(``maxItems``), of what may come at one place of the answer, and that a ``$ref`` leads somewhere inside the schema and
not back to itself without a step into a value: such a schema says nothing, and a compiler follows it for ever.

What of JSON Schema a compiler knows is not decided here: the pod says it, by keyword.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

__all__ = ["SchemaError", "check_json_schema"]

MOST_PROPERTIES = 5_000
MOST_LEVELS = 10
"""Objects inside each other, the outermost included."""

MOST_ENUM_VALUES = 1_000
MOST_NAME_CHARACTERS = 120_000
"""All names of properties and definitions and all values of ``enum`` and ``const`` together."""

LONG_ENUM_VALUES = 250
MOST_LONG_ENUM_CHARACTERS = 15_000

MOST_JSON_VALUES = 50_000
"""Ten for each property there may be."""

MOST_CHARACTERS = 1_000_000
"""All strings, descriptions included."""

MOST_JSON_LEVELS = 56
"""vLLM refuses 64; what it puts around the parameters of tools takes some of them."""

MOST_ALTERNATIVES = 300
"""Properties that are not required, and branches of ``anyOf`` and the like, that may come at one place of the answer:
llguidance follows 2,000 possibilities at a time, of which one of these takes up to six. (OpenAI has all required.)"""

MOST_SUBSCHEMAS = 10_000
MOST_ITEMS = 10_000
MOST_LENGTH = 1_000_000

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords that hold schemas by name."""

_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords that hold a list of schemas."""

_SINGLE = (
    *("items", "additionalItems", "unevaluatedItems", "contains", "additionalProperties", "unevaluatedProperties"),
    *("propertyNames", "not", "if", "then", "else", "contentSchema"),
)
"""Keywords that hold one schema; ``items`` was a list before draft 2020-12."""

_SAME_VALUE = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas"})
"""Keywords whose schemas speak of the same value as the one they stand in, as ``$ref`` does."""

_COUNTS = {
    **dict.fromkeys(("minItems", "maxItems", "minContains", "maxContains"), MOST_ITEMS),
    **dict.fromkeys(("minProperties", "maxProperties"), MOST_ITEMS),
    **dict.fromkeys(("minLength", "maxLength"), MOST_LENGTH),
}
_LONGEST_NAME_SHOWN = 64


class SchemaError(ValueError):
    """A schema that is over a bound or leads nowhere. The message names the place, as a JSON pointer, and the bound."""


class _Place(NamedTuple):
    """Where in the schema something stands: as links, since names may be long and places many."""

    above: "_Place | None"
    name: str | int

    def __str__(self) -> str:
        names: list[str] = []
        place: _Place | None = self
        while place is not None:
            name = str(place.name)
            names.append(name if len(name) <= _LONGEST_NAME_SHOWN else f"{name[:_LONGEST_NAME_SHOWN]}…")
            place = place.above
        return "/".join(reversed(names))


_ROOT = _Place(None, "#")


def check_json_schema(schema: object) -> None:
    """Checks a schema as it was decoded from JSON. Takes time in proportion to its size, up to the bounds.

    Raises:
        SchemaError: It is over a bound, holds something else where a schema must stand, or its references lead nowhere.
    """
    _check_json(schema)
    _Walk(schema).check()


def _check_json(value: object) -> None:
    """The bounds of the JSON, whatever it says: everything after this may follow the whole of it."""
    values = characters = 0
    todo: list[tuple[object, _Place, int]] = [(value, _ROOT, 1)]
    while todo:
        value, place, level = todo.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict | list):
            if level > MOST_JSON_LEVELS:
                raise _over(place, "is nested", level, MOST_JSON_LEVELS, "levels deep")
            if values + len(todo) + len(value) > MOST_JSON_VALUES:
                raise SchemaError(f"at '{place}' it passes the limit of {MOST_JSON_VALUES:,} JSON values in all")
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in entries:
                characters += len(name) if isinstance(name, str) else 0
                todo.append((inner, _Place(place, name), level + 1))
        if characters > MOST_CHARACTERS:
            raise SchemaError(f"at '{place}' it passes the limit of {MOST_CHARACTERS:,} characters in all")


class _Walk:
    """One way through all schemas in a schema, counting."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._properties = self._enum_values = self._characters = self._schemas = 0
        self._same_value: dict[int, list[int]] = {}
        """By the identity of a schema: the schemas that it applies to the same value."""
        self._optional: dict[int, int] = {}
        """By the identity of a schema: how many of its own properties may be left out."""
        self._places: dict[int, _Place] = {}
        self._todo: list[tuple[object, _Place, int]] = [(root, _ROOT, 0)]

    def check(self) -> None:
        """Visits every schema once, and those that references lead to."""
        while self._todo:
            schema, place, level = self._todo.pop()
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                raise SchemaError(f"'{place}' must be a schema: an object, true or false")
            if id(schema) in self._places:
                continue
            self._places[id(schema)] = place
            self._schemas = self._more(place, self._schemas, 1, MOST_SUBSCHEMAS, "schemas")
            if isinstance(schema.get("properties"), dict):
                level += 1
                if level > MOST_LEVELS:
                    raise _over(place, "is object number", level, MOST_LEVELS, "of those inside each other")
            self._values(schema, place)
            self._counts(schema, place)
            self._optional[id(schema)] = _optional(schema)
            same_value = self._same_value.setdefault(id(schema), [])
            for keyword, inner, where in _subschemas(schema, place):
                self._todo.append((inner, where, 0 if keyword in {"$defs", "definitions"} else level))
                if keyword in _SAME_VALUE:
                    same_value.append(id(inner))
            if "$ref" in schema:
                target = self._target(schema["$ref"], _Place(place, "$ref"))
                self._todo.append((target, place, 0))
                same_value.append(id(target))
        self._follow_same_values()

    def _values(self, schema: Mapping[str, Any], place: _Place) -> None:
        """Counts what of the schema the grammar spells out: names and values."""
        for keyword in _NAMED:
            named = schema.get(keyword)
            if isinstance(named, dict):
                where = _Place(place, keyword)
                if keyword in {"properties", "patternProperties"}:
                    self._properties = self._more(where, self._properties, len(named), MOST_PROPERTIES, "properties")
                self._name(where, sum(map(len, named)))
        values = schema.get("enum")
        if isinstance(values, list):
            where = _Place(place, "enum")
            self._enum_values = self._more(where, self._enum_values, len(values), MOST_ENUM_VALUES, "values of 'enum'")
            characters = sum(map(_characters, values))
            if len(values) > LONG_ENUM_VALUES and characters > MOST_LONG_ENUM_CHARACTERS:
                raise SchemaError(
                    f"'{where}' has {characters:,} characters; an enumeration of more than {LONG_ENUM_VALUES} values "
                    f"may have {MOST_LONG_ENUM_CHARACTERS:,}"
                )
            self._name(where, characters)
        if "const" in schema:
            self._name(_Place(place, "const"), _characters(schema["const"]))

    def _name(self, place: _Place, characters: int) -> None:
        what = "characters of names and values"
        self._characters = self._more(place, self._characters, characters, MOST_NAME_CHARACTERS, what)

    @staticmethod
    def _more(place: _Place, before: int, more: int, most: int, what: str) -> int:
        if before + more > most:
            raise SchemaError(f"at '{place}' it passes the limit of {most:,} {what} in all")
        return before + more

    @staticmethod
    def _counts(schema: Mapping[str, Any], place: _Place) -> None:
        for keyword, most in _COUNTS.items():
            count = schema.get(keyword)
            if isinstance(count, int | float) and count > most:
                raise SchemaError(f"'{_Place(place, keyword)}' is over the limit of {most:,}")

    def _target(self, reference: object, place: _Place) -> object:
        """The schema that a reference leads to."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise SchemaError(f"'{place}' must lead to a place in the same schema, as '#' and '#/$defs/NAME' do")
        target = self._root
        for name in reference.split("/")[1:]:
            name = unquote(name).replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and name in target:
                target = target[name]
            elif isinstance(target, list) and name.isdecimal() and int(name[:9]) < len(target):
                target = target[int(name)]
            else:
                raise SchemaError(f"'{place}' leads to nothing in this schema")
        return target

    def _follow_same_values(self) -> None:
        """Refuses a schema that applies itself to the same value, over whatever keywords, and too many alternatives."""
        alternatives: dict[int, int] = {}
        for start in self._same_value:
            on_the_way: dict[int, Iterator[int]] = {}
            node: int | None = start
            while node is not None:
                if node not in alternatives:
                    on_the_way.setdefault(node, iter(self._same_value.get(node, ())))
                    after = next(on_the_way[node], None)
                    if after in on_the_way:
                        raise SchemaError(f"'{self._places[node]}' leads back to itself without a step into a value")
                    if after is not None:
                        node = after
                        continue
                    alternatives[node] = self._alternatives(node, alternatives)
                    del on_the_way[node]
                node = next(reversed(on_the_way), None)

    def _alternatives(self, node: int, known: Mapping[int, int]) -> int:
        inner = self._same_value.get(node, ())
        count = self._optional.get(node, 0) + sum(max(1, known[one]) for one in inner)
        if count > MOST_ALTERNATIVES:
            raise SchemaError(
                f"at '{self._places[node]}' {count:,} properties that are not required, or branches, may come; "
                f"{MOST_ALTERNATIVES} are allowed"
            )
        return count


def _optional(schema: Mapping[str, Any]) -> int:
    named, required = schema.get("properties"), schema.get("required")
    if not isinstance(named, dict):
        return 0
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return len(named.keys() - needed)


def _subschemas(schema: Mapping[str, Any], place: _Place) -> Iterator[tuple[str, object, _Place]]:
    """The schemas that stand in a schema, with the keyword they stand under."""
    for keyword in _NAMED:
        named = schema.get(keyword)
        if isinstance(named, dict):
            for name, inner in named.items():
                yield keyword, inner, _Place(_Place(place, keyword), name)
        elif named is not None:
            raise SchemaError(f"'{_Place(place, keyword)}' must be an object of schemas")
    for keyword in (*_LISTED, *_SINGLE):
        inner = schema.get(keyword)
        if isinstance(inner, list) and (keyword in _LISTED or keyword == "items"):
            for index, one in enumerate(inner):
                yield keyword, one, _Place(_Place(place, keyword), index)
        elif keyword in _LISTED and inner is not None:
            raise SchemaError(f"'{_Place(place, keyword)}' must be a list of schemas")
        elif keyword in schema:
            yield keyword, inner, _Place(place, keyword)


def _characters(value: object) -> int:
    """The characters of a value as a grammar spells it out."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _characters(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(_characters, value))
    return len(str(value))


def _over(place: _Place, what: str, found: int, most: int, unit: str) -> SchemaError:
    return SchemaError(f"'{place}' {what} {found:,} {unit}; {most:,} are allowed")
