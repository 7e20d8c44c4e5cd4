"""Regular expressions that meet untrusted text take time that grows with it, not with its square or worse.

A repetition within a repetition is what makes backtracking explode: ``(a*b*)*`` tries every way to share out the same
characters. So none is allowed in any pattern of the services, whatever it is for. (Repetitions with a bound of a few
are multiplied out here and do no harm.) What a pattern does when it is *searched* for, from every place anew, no rule
of this kind can see; the scaling tests beside the code do that.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sre: Any = importlib.import_module("re._parser")  # what `re` itself parses patterns with; typeshed does not know it

SERVICES = Path(__file__).parents[3] / "services"
_FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
_FEW = 64
"""Repetitions that are harmless whatever is in them."""


def patterns(module: Path) -> Iterator[tuple[int, str | bytes]]:
    """Line and pattern of every regular expression in a module's source."""
    tree = ast.parse(module.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FUNCTIONS:
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                yield node.lineno, literal(node.args[0], module)
        elif isinstance(node, ast.keyword) and node.arg == "pattern":  # pydantic's
            yield node.value.lineno, literal(node.value, module)


def literal(node: ast.expr, module: Path) -> str | bytes:
    """The value of the expression, which may use the constants of its module."""
    if isinstance(node, ast.Constant):
        return node.value  # type: ignore[return-value] # a pattern is a string or bytes
    names: dict[str, Any] = {}
    if any(isinstance(part, ast.Name) for part in ast.walk(node)):
        package = module.relative_to(SERVICES).with_suffix("").parts[1:]
        names = dict(vars(importlib.import_module(".".join(package))))
    names |= {"marks": "\u0300\u0301"}  # a local of `parsing.text`: every combining character
    return eval(compile(ast.Expression(node), str(module), "eval"), names)  # type: ignore[no-any-return]


def repeats_within_repeats(items: Any, outer: bool = False) -> bool:
    """Whether an unbounded repetition stands inside another one."""
    for operation, argument in items:
        inner = outer
        if operation in {sre.MAX_REPEAT, sre.MIN_REPEAT}:
            unbounded = argument[1] > _FEW
            if unbounded and outer:
                return True
            inner = outer or unbounded
        if any(repeats_within_repeats(part, inner) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, sre.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _parts(part)


FOUND = [
    pytest.param(pattern, id=f"{module.relative_to(SERVICES)}:{line}")
    for module in sorted(SERVICES.rglob("cloister_*/**/*.py"))
    for line, pattern in patterns(module)
]


def test_the_patterns_were_found() -> None:
    assert len(FOUND) > 30


@pytest.mark.parametrize("pattern", FOUND)
def test_no_repetition_stands_within_another(pattern: str | bytes) -> None:
    assert not repeats_within_repeats(sre.parse(pattern))


@pytest.mark.parametrize(
    ("pattern", "explodes"),
    [
        (rb"\A\s*(<!--.*?-->\s*)*(<html)", True),
        (r"(a+)+b", True),
        (r"(?:x|(?:y*z)*)*", True),
        (r"(?=(?:a*)*)b", True),
        (r"a+b+c*", False),
        (r"\[(\d(?:\s?,\s?\d){0,7})\]", False),
    ],
)
def test_the_rule_knows_what_explodes(pattern: str | bytes, explodes: bool) -> None:
    assert repeats_within_repeats(sre.parse(pattern)) is explodes
