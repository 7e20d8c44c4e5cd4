"""What a client's flows share: they are named, run one after another, and told of one by one.

@flow
def streams_a_chat() -> None: ...

run()   # prints a line of JSON for each; the exit status is the number of those that failed
"""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

MODEL = os.environ["CHAT_MODEL"]
EMBEDDING_MODEL = os.environ["EMBEDDING_MODEL"]
BASE_URL = os.environ["OPENAI_BASE_URL"]
API_KEY = os.environ["OPENAI_API_KEY"]

_flows: list[Callable[[], Any]] = []


def flow(function: Callable[[], Any]) -> Callable[[], Any]:
    """Takes a function, plain or async, as one of the flows."""
    _flows.append(function)
    return function


def run() -> None:
    """Runs all of them, or those that the arguments name."""
    failed = 0
    for function in _flows:
        if sys.argv[1:] and function.__name__ not in sys.argv[1:]:
            continue
        began = time.monotonic()
        try:
            result = function()
            if inspect.isawaitable(result):
                asyncio.run(_awaited(result))
            error = None
        except Exception:  # noqa: BLE001 - whatever a client makes of it
            error = traceback.format_exc()
            failed += 1
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"flow": function.__name__, "seconds": seconds, "error": error}), flush=True)
    sys.exit(failed)


async def _awaited(result: Any) -> None:
    await result
