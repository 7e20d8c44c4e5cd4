"""A llm pod that a test kills: the fake one in a process of its own, whose answers say what it was asked.

``python -m tests.support.llm_process --port N --token-file FILE`` serves `cloister_common.testing.llm.FakeLlm`. An
answer names the question, the questions before it, and a checksum of all that was said before: so whoever reads it can
tell which history the model was given.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvicorn
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port

from tests.support.process import Process

__all__ = ["CONTEXT_TOKENS", "LlmProcess", "answer_to"]

CONTEXT_TOKENS = 32_768
_TOKEN_SECONDS = 0.02


class LlmProcess(Process):
    """One pod.

    Args:
        folder: Where its log lies.
        token_file: The internal token that it asks for.
    """

    title = "the fake pod"

    def __init__(self, folder: Path, token_file: Path) -> None:
        super().__init__(folder / "log")
        self._port = free_port()
        self._token_file = token_file

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def command(self) -> Sequence[str]:
        arguments = ["--port", str(self._port), "--token-file", str(self._token_file)]
        return [sys.executable, "-m", "tests.support.llm_process", *arguments]

    def folder_of_work(self) -> Path:
        return Path(__file__).parents[2]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).is_success
        except httpx.TransportError:
            return False


def answer_to(messages: Sequence[tuple[str, str]]) -> list[str]:
    """The tokens of the answer to the last of ``messages``, each a role and a text."""
    *before, (_, question) = messages
    checksum = zlib.crc32(orjson.dumps(before))
    saw = [f" {text}" for role, text in before if role == "user"]
    return [f"re:{question}", " saw", *saw, f" sum:{checksum:08x}", " end"]


def _respond(body: dict[str, Any]) -> list[str]:
    messages = [(str(message["role"]), _text(message.get("content"))) for message in body["messages"]]
    if body.get("continue_final_message"):
        messages.pop()
    return answer_to(messages)


def _text(content: Any) -> str:
    return "".join(str(part["text"]) for part in content) if isinstance(content, list) else str(content or "")


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    given = parser.parse_args()
    pod = FakeLlm(
        token=given.token_file.read_text(),
        context_tokens=CONTEXT_TOKENS,
        respond=_respond,
        delay_seconds=_TOKEN_SECONDS,
    )
    uvicorn.run(pod, host="127.0.0.1", port=given.port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    _main()
