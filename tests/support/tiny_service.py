"""The smallest service there is, to start as a process: ``python -m tests.support.tiny_service --config FILE``.

``GET /slow`` begins its answer at once and ends it after ``slow_seconds``; ``POST /upload`` says how many bytes came,
``POST /lazy`` begins to read only after ``slow_seconds``, ``GET /large`` is 64 MB, ``GET /process`` says which process
answers, ``GET /stuck`` holds the event loop until the file ``stuck_until`` is there, and ``/echo`` is a WebSocket, as
is ``/frames``, which writes numbers of 1 KB in joined frames, as many as it has room for. With ``fails_to_start`` its
lifespan raises.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from cloister_common.app import create_base_app
from cloister_common.doors.frame_writer import FRAMES, FrameWriter
from cloister_common.doors.frames import text_frames
from cloister_common.serve import main
from cloister_common.settings import ServiceSettings, SettingsError, SharedServerSettings
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.responses import Response, StreamingResponse

FRAMES_WRITTEN = 16 * 1024
"""Four times what the buffers of server, kernel and client take."""


class TinySettings(ServiceSettings):
    server: SharedServerSettings
    slow_seconds: float = 1.0
    stuck_until: Path | None = None
    fails_to_start: Literal["unforeseen", "settings"] | None = None


async def _frames(socket: WebSocket) -> None:
    await socket.accept()
    writer: FrameWriter = socket.scope["extensions"][FRAMES]
    room = asyncio.Event()
    writer.on_room = room.set
    for number in range(0, FRAMES_WRITTEN, 16):
        room.clear()
        if not writer.write(text_frames([b"%1024d" % one for one in range(number, number + 16)])):
            await room.wait()
    await socket.close()


def create_app(settings: TinySettings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.fails_to_start == "unforeseen":
            raise RuntimeError("the secret sentence of a user")
        if settings.fails_to_start == "settings":
            raise SettingsError("Redis is not what the settings say.")
        yield

    app = create_base_app(
        title="tiny",
        lifespan=lifespan,
        checks=lambda _: {},
        max_body_bytes=1000,
        larger_bodies={"/upload": 1 << 26, "/lazy": 1 << 26},
    )

    @app.get("/slow")
    async def slow() -> StreamingResponse:
        async def answer() -> AsyncIterator[str]:
            yield "begun"
            await asyncio.sleep(settings.slow_seconds)
            yield "ended"

        return StreamingResponse(answer())

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @app.post("/lazy")
    async def lazy(request: Request) -> int:
        await asyncio.sleep(settings.slow_seconds)
        return len(await request.body())

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(1 << 26))

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_text(str(len(await socket.receive_text())))

    _add_process(app, settings)
    app.add_api_websocket_route("/frames", _frames)
    return app


def _add_process(app: FastAPI, settings: TinySettings) -> None:
    @app.get("/process")
    async def process() -> int:
        return os.getpid()

    @app.get("/stuck")
    async def stuck() -> None:
        while settings.stuck_until is not None and not settings.stuck_until.exists():
            time.sleep(0.01)  # on purpose: it holds the event loop, as a worker that is stuck does


if __name__ == "__main__":
    main("tiny", TinySettings, create_app)
