"""A caller who hangs up in the middle of an answer, when the answer is so far, and not when some time is over."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

import httpx
from cloister_common.testing.llm import FakeLlm

from tests.support.waiting import wait_until

__all__ = ["ask_and_leave"]


def ask_and_leave(url: str, headers: Mapping[str, str], body: Mapping[str, Any], llm: FakeLlm) -> None:
    """Asks for a chat and hangs up while the pod holds it: streamed, once all has come that the pod has said.

    Args:
        url: Of the call, with its path.
        headers: What proves who asks.
        body: What is asked.
        llm: The pod; it holds its answer after some tokens, and has no other request.
    """
    address, said = httpx.URL(url), "".join(llm.answer[: llm.hold_after])
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    try:
        connection.request("POST", address.path, json.dumps(body), {**headers, "content-type": "application/json"})
        wait_until(lambda: llm.running == 1, what="the pod works on it")
        if body.get("stream"):
            answer, heard = connection.getresponse(), ""
            while heard != said:
                line = answer.readline()
                assert line, heard
                if line.startswith(b"data: {"):
                    heard += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            answer.close()
    finally:
        connection.close()
