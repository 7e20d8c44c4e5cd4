"""The way around ASGI to a socket, for those who write the same frames to many: made once, sent without a task each."""

from collections.abc import Callable
from typing import Protocol

__all__ = ["FRAMES", "FrameWriter"]

FRAMES = "cloister.frames"
"""The extension of a socket's scope that is the socket itself, as a `FrameWriter`."""


class FrameWriter(Protocol):
    """Writes to an accepted socket without waiting, for those who keep to its room themselves.

    Attributes:
        on_room: Called when there is room again, after `write` said that there is none, and when the client has gone.
    """

    on_room: Callable[[], None] | None

    @property
    def gone(self) -> bool:
        """Whether nothing is sent any more, whatever is written."""

    def write(self, frames: bytes) -> bool:
        """Sends whole frames behind all that was sent before. False: hold back until `on_room`, there is no room.

        What is written in one turn of the event loop goes out with one system call.
        """
