"""The clients that people use, unmodified and with their defaults, at the whole stack: no mock, no adapter.

Each has a program of its own beside this file, written as its own manual would have it, which goes through its main
flows in an environment with the client and none of ours (``requirements/clients*.txt``,
``javascript/package-lock.json``). It can be run by hand: with ``OPENAI_BASE_URL`` and the rest of `conftest._access`
set, and the names of flows if not all.

The model that comes with Cloister writes little that makes sense, and another on another processor, so that what is
looked at is never its words. What must be whole is bounded: a call and a structure by their schemas, which have no free
text, and the answer of a client that minds when one is cut off by a talk that leaves nothing to say but what was said.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future

import httpx
import pytest

from tests.clients.conftest import HERE, Done
from tests.e2e.conftest import CHAT_MODEL
from tests.support.stack import Stack

_LONGEST_FIRST = ("with_langchain.py", "with_ai_sdk.mjs", "with_openai_agents.py", "with_pydantic_ai.py")
PROGRAMS = sorted((path.name for path in HERE.glob("*/with_*")), key=lambda name: (name not in _LONGEST_FIRST, name))


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_streams_that_clients_read_here_have_comments(stack: Stack, path: str) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]} if path.startswith("chat") else {"input": "Hi"}
    headers = {"authorization": f"Bearer {stack.api_key}"}
    body = {"model": CHAT_MODEL, "stream": True, **asked}
    with httpx.stream("POST", f"{stack.base_url}/{path}", headers=headers, json=body, timeout=300) as answer:
        assert any(line.startswith(":") for line in answer.iter_lines())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_client_does_its_flows(programs: Mapping[str, "Future[Done]"], program: str) -> None:
    done = programs[program].result()
    flows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [f"{flow['flow']}:\n{flow['error']}" for flow in flows if flow["error"]]
    assert not failed, "\n\n".join(failed)
    assert flows, done.stderr
    assert done.returncode == 0, done.stderr
