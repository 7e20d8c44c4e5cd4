"""Writes `facts.json`: what OpenAI's published schema says of each object and event that we serve. Run by hand.

    python -m tests.support.openai_schema.extract NODE_MODULES/openai

Both SDKs are generated from the published OpenAPI document, and each tells what the other loses. The Python package
has the types and enums of every field, and is what this environment pins; but a field that may be missing and one that
may be null are both ``Optional`` in it. The TypeScript declarations of the npm package, whose folder is the argument,
tell them apart. Where the two disagree on a type, the Python package is followed. A field that only one of them has
may be missing; the types are known of those that the declarations, whose release is older, do not have, and they may be
null.

Only facts go into the table: names, which are required, types, values of enums. Of the unions of tools, items and
events only those are kept that a gateway of ours can send: another one is a fault that the check then finds.
"""

import importlib
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import openai
from openai import BaseModel

__all__ = ["FACTS", "main"]

FACTS = Path(__file__).with_name("facts.json")

_ROOTS = {
    "Response": "responses.Response",
    "ResponseStreamEvent": "responses.ResponseStreamEvent",
    "ResponseInputItem": "responses.response_item.ResponseItem",
    "ConversationItem": "conversations.ConversationItem",
    "Conversation": "conversations.Conversation",
    "ConversationDeleted": "conversations.ConversationDeletedResource",
    "ChatCompletion": "chat.ChatCompletion",
    "ChatCompletionChunk": "chat.ChatCompletionChunk",
    "Completion": "Completion",
    "Model": "Model",
    "CreateEmbeddingResponse": "CreateEmbeddingResponse",
    "FileObject": "FileObject",
    "FileDeleted": "FileDeleted",
    "Upload": "Upload",
    "UploadPart": "uploads.UploadPart",
    "VectorStore": "VectorStore",
    "VectorStoreDeleted": "VectorStoreDeleted",
    "VectorStoreFile": "vector_stores.VectorStoreFile",
    "VectorStoreFileDeleted": "vector_stores.VectorStoreFileDeleted",
    "VectorStoreFileBatch": "vector_stores.VectorStoreFileBatch",
    "VectorStoreSearchResponse": "VectorStoreSearchResponse",
    "FileContentResponse": "vector_stores.FileContentResponse",
    "ErrorObject": "shared.ErrorObject",
    "ResponseCompactionItem": "responses.ResponseCompactionItem",
    "ResponseInputMessageItem": "responses.ResponseInputMessageItem",
    "ResponseUsage": "responses.ResponseUsage",
    "ResponseWsError": "responses.responses_server_event.ResponseWsError",
    "AdminAPIKeyCreateResponse": "admin.organization.AdminAPIKeyCreateResponse",
    "ServiceAccountCreateResponse": "admin.organization.projects.ServiceAccountCreateResponse",
    "AdminAPIKey": "admin.organization.AdminAPIKey",
    "Project": "admin.organization.Project",
    "ProjectServiceAccount": "admin.organization.projects.ProjectServiceAccount",
    "ProjectAPIKey": "admin.organization.projects.ProjectAPIKey",
    "ProjectRateLimit": "admin.organization.projects.ProjectRateLimit",
    "ProjectSpendLimit": "admin.organization.projects.ProjectSpendLimit",
    "OrganizationSpendLimit": "admin.organization.OrganizationSpendLimit",
    "Batch": "Batch",
    "UsageCostsResponse": "admin.organization.UsageCostsResponse",
}
"""Where the Python package has what our routes answer with."""

_SERVED = re.compile(
    r"Response(Created|Queued|InProgress|Completed|Failed|Incomplete|Error|Text\w+|ContentPart\w+|OutputItem\w+"
    r"|OutputTextAnnotation\w+|Refusal\w+|FunctionCallArguments\w+|FileSearchCall\w+|Reasoning\w+)Event"
)
_SERVED_TYPES = {
    *("message", "file_search_call", "function_call", "function_call_output", "reasoning", "item_reference"),
    "compaction",
    *("function", "file_search", "allowed_tools"),
}

_NOT_SERVED = {
    *("access_programs", "audio", "caller", "image", "input_transformations", "misalignment", "moderation"),
    *("obfuscation", "prompt_cache_breakpoint", "prompt_cache_diagnostics", "prompt_cache_options", "tool_usage"),
}
"""Fields of what we do not do: they are missing, or null where they may be."""

_OF_THE_SDK = {"output_text"}
"""Fields that the SDK puts into an object by itself."""


class _Declared(typing.NamedTuple):
    """What a declaration says of a field."""

    required: bool
    null: bool


Declarations = dict[str, dict[str, _Declared]]


def declarations(package: Path) -> Declarations:
    """Of each interface, under its name with those of its namespaces before it, what it says of its fields."""
    found: Declarations = {}
    for path in sorted((package / "resources").rglob("*.d.ts")):
        _read(path.read_text(encoding="utf-8"), found)
    return found


def _read(text: str, found: Declarations) -> None:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    names: list[str] = []
    kinds: list[str] = []
    field = ""
    for line in (line.strip() for line in text.splitlines()):
        opened = re.match(r"(?:export )?(?:declare )?(namespace|interface) (\w+)", line)
        if field:
            # A field whose type is an object written out.
            field += line
            if line.startswith("}"):
                _note(field, names, found)
                field = ""
        elif opened and line.endswith("{"):
            kinds.append(opened[1])
            names.append(opened[2])
            if opened[1] == "interface":
                found.setdefault("".join(names), {})
        elif line == "}" and names:
            kinds.pop()
            names.pop()
        elif kinds and kinds[-1] == "interface" and re.match(r"\w+\??: ", line):
            if line.endswith("{"):
                field = line
            else:
                _note(line, names, found)


