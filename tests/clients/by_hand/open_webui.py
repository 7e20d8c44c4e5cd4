"""Open WebUI, unmodified, at a running stack: run by hand, since it is 3 GB and takes a minute to start.

    python3.11 -m venv /tmp/open-webui && /tmp/open-webui/bin/pip install open-webui==0.12.4
    make run                                                  # in another terminal
    set -a; . var/client.env; set +a
    .venv/bin/python tests/clients/by_hand/open_webui.py /tmp/open-webui

It is started in a folder of its own, told of nothing but our base URL and key, and without the network (its models from
Hugging Face are off; embeddings come from us too). Then it is used as its page uses it: a person signs up, sees the
models, asks and reads the stream, asks on, has the chat named, follow-ups proposed and tagged, shows it a file and asks
about that, and has a tool called. A line for each flow; the exit status is how many failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_START_SECONDS = 600
_ASK_SECONDS = 300
_SETTINGS = {
    "ENABLE_OLLAMA_API": "False",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "WEBUI_SECRET_KEY": "of this run",
    "RAG_EMBEDDING_ENGINE": "openai",
}
_PERSON = {"name": "Ada", "email": "ada@example.com", "password": "Correct-horse-7"}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
    },
}

Answer = Any  # Open WebUI's JSON


class Flows:
    """What a person does, in order."""

    def __init__(self, page: httpx.Client, model: str) -> None:
        self._page = page
        self._model = model
        self._talk: list[dict[str, str]] = []

    def signs_up_and_in(self) -> None:
        self._post("/api/v1/auths/signup", _PERSON)
        who = {name: _PERSON[name] for name in ("email", "password")}
        self._page.headers["authorization"] = f"Bearer {self._post('/api/v1/auths/signin', who)['token']}"

    def sees_the_models(self) -> None:
        listed = self._page.get("/api/models").raise_for_status().json()["data"]
        assert self._model in {model["id"] for model in listed}, listed

    def asks_and_reads_the_stream(self) -> None:
        assert self._ask("Say hello.")

    def asks_on(self) -> None:
        assert self._ask("And goodbye.")
        assert [one["role"] for one in self._talk] == ["user", "assistant"] * 2

    def has_the_chat_named(self) -> None:
        assert self._task("title")

    def has_the_chat_tagged(self) -> None:
        assert self._task("tags")

    def has_questions_proposed(self) -> None:
        assert self._task("follow_up")

    def has_a_tool_called(self) -> None:
        body = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "max_tokens": 96}
        choice = {"tools": [_WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
        answer = self._post("/api/chat/completions", {"model": self._model, "stream": False, **body, **choice})
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"])["city"] in {"Oslo", "Rome"}

    def asks_about_a_file(self) -> None:
        text = b"The lighthouse of Ostend is sixty-five metres high. " * 20
        sent = self._page.post("/api/v1/files/", files={"file": ("lighthouse.txt", text, "text/plain")})
        file = sent.raise_for_status().json()["id"]
        until = time.monotonic() + _ASK_SECONDS
        while (state := self._page.get(f"/api/v1/files/{file}/process/status").raise_for_status().json())["status"] in {
            "pending",
            "processing",
        }:
            assert time.monotonic() < until, state
            time.sleep(1)  # between two looks, each a request
        assert state["status"] == "completed", state
        assert self._ask("How high is the lighthouse?", files=[{"type": "file", "id": file}])

    def _ask(self, question: str, **more: Any) -> str:
        self._talk.append({"role": "user", "content": question})
        body = {"model": self._model, "messages": self._talk, "stream": True, "max_tokens": 24, **more}
        said = ""
        with self._page.stream("POST", "/api/chat/completions", json=body) as answer:
            if answer.is_error:
                answer.read()
                raise AssertionError(answer.text)
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    for choice in event.get("choices", ()):
                        said += choice["delta"].get("content") or ""
        self._talk.append({"role": "assistant", "content": said})
        return said

    def _task(self, what: str) -> Answer:
        body = {"model": self._model, "messages": self._talk, "chat_id": "local:one"}
        answer = self._post(f"/api/v1/tasks/{what}/completions", body)
        return answer["choices"][0]["message"]["content"]

    def _post(self, path: str, body: dict[str, Any]) -> Answer:
        answer = self._page.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()


def run(flows: Flows) -> int:
    """Runs all flows in the order in which they are written; how many failed."""
    failed = 0
    named: list[tuple[str, Callable[..., None]]] = [
        (name, function) for name, function in vars(Flows).items() if not name.startswith("_")
    ]
    for name, function in named:
        began, error = time.monotonic(), None
        try:
            function(flows)
        except Exception:  # noqa: BLE001 - whatever goes wrong
            error = traceback.format_exc()
            failed += 1
        print(json.dumps({"flow": name, "seconds": round(time.monotonic() - began, 1), "error": error}), flush=True)
    return failed


@contextmanager
def open_webui(environment: Path, port: int) -> Iterator[httpx.Client]:
    """Open WebUI out of ``environment``, in a folder of its own, with a client at its page."""
    access = {"OPENAI_API_BASE_URL": os.environ["OPENAI_BASE_URL"], "OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
    of_files = {f"RAG_{name}": value for name, value in access.items()}
    model = os.environ.get("EMBEDDING_MODEL", "all-MiniLM-L6-v2")
    with tempfile.TemporaryDirectory() as folder:
        settings = {**os.environ, **_SETTINGS, **access, **of_files, "RAG_EMBEDDING_MODEL": model, "DATA_DIR": folder}
        log = (Path(folder) / "log").open("wb")
        command = [str(environment / "bin" / "open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        with log, subprocess.Popen(command, env=settings, cwd=folder, stdout=log, stderr=log) as process:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_ASK_SECONDS) as page:
                    _wait(page, process, Path(folder) / "log")
                    yield page
            finally:
                process.terminate()


def _wait(page: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if page.get("/ready").is_success and page.get("/api/config").json()["name"].startswith("Open WebUI"):
                return
        except (httpx.TransportError, ValueError, KeyError):
            pass  # It does not listen yet, or is a page that says that it starts.
        time.sleep(1)  # between two looks at a program that takes a minute to start
    raise SystemExit(f"Open WebUI did not start:\n{log.read_text()[-3000:]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path, help="where open-webui is installed")
    parser.add_argument("--port", type=int, default=28080, help="where it listens on this machine")
    given = parser.parse_args()
    with open_webui(given.environment, given.port) as at:
        sys.exit(run(Flows(at, os.environ.get("CHAT_MODEL", "SmolLM2-135M-Instruct"))))
