"""Schemas are tried with vLLM's own compiler, in a process that may hang, crash and be slow."""

import asyncio
import json
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_llm.guard.compiler import Compiler
from cloister_llm.guard.schemas import NamedSchema

from tests.support.llm import vllm_python

TEXT = {"type": "string"}


@pytest.fixture
async def compiler() -> AsyncIterator[Compiler]:
    made = Compiler(20.0, interpreter=vllm_python())  # how fast it is, is not asked on a busy machine
    yield made
    made.close()


def of(*schemas: Any) -> list[NamedSchema]:
    return [NamedSchema(f"field[{index}]", schema) for index, schema in enumerate(schemas)]


def properties(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"property_{number}": {"type": "integer"} for number in range(count)}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"$defs": {"a": {"anyOf": [{"items": {"$ref": "#/$defs/a"}}, TEXT]}}, "$ref": "#/$defs/a"},
        {"type": "string", "pattern": r"^\p{L}+$"},
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "^.{0,100000}$"},
        {"type": "object", "properties": {"a": True, "b": False}},
        {"type": "array", "items": False},
        {"type": "string", "format": "date-time", "maxLength": 1_000_000},
        {"enum": [f"value {number}" for number in range(1000)]},
        properties(300),
    ],
)
async def test_what_the_compiler_knows_is_taken(compiler: Compiler, schema: Any) -> None:
    await compiler.check(of(schema), tenant="t")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string", "not": {"const": "a"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "look-around"),
        ({"type": "string", "pattern": "(["}, "unclosed"),
        ({"type": "string", "format": "colour"}, "colour"),
        ({"type": "strin"}, "strin"),
        ({"type": "integer", "maximum": 10**400}, "number out of range"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "unsatisfiable"),
    ],
)
async def test_what_it_does_not_know_is_refused_by_name(compiler: Compiler, schema: Any, reason: str) -> None:
    for _ in range(2):  # The second time it is remembered.
        with pytest.raises(InvalidRequest, match=reason) as refused:
            await compiler.check(of(TEXT, schema), tenant="t")
        assert refused.value.param in {"field[0]", "field[1]"}


async def test_what_takes_too_long_is_refused_with_the_bound() -> None:
    compiler = Compiler(0.05, interpreter=vllm_python())
    with pytest.raises(InvalidRequest, match=r"more than 0\.05 s"):
        await compiler.check(of(properties(5000)), tenant="t")
    compiler.close()


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """An interpreter that gets ready and then does what the first schema says, in Python."""
    program = tmp_path / "stub"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, signal, sys, time\nschemas = json.load(sys.stdin)['schemas']\n"
        "print('ready', flush=True)\nexec(schemas[0]['do'])\nprint('null')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "sys.exit(1)"])
async def test_a_compiler_that_dies_of_a_schema_takes_nothing_with_it(stub: Path, death: str) -> None:
    compiler = Compiler(1.0, interpreter=str(stub))
    with pytest.raises(InvalidRequest):
        await compiler.check(of({"do": death}), tenant="t")
    await compiler.check(of({"do": "pass"}), tenant="t")
    compiler.close()


async def test_a_tenant_that_sends_slow_schemas_waits_for_itself(stub: Path) -> None:
    compiler = Compiler(1.0, interpreter=str(stub))
    slow = [
        asyncio.ensure_future(compiler.check(of({"do": f"time.sleep(0.3) # {number}"}), tenant="loud"))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    await compiler.check(of({"do": "pass"}), tenant="quiet")
    assert sum(one.done() for one in slow) < 10, "it waited behind the other tenant's"
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    compiler.close()


async def test_what_compiled_once_is_not_tried_again(stub: Path, tmp_path: Path) -> None:
    compiler = Compiler(1.0, interpreter=str(stub))
    schema = {"do": f"open({json.dumps(str(tmp_path / 'tries'))}, 'a').write('x')"}
    for tenant in ("one", "other"):
        await compiler.check(of(schema), tenant=tenant)
    assert (tmp_path / "tries").read_text() == "x"
    compiler.close()


async def test_a_trial_that_cannot_start_is_the_pods_fault(tmp_path: Path) -> None:
    for interpreter in (str(tmp_path / "none"), "/bin/false"):
        compiler = Compiler(1.0, interpreter=interpreter)
        with pytest.raises(Unavailable):
            await compiler.check(of(TEXT), tenant="t")
        compiler.close()
