"""Pydantic's findings about a request, as one error of ours that names the field as its caller wrote it."""

import re
from typing import Any

from pydantic import ValidationError

from cloister_common.errors import InvalidRequest, UnsupportedParameter

__all__ = ["body_error", "field_path", "validation_error"]

_ARM_OF_UNION = re.compile(r"constrained-\w+|(literal|list|dict|function-\w+)?\[.*\]")
_LONGEST_PATH = 256
_NO_OBJECT = frozenset({"missing", "model_type", "model_attributes_type", "dict_type"})
"""Pydantic's words for a body that is missing or no object. Any other finding about the whole body is a rule."""


def validation_error(errors: Any) -> InvalidRequest:
    """Pydantic's findings as one error of ours: what is not supported by name first, then the first wrong field.

    A validator says that a value is not supported with a `PydanticCustomError` of type ``unsupported_value``, a
    union that none of its arms has the ``type`` of a value with ``unsupported_type``, and a request model with
    ``refused_field`` why it does not serve a parameter. The message never repeats the rejected value, which may be
    content. A rule between fields is told as the rule, with the field that breaks it where its type is
    ``rule_of_field``.
    """
    findings = list(errors)
    for finding in findings:
        if finding["type"] in {"unsupported_value", "unsupported_type"}:
            of_union = finding["type"] == "unsupported_type"
            param = field_path((*finding["loc"], "type") if of_union else finding["loc"])
            return UnsupportedParameter(param, f"Unsupported value for '{param}': {finding['msg']}.")
    for finding in findings:
        if finding["type"] == "refused_field":
            param = field_path((*finding["loc"], finding["ctx"]["field"]))
            return UnsupportedParameter(param, f"Unsupported parameter: '{param}'. {finding['msg']}")
        if finding["type"] == "extra_forbidden":
            return UnsupportedParameter(field_path(finding["loc"]))
        if finding["type"] == "unknown_field":
            return UnsupportedParameter(field_path((*finding["loc"], finding["ctx"]["field"])))
    first = findings[0]
    of_field = first["type"] == "rule_of_field"
    param = field_path((*first["loc"], first["ctx"]["field"]) if of_field else first["loc"])
    rule = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing" and param:
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if first["type"] == "json_invalid":
        return InvalidRequest("The body is not valid JSON.", code="invalid_json")
    if not param and first["type"] in _NO_OBJECT:
        return InvalidRequest("The body must be a JSON object, sent as application/json.", code="invalid_type")
    if not param:
        return InvalidRequest(f"The request contradicts itself or lacks something: {rule}.", code="invalid_value")
    return InvalidRequest(f"Invalid value for '{param}': {rule}.", param=param, code="invalid_value")


def body_error(error: ValidationError) -> InvalidRequest:
    """What a model of ours found in a body or message, as `validation_error` tells it."""
    # The place is told from inside of the body, where a field may have any name, "body" too.
    findings = error.errors(include_input=False, include_url=False)
    return validation_error({**finding, "loc": ("body", *finding["loc"])} for finding in findings)


def field_path(loc: tuple[int | str, ...]) -> str:
    """``("body", "input", 0, "content")`` → ``input[0].content``, without pydantic's names for the arms of a union.

    Names are the caller's, of any length and number: what is too long to help is cut.
    """
    path = ""
    for part in loc[1:] if loc and loc[0] in {"body", "query", "path", "header"} else loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _ARM_OF_UNION.fullmatch(part):
            path += f".{part}" if path else part
        if len(path) > _LONGEST_PATH:
            return path[:_LONGEST_PATH] + "…"
    return path
