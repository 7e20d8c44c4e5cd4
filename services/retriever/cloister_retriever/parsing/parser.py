"""Has a parser's process forked for one file, feeds it, and reads its answer under limits of time and size."""

import asyncio
import contextlib
import math
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.wire.images import MOST_IMAGE_BYTES, ReadImage
from prometheus_client import Histogram
from pydantic import ValidationError

from cloister_retriever.parsing.chunking import Chunk
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.messages import PAGES_READ, READY, Answer, PictureLimits, ReadPicture, Request
from cloister_retriever.parsing.warm import ParserHost, ParserProcess
from cloister_retriever.settings import IngestionSettings

__all__ = ["Interruption", "Parsed", "Parser"]

log = get_logger(__name__)
_SECONDS = Histogram(
    "cloister_parse_seconds", "Seconds a parser process took.", buckets=(0.2, 0.5, 1, 2, 5, 10, 30, 60)
)

_READY_SECONDS = 120.0
"""Milliseconds on a quiet machine; a starved one may take long, and that is no reason to fail a file."""

_CLOCK_FACTOR = 3
"""The kernel counts the child's processor time; by the clock it may take longer, since other work runs too."""

_PICTURES_SHARE = 1 / 3
"""Of the time that a file may take to be read: so much at most goes to its pictures."""

_OCR_SHARE = 0.6
"""The same for text that is read in pictures, where that is installed."""

_PICTURE_FACTOR = 3
"""The answer has pictures in base64, and most of them twice, once of them small."""

_ANSWER_FACTOR = 4
"""The answer is the text in JSON and some numbers a passage: less than this many times the largest text."""


@dataclass(frozen=True)
class Parsed:
    """What became of a file."""

    text: str
    chunks: list[Chunk]
    pictures: list[ReadPicture] = field(default_factory=list)
    """Those with words first. A passage that has a picture is the words for it."""

    is_picture: bool = False
    """Whether the file is one picture."""

    notes: list[str] = field(default_factory=list)
    """What of it was not read, or may have been read wrongly: sentences for whoever uploaded it."""


class Interruption(Protocol):
    """Says when a file's process is to stand aside; see `cloister_retriever.ingestion.turns.Turn`."""

    async def asked(self) -> None: ...

    async def stand_aside(self) -> None: ...

    async def held(self) -> None: ...


class Parser:
    """Parses files, each in a process of its own.

    Args:
        settings: What a file may cost.
        host: What the processes are forked from; one of its own if there is none.
        by_sight: Whether pictures are found without any words, so that one that has none is worth keeping.
    """

    def __init__(self, settings: IngestionSettings, host: ParserHost | None = None, *, by_sight: bool = False) -> None:
        self._settings = settings
        self._by_sight = by_sight
        self._host = host or ParserHost()
        self._warned = False

    def warm(self) -> None:
        """Starts what the processes are forked from, unless it runs."""
        self._host.warm()

    async def parse(
        self,
        content: AsyncIterator[bytes],
        *,
        name: str,
        max_tokens: int,
        overlap_tokens: int,
        turn: Interruption | None = None,
        on_page: Callable[[int, int], None] = lambda done, total: None,
        description: str | None = None,
    ) -> Parsed:
        """The text, passages and pictures of a file. ``on_page`` is told how many pages have been read, and of how
        many. While ``turn`` stands aside the process is stopped, and no clock runs. A ``description`` is of a file that
        is a picture.

        Raises:
            UnreadableFile: The file is not one we read, is broken, or is over a limit.
            Unavailable: The process could not be started; try again.
        """
        settings = self._settings
        request = Request(
            name=name,
            tokenizer_path=settings.tokenizer_path,
            max_tokens=max_tokens,
            overlap_tokens=overlap_tokens,
            prompt_tokens=settings.prompt_tokens,
            memory_bytes=settings.parse_memory_bytes,
            cpu_seconds=math.ceil(settings.parse_seconds),
            max_text_bytes=settings.max_text_bytes,
            languages=settings.languages,
            pictures=PictureLimits(
                most=settings.pictures.max_per_file,
                pixels=settings.pictures.max_pixels,
                total_bytes=settings.pictures.max_bytes,
                seconds=settings.parse_seconds * _PICTURES_SHARE,
            ),
            by_sight=self._by_sight,
            ocr_seconds=settings.parse_seconds * _OCR_SHARE if settings.ocr else 0.0,
            description=description,
        )
        body = await self._answer(request, content, _most_answer(settings), turn, on_page)
        return Parsed(body.text, body.chunks, body.pictures, body.is_picture, body.notes)

    async def picture(self, content: AsyncIterator[bytes], *, edge: int, max_tokens: int) -> ReadImage:
        """An image as models are given it, no longer than ``edge`` pixels a side. (``max_tokens`` is for the process,
        which can cut passages too.)

        Raises:
            UnreadableFile: It is none that is known, is broken, or is over a limit.
            Unavailable: The process could not be started; try again.
        """
        settings = self._settings
        request = Request(
            name="",
            tokenizer_path=settings.tokenizer_path,
            max_tokens=max_tokens,
            overlap_tokens=0,
            prompt_tokens=settings.prompt_tokens,
            memory_bytes=settings.parse_memory_bytes,
            cpu_seconds=math.ceil(settings.parse_seconds),
            max_text_bytes=settings.max_text_bytes,
            image_edge=edge,
        )
        body = await self._answer(request, content, 2 * MOST_IMAGE_BYTES)
        if body.image is None:
            raise UnreadableFile("invalid_file", "The image is damaged.")
        return body.image

    async def _answer(
        self,
        request: Request,
        content: AsyncIterator[bytes],
        most: int,
        turn: Interruption | None = None,
        on_page: Callable[[int, int], None] = lambda done, total: None,
    ) -> Answer:
        """What the process of one file says, in ``most`` bytes. Raises as `parse`."""
        settings = self._settings
        process = await self._host.begin(request.model_dump_json().encode())
        try:
            await _ready(process)
            with _SECONDS.time():
                async with (
                    asyncio.timeout(_CLOCK_FACTOR * settings.parse_seconds) as clock,
                    _interruptible(process, clock, turn),
                ):
                    _, answer = await asyncio.gather(_feed(process, content), _read(process, most, on_page))
        except TimeoutError as error:
            raise UnreadableFile(
                "invalid_file", f"The file could not be read within {settings.parse_seconds:g} seconds."
            ) from error
        finally:
            await process.close()
        return self._result(answer)

    def _result(self, answer: bytes | None) -> Answer:
        if not answer:
            # Killed by a limit, or crashed inside a library: the file is at fault, the next one gets a new process.
            log.warning("parser_died")
            raise UnreadableFile("invalid_file", "The file is damaged, or needs more time or memory than is allowed.")
        try:
            body = Answer.model_validate_json(answer)
        except ValidationError as error:
            # A file that got hold of the parser could write anything here.
            log.error("parser_answered_nonsense")
            raise UnreadableFile("invalid_file", "The file is damaged.") from error
        if not body.confined and not self._warned:
            self._warned = True
            log.warning("parser_unconfined", reason="the kernel refused the system call filter")
        if body.error is not None:
            raise UnreadableFile(body.error.code, body.error.message)
        if not (body.chunks or body.pictures or body.image is not None):
            log.error("parser_answered_nonsense")
            raise UnreadableFile("invalid_file", "The file is damaged.")
        return body


