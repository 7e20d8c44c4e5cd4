"""Ends a stream that has gone silent, at the cost of one timer for the stream and a clock reading for each token."""

import asyncio

from cloister_common.logs import get_logger

from cloister_gateway.models.connections import Answer

__all__ = ["Watchdog"]

log = get_logger(__name__)


class Watchdog:
    """Closes ``answer`` unless something comes within ``seconds``, and then within what `seen` says each time."""

    def __init__(self, answer: Answer, seconds: float) -> None:
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._deadline, self._check)

    def seen(self, seconds: float) -> None:
        """Notes that something came; the next must come within ``seconds``.

        The timer stays where it is: it finds the later deadline when it fires. The first deadline may be later than
        this one, so it is moved once.
        """
        deadline = self._loop.time() + seconds
        if deadline < self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._check)
        self._deadline = deadline

    def stop(self) -> None:
        """Ends the watch."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._deadline <= self._loop.time():
            log.warning("llm_stream_silent")
            self._answer.close()
        else:
            self._timer = self._loop.call_at(self._deadline, self._check)
