"""Whether an input can be done at all, told line by line before any of it is."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import CloisterError, InvalidRequest

from cloister_gateway.batches.endpoints import Endpoint
from cloister_gateway.batches.lines import InputFile, RawLine, request_of
from cloister_gateway.batches.records import LineFault
from cloister_gateway.identity.principal import Principal

__all__ = ["Checked", "InputCheck"]

_MOST_FAULTS = 100
"""As many are told of. Behind the last of them nothing is read any more."""


class Checked(NamedTuple):
    """What an input is.

    Attributes:
        total: Its requests.
        model: What all of them ask; None where they ask several.
        faults: Why it is not done, if it is not.
    """

    total: int
    model: str | None
    faults: tuple[LineFault, ...]


class InputCheck:
    """Checks one input.

    Args:
        caller: Who created the batch.
        url: The endpoint, as lines name it.
        endpoint: What checks their bodies.
        known: The models of the embedder, if they are known.
        most_lines, most_line_bytes: The limits.
    """

    def __init__(
        self,
        caller: Principal,
        url: str,
        endpoint: Endpoint,
        *,
        known: frozenset[str] | None,
        most_lines: int,
        most_line_bytes: int,
    ) -> None:
        self._caller = caller
        self._url = url
        self._endpoint = endpoint
        self._known = known
        self._most_lines = most_lines
        self._most_line_bytes = most_line_bytes
        self._faults: list[LineFault] = []
        self._first_lines: dict[str, int] = {}
        self._models: set[str] = set()
        self._total = 0

    async def check(self, source: InputFile) -> Checked:
        """Reads all of it. Raises as `InputFile.parts`."""
        async for lines in source.parts():
            # In a thread: it is Python's code for the most part, which lets the event loop have its turn every 5 ms.
            if not await asyncio.to_thread(self._go_on, lines):
                break
        else:
            if not self._total:
                self._faults.append(LineFault(code="empty_file", message="The input file has no requests."))
        model = next(iter(self._models)) if len(self._models) == 1 else None
        return Checked(self._total, model, tuple(self._faults))

    def _go_on(self, lines: Sequence[RawLine]) -> bool:
        """Checks lines; says whether to read on."""
        for line in lines:
            self._total += 1
            if self._total > self._most_lines:
                message = f"The input file has more than {self._most_lines} requests. Send it as several batches."
                self._faults.append(LineFault(code="too_many_requests", message=message, line=line.number))
                return False
            try:
                self._check_line(line)
            except CloisterError as error:
                fault = LineFault(code=error.error_code, message=error.message, line=line.number, param=error.param)
                self._faults.append(fault)
                if len(self._faults) >= _MOST_FAULTS:
                    return False
        return True

    def _check_line(self, line: RawLine) -> None:
        request = request_of(line, self._url, most_bytes=self._most_line_bytes)
        first = self._first_lines.setdefault(request.custom_id, line.number)
        if first != line.number:
            raise InvalidRequest(
                f"The 'custom_id' stands on line {first} already. Give each line its own.",
                param="custom_id",
                code="duplicate_custom_id",
            )
        try:
            self._models.add(self._endpoint.check(self._caller, request, self._known))
        except CloisterError as error:
            # As its writer sees it: inside of the line.
            error.param = "body" if error.param is None else f"body.{error.param}"
            raise
