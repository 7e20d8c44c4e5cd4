"""The schemas of the chart's `*.config` values, from the settings classes: a typo fails at `helm install`.

They are the last definitions of values.schema.json. A `config` is laid over what the chart renders, so nothing in it is
required, and what the chart renders itself may have any value here: templates/validate/ refuses it with its reason.
Sentences and defaults are left out: the READMEs of the services have them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cloister_common.settings import ServiceSettings
from cloister_embedder.settings import EmbedderSettings, ModelSettings
from cloister_gateway.settings import GatewaySettings
from cloister_llm.settings import LlmSettings
from cloister_retriever.settings import RetrieverSettings
from pydantic import BaseModel

from deploy.docs.settings import resolved

__all__ = ["owned_settings", "values_schema"]

CHART = Path(__file__).parents[1] / "helm" / "cloister"

_CONFIGS: Mapping[str, type[ServiceSettings]] = {
    "gatewayConfig": GatewaySettings,
    "embedderConfig": EmbedderSettings,
    "retrieverConfig": RetrieverSettings,
    "llmConfig": LlmSettings,
}
_MADE = "Made by `make docs` from the settings classes of the services, as are those below."
_FOLDER = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"}
"""The folder of a model's weights in its claim or image, of which the chart makes the setting `path`."""

_WORDS = {"title", "description", "default", "format", "nullable", "required", "$defs"}
"""What is for readers and editors, or cannot be asked of a part of the settings."""


def values_schema(chart: Path = CHART) -> str:
    """The text of values.schema.json as it should be: made definitions are replaced or added, at the end."""
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    made = _definitions(owned_settings(chart))
    kept = {name: part for name, part in schema["$defs"].items() if name not in made}
    return json.dumps({**schema, "$defs": {**kept, **made}}, indent=2) + "\n"


def owned_settings(chart: Path = CHART) -> set[str]:
    """The settings that the chart makes itself and refuses to be told, by their paths."""
    groups = yaml.safe_load((chart / "files" / "owned-settings.yaml").read_text(encoding="utf-8"))
    return {setting for group in groups for setting in group["settings"]}


def _definitions(owned: set[str]) -> dict[str, Any]:
    shared = _closed(ServiceSettings, owned)["properties"]["server"]
    made: dict[str, Any] = {"serverConfig": {"$comment": _MADE, **shared}}
    for name, cls in _CONFIGS.items():
        config = _closed(cls, owned)
        if config["properties"]["server"] == shared:
            config["properties"]["server"] = {"$ref": "#/$defs/serverConfig"}
        made[name] = config
    model = _closed(ModelSettings, set())
    properties = {"folder": _FOLDER, **model.pop("properties")}
    del properties["path"]
    made["embedderModel"] = {**model, "required": ["folder", "kind"], "properties": properties}
    return made


def _closed(cls: type[BaseModel], owned: set[str]) -> dict[str, Any]:
    schema = cls.model_json_schema()
    closed: dict[str, Any] = _plain(schema, schema.get("$defs", {}), owned, ())
    return closed


def _plain(raw: Mapping[str, Any], definitions: Mapping[str, Any], owned: set[str], path: Sequence[str]) -> Any:
    """A part of a class's schema without references, names and sentences, and open where the chart decides."""
    if ".".join(path) in owned:
        return {}
    schema = resolved(raw, definitions)
    plain = {word: schema[word] for word in sorted(schema, key=_rank) if word not in _WORDS}
    if schema.get("nullable"):
        plain["type"] = [schema["type"], "null"]
        if "enum" in plain:
            plain["enum"] = [*plain["enum"], None]
    for word, value in plain.items():
        if word == "properties":
            plain[word] = {name: _plain(part, definitions, owned, (*path, name)) for name, part in value.items()}
        elif word == "anyOf":
            plain[word] = [_plain(choice, definitions, owned, (*path, "*")) for choice in value]
        elif word in {"items", "additionalProperties", "propertyNames"} and isinstance(value, dict):
            plain[word] = _plain(value, definitions, owned, (*path, "*"))
    return plain


def _rank(word: str) -> int:
    """Where a word stands among those of its part, as the rest of the file has them: the type first, the parts last."""
    return {"type": 0, "maximum": 2, "exclusiveMaximum": 2, "properties": 3}.get(word, 1)