def _most_answer(settings: IngestionSettings) -> int:
    return _ANSWER_FACTOR * settings.max_text_bytes + _PICTURE_FACTOR * settings.pictures.max_bytes


async def _ready(process: ParserProcess) -> None:
    """Waits until the process is confined. What goes wrong until then is not the file's fault."""
    try:
        ready = await asyncio.wait_for(process.reader.readline(), _READY_SECONDS)
    except (TimeoutError, OSError):
        ready = b""
    if ready != READY:
        log.error("parser_not_started")
        raise Unavailable("The parser did not start. Try again in a moment.", retry_after=5)


@contextlib.asynccontextmanager
async def _interruptible(
    process: ParserProcess, clock: asyncio.Timeout, turn: Interruption | None
) -> AsyncIterator[None]:
    """Stops ``process``, and ``clock`` with it, for as long as ``turn`` stands aside."""
    if turn is None:
        yield
        return

    async def watch() -> None:
        while True:
            await turn.asked()
            when = clock.when()
            assert when is not None
            left = when - loop.time()
            try:
                process.send_signal(signal.SIGSTOP)
            except ProcessLookupError:
                return  # it has ended, and its answer is being read
            clock.reschedule(None)
            try:
                await turn.stand_aside()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
            clock.reschedule(loop.time() + left)

    loop = asyncio.get_running_loop()
    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    # It may have ended in the moment it was to be stopped: then the turn is not ours yet.
    await turn.held()


async def _feed(process: ParserProcess, content: AsyncIterator[bytes]) -> None:
    try:
        async for chunk in content:
            process.writer.write(chunk)
            await process.writer.drain()
        process.writer.write_eof()
    except OSError:
        # The process died while it was being fed; what it said tells.
        return


async def _read(process: ParserProcess, limit: int, on_page: Callable[[int, int], None]) -> bytes | None:
    """Its answer, or None if all that it says is longer than ``limit`` (then it is ended)."""
    said = bytearray()
    length = 0
    with contextlib.suppress(ConnectionError):  # it died before it had read everything
        while chunk := await process.reader.read(64 * 1024):
            length += len(chunk)
            if length > limit:
                process.kill()
                return None
            said += chunk
            while (line := PAGES_READ.match(said)) is not None:
                on_page(int(line[1]), int(line[2]))
                del said[: line.end()]
    return bytes(said)
