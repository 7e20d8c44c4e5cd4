"""Asks a model that rests, at a stack that runs, and prints how long it was in each phase until it answered.

    python -m tests.bench.waking --idle 300 --times 3

The phases are those of ``response.queued``, so they are a caller's view: from the question on, half a second exact.
"""

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

import openai

from tests.support.waiting import wait_until

PHASES = ("scheduling", "pulling", "loading", "compiling", "ready")
_REST_SECONDS = 120.0
"""What a model may take to be gone, beyond its idle time."""

_FALL_ASLEEP_SECONDS = 5.0
"""What one may take to fall asleep, beyond it."""


def wake(client: Any, model: str) -> dict[str, float]:
    """Seconds in each phase, until the first token (``answer``) and in all (``total``)."""
    began = changed = time.monotonic()
    phase, spent = "asked", dict.fromkeys(("asked", *PHASES, "answer"), 0.0)
    for event in client.responses.create(model=model, input="Say hello.", max_output_tokens=16, stream=True):
        now = time.monotonic()
        if event.type == "response.queued":
            following = event.queue["phase"] or phase
        elif event.type == "response.output_text.delta":
            following = "told"
        elif event.type == "response.in_progress" and phase in PHASES:
            following = "answer"
        elif event.type == "response.failed":
            raise SystemExit(f"It did not wake: {event.response.error.message}")
        else:
            continue
        if phase in spent:
            spent[phase] += now - changed
        phase, changed = following, now
        if phase == "told":
            break
    return {**spent, "total": changed - began}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each waking."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.waking", description=__doc__)
    parser.add_argument("--url", default=os.environ.get("OPENAI_BASE_URL"), help="OPENAI_BASE_URL")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY"), help="OPENAI_API_KEY")
    parser.add_argument("--model", help="the first that rests, if there is one")
    parser.add_argument("--idle", type=float, required=True, help="its idle_seconds")
    parser.add_argument("--times", type=int, default=3, help="how often")
    options = parser.parse_args(arguments)
    client: Any = openai.OpenAI(base_url=options.url, api_key=options.key, max_retries=0, timeout=3600)

    def entry() -> dict[str, Any]:
        found = [model for model in client.models.list() if model.cloister.get("mode", "dedicated") != "dedicated"]
        named = [model for model in found if options.model in (None, model.id)]
        if not named:
            raise SystemExit("There is no such model that rests: set its mode.")
        return {"id": named[0].id, **named[0].cloister}

    model = entry()
    columns = ("asked", *PHASES, "answer", "total")
    print(f"{model['id']} ({model['mode']}), seconds\n" + "".join(f"{name:>12}" for name in columns))
    for _ in range(options.times):
        if model["mode"] == "serverless":
            wait_until(lambda: not entry()["ready"], seconds=options.idle + _REST_SECONDS, what="it rests", every=0.5)
        else:
            # Its pods stay, and say that they are well: nothing that a caller sees tells that it sleeps.
            time.sleep(options.idle + _FALL_ASLEEP_SECONDS)  # so nothing can be waited for
        spent = wake(client, model["id"])
        print("".join(f"{spent[name]:>12.2f}" for name in columns), flush=True)


if __name__ == "__main__":
    main()
