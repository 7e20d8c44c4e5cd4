"""The table of values in the chart's README: one row for each value, with its default and its sentence.

The sentences are the comments in values.yaml, so there is one place to write them. ``make docs`` writes the table.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Value", "documented", "readme"]

CHART = Path(__file__).parent / "cloister"
BEGIN, END = "<!-- values: made by make docs -->", "<!-- end of values -->"

_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)$")
_WHOLE = {"resources", "peers", "ports"}
"""Values that are given as a whole and described once."""


@dataclass(frozen=True)
class Value:
    """A key of values.yaml.

    Attributes:
        path: Its names from the top.
        sentence: The comment above it, on one line; empty where there is none.
        default: What stands in the file.
        leaf: Whether it is a value, not a section of values.
    """

    path: tuple[str, ...]
    sentence: str
    default: Any
    leaf: bool


def documented(text: str) -> list[Value]:
    """Every key of a values file in its order, with the comment directly above it."""
    tree = yaml.safe_load(text)
    values: list[Value] = []
    path: list[str] = []
    comment: list[str] = []
    hidden: int | None = None
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("#").strip())
            continue
        match = _KEY.match(line)
        if match is None:
            comment = []
            continue
        depth = len(match["indent"]) // 2
        if hidden is not None and depth > hidden:
            continue
        path = [*path[:depth], match["name"]]
        default = tree
        for name in path:
            default = default[name]
        leaf = not isinstance(default, dict) or not default or match["name"] in _WHOLE
        hidden = depth if leaf else None
        values.append(Value(tuple(path), " ".join(comment), default, leaf))
        comment = []
    return values


def table(text: str) -> str:
    """The values as a Markdown table: sections as rows of their own, then their values."""
    rows = ["| Value | Default | What it is |", "| --- | --- | --- |"]
    for value in documented(text):
        name = f"`{'.'.join(value.path)}`"
        default = f"`{json.dumps(value.default, ensure_ascii=False)}`" if value.leaf else ""
        sentence = value.sentence.replace("|", "\\|")
        rows.append(f"| {name if value.leaf else f'**{name}**'} | {default} | {sentence} |")
    return "\n".join(rows)


def readme(chart: Path = CHART) -> str:
    """The README as it should be: what stands between the marks is replaced by the table."""
    text = (chart / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = table((chart / "values.yaml").read_text(encoding="utf-8"))
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
