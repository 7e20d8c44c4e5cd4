"""The settings of a service as a list: every key with what it takes, its default and its sentence.

All of it is read from the JSON schema that pydantic makes of a settings class, so the classes are the only place where
a setting is described.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloister_common.settings import ServiceSettings
from pydantic import BaseModel

__all__ = ["Setting", "Undescribed", "described", "resolved", "settings_of"]

_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


class Undescribed(Exception):
    """A setting without a sentence. The message names it."""


@dataclass(frozen=True)
class Setting:
    """One key of a settings file.

    Attributes:
        path: Its names from the top, with dots; ``<name>`` where the operator chooses the name.
        takes: The values it may have; empty for a section.
        default: What holds where it is left out, as an operator reads it; empty for a section that is made of its keys.
        sentence: What it is; empty where nobody has written it.
        section: Whether it is a map of further settings.
    """

    path: str
    takes: str
    default: str
    sentence: str
    section: bool


def settings_of(cls: type[BaseModel]) -> list[Setting]:
    """Every setting of ``cls`` in the order of the class, a section before its keys.

    What every service has in `server` and `log` is left out of those of one service.
    """
    schema = cls.model_json_schema()
    service = issubclass(cls, ServiceSettings) and cls is not ServiceSettings
    shared = {item.path for item in settings_of(ServiceSettings)} if service else set()
    return [item for item in _below(schema, schema["$defs"], "") if item.path not in shared]


def described(cls: type[BaseModel]) -> list[Setting]:
    """As `settings_of`.

    Raises:
        Undescribed: Some have no sentence.
    """
    settings = settings_of(cls)
    missing = [setting.path for setting in settings if not setting.sentence]
    if missing:
        raise Undescribed(f"{cls.__name__}: give these settings a description: {', '.join(missing)}")
    return settings


def resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a schema without references and without the null of what may be left out.

    What stands beside a reference, such as the description of the very field, comes before what it refers to. Where
    null is allowed, ``nullable`` is set.
    """
    part = dict(schema)
    choices = part.pop("anyOf", [])
    real = [choice for choice in choices if choice != {"type": "null"}]
    if len(real) == 1:
        part = {**resolved(real[0], definitions), **part, "nullable": True}
    elif choices:
        part["anyOf"] = choices
    name = part.pop("$ref", "").rpartition("/")[2]
    return {**resolved(definitions[name], definitions), **part} if name else part


def _below(schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[Setting]:
    required = set(schema.get("required", ()))
    for name, raw in schema["properties"].items():
        part = resolved(raw, definitions)
        path = f"{prefix}{name}"
        values = part.get("additionalProperties")
        named = resolved(values, definitions) if isinstance(values, dict) else {}
        inner, inner_prefix = (part, f"{path}.") if "properties" in part else (named, f"{path}.<name>.")
        section = "properties" in inner
        default = "required" if name in required else _written(name, part.get("default"))
        if section and inner is part and not part.get("nullable"):
            default = ""
        yield Setting(path, "" if section else _takes(name, part), default, _sentence(part), section)
        if section:
            yield from _below(inner, definitions, inner_prefix)


def _sentence(part: Mapping[str, Any]) -> str:
    """The description; of a class's docstring its first paragraph."""
    return " ".join(part.get("description", "").partition("\n\n")[0].replace("``", "`").split())


def _takes(name: str, part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    kind = part.get("type")
    if kind in {"integer", "number"}:
        bounds = [
            f"{words} {_number(name, part[bound])}"
            for bound, words in (
                ("minimum", "from"),
                ("exclusiveMinimum", "over"),
                ("maximum", "to"),
                ("exclusiveMaximum", "under"),
            )
            if bound in part
        ]
        return " ".join(["integer" if kind == "integer" else "number", *bounds])
    if kind == "boolean":
        return "`true`, `false`"
    return {"array": "list", "object": "map"}.get(kind or "", "path" if part.get("format") == "path" else "text")


def _written(name: str, default: Any) -> str:
    if default is None or default in ({}, []):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return _number(name, default) if isinstance(default, int | float) else f"`{default}`"


def _number(name: str, value: float) -> str:
    """A number as people read it, one of bytes in the largest unit that it is a multiple of."""
    for unit, size in _UNITS if "bytes" in name and value else ():
        if value % size == 0:
            return f"{value // size:,.10g} {unit}"
    return f"{value:,.10g}"
