"""The two files of a batch: what was answered, and what was not. Both in the order of the input.

Each is the same however often it is written: results were written once, and what was never asked for says so in the
same words. So a gateway that dies in the middle does no harm (`RetrieverClient.put_file`).
"""

import time
from collections.abc import AsyncIterator, Collection

from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError, NotFound
from cloister_common.ids import new_placed_id

from cloister_gateway.batches.answering import unanswered_line
from cloister_gateway.batches.lines import InputFile, RawLine, request_of
from cloister_gateway.batches.records import BatchRecord, BatchState, Tokens
from cloister_gateway.batches.results import BatchResults
from cloister_gateway.identity.principal import Principal
from cloister_gateway.storage import KeyedObject

__all__ = ["ResultFiles", "file_ids"]

_PIECE_BYTES = 64 * 1024
_NEVER_ASKED = {
    "expired": ("batch_expired", "This request was not made before the completion window of its batch was over."),
    "cancelled": ("batch_cancelled", "This request was not made before its batch was cancelled."),
}
"""What is said of a line without a result, by how its batch ends."""


def file_ids(state: BatchState, completed: int, failed: int) -> BatchState:
    """The state with ids for the files that will have something in them."""
    now = time.time_ns()
    never = state.total - completed - failed if state.ending in _NEVER_ASKED else 0
    output = new_placed_id("file-", now) if completed else None
    errors = new_placed_id("file-", now + 1) if failed or never else None
    return state.model_copy(update={"output_file_id": output, "error_file_id": errors})


class ResultFiles:
    """Writes them.

    Args:
        retriever: Keeps files.
        most_line_bytes: As long as a line of the input may be.
    """

    def __init__(self, retriever: RetrieverClient, *, most_line_bytes: int) -> None:
        self._retriever = retriever
        self._most_line_bytes = most_line_bytes

    async def write(
        self,
        keyed: KeyedObject,
        record: BatchRecord,
        state: BatchState,
        caller: Principal,
        source: InputFile,
        results: BatchResults,
    ) -> Tokens:
        """Writes those that ``state`` has ids for; the tokens of all answers.

        Raises:
            CloisterError: The retriever is away, or does not take them.
        """
        done = await results.done()
        counted = _Counted()
        if state.output_file_id is not None:
            lines = self._answered(results, done, counted)
            await self._put(caller, record, state.output_file_id, f"{keyed.id}_output.jsonl", lines)
        if state.error_file_id is not None:
            lines = self._unanswered(keyed, record, state, done, source, results)
            await self._put(caller, record, state.error_file_id, f"{keyed.id}_error.jsonl", lines)
        return counted.used

    async def _put(
        self, caller: Principal, record: BatchRecord, file_id: str, name: str, lines: AsyncIterator[bytes]
    ) -> None:
        await self._retriever.put_file(
            caller.tenant,
            file_id,
            _pieces(lines),
            name=name,
            like=record.input_file_id,
            seconds=record.file_seconds,
            caller=caller.reader,
        )

    async def _answered(
        self, results: BatchResults, done: Collection[int], counted: "_Counted"
    ) -> AsyncIterator[bytes]:
        counted.used = Tokens()
        async for _, result in results.each(done):
            if result.answered:
                read, cached, written, reasoning = result.used
                counted.used = counted.used.plus(Tokens(read=read, cached=cached, written=written, reasoning=reasoning))
                yield result.line

    async def _unanswered(
        self,
        keyed: KeyedObject,
        record: BatchRecord,
        state: BatchState,
        done: set[int],
        source: InputFile,
        results: BatchResults,
    ) -> AsyncIterator[bytes]:
        never = _NEVER_ASKED.get(state.ending or "")
        if never is None or len(done) == state.total:
            async for _, result in results.each(done):
                if not result.answered:
                    yield result.line
            return
        code, message = never
        left = set(done)
        try:
            async for part in source.parts():
                numbers = {line.number for line in part}
                found = {number: result async for number, result in results.each(numbers & done)}
                left -= numbers
                for line in part:
                    told = found.get(line.number)
                    if told is None:
                        yield unanswered_line(keyed.id, line.number, self._custom_id(record, line), code, message)
                    elif not told.answered:
                        yield told.line
        except NotFound:
            # The input was deleted meanwhile: what its other lines were called nobody knows any more.
            async for _, result in results.each(left):
                if not result.answered:
                    yield result.line

    def _custom_id(self, record: BatchRecord, line: RawLine) -> str:
        try:
            return request_of(line, record.endpoint, most_bytes=self._most_line_bytes).custom_id
        except CloisterError:
            return ""


class _Counted:
    """The tokens of the lines that went by."""

    def __init__(self) -> None:
        self.used = Tokens()


async def _pieces(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a file, in pieces that are worth a packet."""
    piece = bytearray()
    async for line in lines:
        piece += line
        piece += b"\n"
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
