"""One line of a batch, from its request to its result: asked for again where something was away, and told of where it
cannot be done.
"""

import asyncio
import hashlib
from typing import Any

import orjson
from cloister_common.bodies import aside
from cloister_common.errors import CloisterError, TooManyRequests
from cloister_common.ids import new_id

from cloister_gateway.admission import Admission
from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.batches.endpoints import Answer, Endpoint, Over
from cloister_gateway.batches.lines import RawLine, Request, request_of
from cloister_gateway.batches.records import LineResult
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.faults import fault_of

__all__ = ["LineAnswers", "unanswered_line"]

_YIELD_SECONDS = 0.05
"""How soon it looks again whether somebody waits."""
_LONGEST_PAUSE_SECONDS = 60.0


class LineAnswers:
    """Has the lines of batches answered.

    Args:
        authenticator: Says whether the credential that a batch was created with still lives.
        admission: Says whether somebody waits for a place.
        settings: How many lines at once, and how often each is tried.
        most_line_bytes: As long as a line may be.
    """

    def __init__(
        self, authenticator: Authenticator, admission: Admission, settings: BatchSettings, *, most_line_bytes: int
    ) -> None:
        self._authenticator = authenticator
        self._admission = admission
        self._settings = settings
        self._most_line_bytes = most_line_bytes
        self._places = asyncio.Semaphore(settings.lines_at_once)

    async def result(
        self, batch_id: str, caller: Principal, url: str, endpoint: Endpoint, line: RawLine, over: Over
    ) -> LineResult:
        """What becomes of a line. Cancelling this stops what is under way for it; see `Endpoint.answer`."""
        custom_id = ""
        try:
            request = await aside(len(line.raw), lambda: request_of(line, url, most_bytes=self._most_line_bytes))
            custom_id = request.custom_id
            answer = await self._answered(caller, endpoint, request, f"{batch_id}:{line.number}", over)
        except Exception as error:  # noqa: BLE001 - whatever it is, the line tells of it
            fault = fault_of(error, batch=batch_id)
            return LineResult(False, _line(batch_id, line.number, custom_id, fault.status, fault.body()))
        used = answer.used
        raw = _line(batch_id, line.number, custom_id, 200, orjson.Fragment(answer.body))
        return LineResult(True, raw, (used.read, used.cached, used.written, used.reasoning))

    async def _answered(self, caller: Principal, endpoint: Endpoint, request: Request, name: str, over: Over) -> Answer:
        """The answer, tried for as often as makes sense.

        Raises:
            CloisterError: Why there is none.
        """
        failures = 0
        while True:
            try:
                async with self._places:
                    await self._let_others_pass()
                    principal = await self._authenticator.readmit(caller)
                    async with self._authenticator.while_valid(principal):
                        return await endpoint.answer(principal, request, f"{name}:{failures}", over)
            except Exception as error:  # noqa: BLE001 - judged below
                fault = fault_of(error)
            pause = self._pause(fault, failures)
            if pause is None:
                raise fault
            failures += not isinstance(fault, TooManyRequests)
            # (Not while it has a place: what waits for a limit keeps no other batch.)
            await asyncio.sleep(pause)

    def _pause(self, fault: CloisterError, failures: int) -> float | None:
        """Seconds until the line is tried again; None if it is not.

        What is over a limit that will have room waits for as long as its batch has time. What failed is tried a few
        times. What was refused would be refused again.
        """
        if isinstance(fault, TooManyRequests):
            if fault.headers().get("x-should-retry") == "false":
                return None
            return min(float(fault.retry_after or 1), _LONGEST_PAUSE_SECONDS)
        if fault.status < 500 or failures + 1 >= self._settings.attempts:
            return None
        pause: float = self._settings.retry_seconds * 2**failures
        return min(max(pause, float(fault.retry_after or 0)), _LONGEST_PAUSE_SECONDS)

    async def _let_others_pass(self) -> None:
        """Waits while somebody who is asked for now waits for a place of this gateway."""
        while self._admission.waiting:  # noqa: ASYNC110 - nobody tells when the last one has gone in
            await asyncio.sleep(_YIELD_SECONDS)


def unanswered_line(batch_id: str, number: int, custom_id: str, code: str, message: str) -> bytes:
    """The line for a request that was never made. The same whoever writes it."""
    return orjson.dumps(
        {
            "id": _id(batch_id, number),
            "custom_id": custom_id,
            "response": None,
            "error": {"code": code, "message": message},
        }
    )


def _line(batch_id: str, number: int, custom_id: str, status: int, body: Any) -> bytes:
    return orjson.dumps(
        {
            "id": _id(batch_id, number),
            "custom_id": custom_id,
            "response": {"status_code": status, "request_id": new_id("req_"), "body": body},
            "error": None,
        }
    )


def _id(batch_id: str, number: int) -> str:
    """The id of a line's request, which nobody needs to remember."""
    return f"batch_req_{hashlib.sha256(f'{batch_id}:{number}'.encode()).hexdigest()[:32]}"
