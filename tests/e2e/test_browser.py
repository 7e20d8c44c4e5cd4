"""The unmodified SDK's browser build in Chromium: from a page that may call, and from one that may not."""

from pathlib import Path
from typing import Any

from cloister_common.testing.serving import free_port

from tests.e2e.conftest import CHAT_MODEL
from tests.support.browser import PageServer
from tests.support.stack import Stack

SECONDS = 120.0
"""A handful of answers by the model; it takes ten."""

NOTHING = "nothing"
"""The page learns nothing, not even a status."""

EXPECTED: dict[str, Any] = {
    "models": True,
    "response": "response",
    "request id": "req_",
    "chat": "chat.completion",
    "streamed": True,
    "file": "A page.",
    "conversation": True,
    "wrong key": "401 invalid_api_key",
    "unknown route": "404 unknown_url",
    "socket by key": "realtime response",
    "socket by ticket": "realtime response",
    "socket by used ticket": NOTHING,
    "with cookies": NOTHING,
}


def _outcomes(stack: Stack, folder: Path, port: int) -> dict[str, Any]:
    settings = {"baseURL": stack.base_url, "apiKey": stack.api_key, "model": CHAT_MODEL}
    return PageServer(folder, port).open("page.html", settings, seconds=SECONDS)


def test_the_sdk_works_from_a_listed_page(stack: Stack, javascript_folder: Path, page_port: int) -> None:
    assert _outcomes(stack, javascript_folder, page_port) == EXPECTED


def test_a_page_of_another_origin_can_do_nothing_even_with_a_key(stack: Stack, javascript_folder: Path) -> None:
    assert _outcomes(stack, javascript_folder, free_port()) == dict.fromkeys(EXPECTED, NOTHING)
