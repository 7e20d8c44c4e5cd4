"""A bucket of an object store for tests: what S3's clients ask to read objects, answered from a folder.

It is no store to test stores with: nobody writes to it, and of a signature it knows only whose it is.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Bucket", "bucket_of"]

NAME = "adapters"
_KEY_ID, _SECRET = "reader-of-adapters", "a-secret-access-key-of-a-test-0123456789"


class Bucket:
    """Read by ``settings``, as of `cloister_common.buckets`; their secrets lie in ``folder``.

    Attributes:
        asked: The objects and the ranges that were asked for.
        holds: While it is not set, half of the last range of weights is sent, and the rest when it is.
        half_sent: Whether somebody got a half.
        down: Whether it answers 503 only.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str | None]] = []
        self.holds = threading.Event()
        self.holds.set()
        self.half_sent = threading.Event()
        self.down = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": self}))
        self.server.daemon_threads = True
        (folder / "key-id").write_text(_KEY_ID)
        (folder / "secret-key").write_text(_SECRET)
        self.settings: dict[str, Any] = {
            "url": f"s3://{NAME}/of/chat",
            "endpoint": f"http://127.0.0.1:{self.server.server_port}",
            "region": "eu-central-1",
            "access_key_id_file": str(folder / "key-id"),
            "secret_access_key_file": str(folder / "secret-key"),
        }


@contextmanager
def bucket_of(root: Path, folder: Path) -> Iterator[Bucket]:
    """A bucket that has, below its prefix, what lies below ``root``."""
    bucket = Bucket(root, folder)
    serving = threading.Thread(target=bucket.server.serve_forever, args=(0.02,), daemon=True)
    serving.start()
    try:
        yield bucket
    finally:
        bucket.holds.set()
        bucket.server.shutdown()
        bucket.server.server_close()
        serving.join()


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked_range = self.headers.get("range")
        self.bucket.asked.append((path, asked_range))
        file = self.bucket.root / path.removeprefix(f"/{NAME}/of/chat/")
        if self.bucket.down:
            self._send(503, b"")
        elif f"Credential={_KEY_ID}/" not in self.headers.get("authorization", ""):
            self._send(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif not path.startswith(f"/{NAME}/of/chat/") or not file.is_file():
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif asked_range is None:
            self._send(200, file.read_bytes())
        else:
            content = file.read_bytes()
            first, last = (int(number) for number in asked_range.removeprefix("bytes=").split("-"))
            end = min(last + 1, len(content))
            told = {"content-range": f"bytes {first}-{end - 1}/{len(content)}"}
            self._send(
                206, content[first:end], told, ends_weights=file.suffix == ".safetensors" and end == len(content)
            )

    def _send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, ends_weights: bool = False
    ) -> None:
        self.send_response(status)
        told = {"content-length": str(len(content)), "etag": '"1"', "last-modified": "Fri, 27 Nov 2026 00:00:00 GMT"}
        for name, value in {**told, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if ends_weights and not self.bucket.holds.is_set():
            self.bucket.half_sent.set()
            self.bucket.holds.wait()
        try:
            self.wfile.write(content[half:])
        except OSError:
            self.close_connection = True  # Whoever asked has ended meanwhile.

    def log_message(self, format: str, *args: Any) -> None:
        pass