def _note(line: str, names: list[str], found: Declarations) -> None:
    declared = re.match(r"(\w+)(\??): (.*);$", line)
    if declared:
        null = bool(re.search(r"(^|\| )(null|unknown)$", declared[3]))
        found["".join(names)][declared[1]] = _Declared(required=not declared[2], null=null)


class _Table:
    """The facts, as they are found from the roots on."""

    def __init__(self, declared: Declarations) -> None:
        self._declared = declared
        self.objects: dict[str, Any] = {}
        self.unknown: list[str] = []

    def fact(self, kind: Any) -> Any:
        """The facts of a type: a name of JSON's types, an enum, a list, a map, one of several, or an object's name."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is typing.Annotated:
            return self.fact(_bare(kind))
        if origin in {typing.Union, types.UnionType}:
            return _one_of([self.fact(argument) for argument in _served(arguments)])
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is list:
            return {"list": self.fact(arguments[0])}
        if origin is dict:
            return {"map": self.fact(arguments[1])}
        plain = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
        if kind in plain:
            return plain[kind]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return {"object": self._object(kind)}
        return "any"

    def _object(self, model: type[BaseModel]) -> str:
        name = _name(model)
        if name not in self.objects:
            self.objects[name] = {}
            required: dict[str, Any] = {}
            optional: dict[str, Any] = {}
            declared = self._declared.get(name)
            if declared is None:
                self.unknown.append(name)
            for python_name, field in model.model_fields.items():
                field_name = field.alias or python_name
                said = (declared or {}).get(field_name)
                may_be_missing = not field.is_required() if said is None else not said.required
                may_be_null = said is None or said.null
                if field_name in _NOT_SERVED:
                    if may_be_null:
                        optional[field_name] = "null"
                    continue
                fact = self.fact(field.annotation)
                (optional if may_be_missing else required)[field_name] = fact if may_be_null else _without_null(fact)
            known = {field.alias or name for name, field in model.model_fields.items()}
            optional |= dict.fromkeys(sorted((declared or {}).keys() - known - _OF_THE_SDK), "any")
            self.objects[name] = {"required": required, "optional": optional}
        return name


def _name(model: type[BaseModel]) -> str:
    """The name with that of the object it belongs to, as the declarations have it."""
    module = importlib.import_module(model.__module__)
    names = getattr(module, "__all__", [model.__name__])
    owner = names[0]
    return model.__name__ if model.__name__.startswith(owner) or owner == model.__name__ else owner + model.__name__


def _served(members: tuple[Any, ...]) -> list[Any]:
    """The members of a union that can be sent: of events, tools and items only ours, of all else each."""
    types_of = [_types(member) for member in members]
    if any(values & _SERVED_TYPES for values in types_of):
        return [one for one, values in zip(members, types_of, strict=True) if not values or values & _SERVED_TYPES]
    return [one for one, values in zip(members, types_of, strict=True) if not values or not _is_foreign_event(one)]


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is typing.Annotated else kind


def _types(kind: Any) -> set[str]:
    """What stands in ``type`` of the objects of that model; nothing where it is none, or has none."""
    kind = _bare(kind)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or "type" not in kind.model_fields:
        return set()
    return {value for value in get_args(kind.model_fields["type"].annotation) if isinstance(value, str)}


def _is_foreign_event(kind: Any) -> bool:
    name = _bare(kind).__name__
    return name.endswith("Event") and _SERVED.fullmatch(name) is None


def _one_of(facts: list[Any]) -> Any:
    flat: list[Any] = []
    for fact in facts:
        flat += fact["one_of"] if isinstance(fact, dict) and "one_of" in fact else [fact]
    unique = [fact for place, fact in enumerate(flat) if fact not in flat[:place]]
    if "string" in unique:
        # Names of OpenAI's models, beside any other.
        unique = [fact for fact in unique if not (isinstance(fact, dict) and "enum" in fact)]
    return unique[0] if len(unique) == 1 else {"one_of": unique}


def _without_null(fact: Any) -> Any:
    if isinstance(fact, dict) and "one_of" in fact:
        return _one_of([part for part in fact["one_of"] if part != "null"])
    return fact


def _find(path: str) -> Any:
    *modules, name = path.split(".")
    return getattr(importlib.import_module(".".join(["openai.types", *modules])), name)


def main() -> None:
    """Writes the table; says which objects the declarations do not know."""
    package = Path(sys.argv[1])
    table = _Table(declarations(package))
    roots = {name: table.fact(_find(path)) for name, path in _ROOTS.items()}
    versions = {"python": openai.__version__, "npm": json.loads((package / "package.json").read_text())["version"]}
    objects = dict(sorted(table.objects.items()))
    lines = [f"{json.dumps(name)}: {json.dumps(fact)}" for name, fact in objects.items()]
    head = f'"versions": {json.dumps(versions)},\n"roots": {json.dumps(roots)},\n"objects": '
    text = "{" + head + "{\n" + ",\n".join(lines) + "\n}}\n"
    FACTS.write_text(text, encoding="utf-8")
    print(f"{len(objects)} objects, {len(text)} bytes; not in the declarations: {', '.join(table.unknown) or 'none'}")


if __name__ == "__main__":
    main()
