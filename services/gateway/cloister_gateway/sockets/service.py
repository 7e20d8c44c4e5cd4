"""All sockets of this gateway: how many each tenant has open, and what each of them works with."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cloister_common.doors.frame_writer import FrameWriter
from cloister_common.errors import TooManyRequests
from prometheus_client import Gauge
from starlette.types import Receive

from cloister_gateway.admission import Admission
from cloister_gateway.bus.connection import Bus
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.sockets.session import Session, SessionParts
from cloister_gateway.sockets.waiting import WaitingBytes

__all__ = ["SocketService"]

_OPEN = Gauge("cloister_sockets", "Open WebSockets.")


class SocketService:
    """Admits sockets and makes their sessions.

    Args:
        responses: Makes what is asked for.
        conversations: Finds those that are followed.
        bus: Brings word of their runs.
        admission: Has the places for them.
        settings: How many sockets, how large what waits in them, how slow a reader.
        most_values: JSON values that one message may have.
    """

    def __init__(
        self,
        responses: ResponseService,
        conversations: ConversationService,
        bus: Bus,
        admission: Admission,
        settings: ResponsesSettings,
        *,
        most_values: int,
    ) -> None:
        self._settings = settings
        self.open: Counter[str] = Counter()
        """Open sockets, by tenant."""
        self.waiting = WaitingBytes(settings.waiting_bytes_per_tenant)
        self._parts = SessionParts(
            responses=responses,
            conversations=conversations,
            bus=bus,
            admission=admission,
            waiting=self.waiting,
            most_values=most_values,
            send_seconds=settings.send_seconds,
        )

    @contextmanager
    def admitted(self, tenant: str) -> Iterator[None]:
        """Counts one more socket of ``tenant`` while the block runs.

        Raises:
            TooManyRequests: It has as many as it may on this gateway.
        """
        if self.open[tenant] >= self._settings.sockets_per_tenant:
            raise TooManyRequests("Your project has its limit of open connections. Close some first.", retry_after=10)
        self.open[tenant] += 1
        _OPEN.inc()
        try:
            yield
        finally:
            self.open[tenant] -= 1
            if not self.open[tenant]:
                del self.open[tenant]
            _OPEN.dec()

    def session(self, receive: Receive, writer: FrameWriter, principal: Principal) -> Session:
        """What serves a socket, which is accepted already."""
        return Session(receive, writer, principal, self._parts)
