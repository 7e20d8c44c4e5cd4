"""Debian's Chromium, without a screen, on a page that a test serves.

The page does what it is for by itself, and then posts what came of it to ``/done``: so nothing drives the browser, and
no more of it is needed than the program.
"""

import contextlib
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["PageServer", "browser_program"]

_PROGRAMS = ("chromium-headless-shell", "chromium")
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # Tests run as root, whom Chromium's sandbox does not take.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
)


def browser_program() -> str:
    """Where Chromium is.

    Raises:
        RuntimeError: It is not installed.
    """
    for name in _PROGRAMS:
        if path := shutil.which(name):
            return path
    raise RuntimeError("Chromium is not installed: apt-get install chromium-headless-shell")


class PageServer:
    """Serves a folder on loopback, as the origin of its pages.

    Args:
        folder: What it serves.
        port: A free one.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self._settings: Mapping[str, Any] = {}
        self._done: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = _Server(("127.0.0.1", port), partial(_Handler, directory=str(folder), page=self))

    def open(self, page: str, settings: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """Opens ``page`` in a new browser, which finds ``settings`` at ``/settings.json``; gives what it posts.

        Raises:
            AssertionError: It has not posted anything within ``seconds``; the message is what the browser said.
        """
        self._settings = settings
        serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        serving.start()
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile() as said:
                command = [browser_program(), *_OPTIONS, f"--user-data-dir={profile}", f"{self.origin}/{page}"]
                browser = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
                try:
                    return self._done.get(timeout=seconds)
                except queue.Empty:
                    said.seek(0)
                    raise AssertionError(f"the page was not done in {seconds:g} s: {said.read().decode()}") from None
                finally:
                    _end(browser)
        finally:
            self._server.shutdown()
            serving.join()
            self._server.server_close()

    def settings(self) -> Mapping[str, Any]:
        """What the page is told."""
        return self._settings

    def take(self, outcomes: dict[str, Any]) -> None:
        """What the page has posted."""
        self._done.put(outcomes)


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of connections that end with the browser."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, page: PageServer, **keywords: Any) -> None:
        self._page = page
        super().__init__(*arguments, **keywords)

    def do_GET(self) -> None:
        if self.path == "/settings.json":
            self._answer(json.dumps(self._page.settings()).encode())
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._page.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(b"{}")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _end(browser: subprocess.Popen[bytes]) -> None:
    """Ends the browser with all its processes, which are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(browser.pid, signal.SIGKILL)
    browser.wait(30)
