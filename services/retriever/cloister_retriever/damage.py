"""What is stored and does not open: told to whoever asks, by name, and never a reason for anything else to fail.

A list has an entry for it, with the status that OpenAI's object has for an error and a sentence; whoever asks for it
alone, or for its content, gets `Damaged`. It can always be deleted.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from fastapi import Request
from fastapi.responses import JSONResponse

__all__ = ["Damaged", "damage_of", "on_damage", "sentence", "telling"]

log = get_logger(__name__)


class Damaged(CloisterError):
    """What is stored is there, and does not open: it was altered, cut, or moved."""

    status = 500
    code = "stored_data_damaged"
    type = "server_error"


def sentence(what: str, name: str) -> str:
    """What is said of something damaged. ``what`` is OpenAI's word for it."""
    return f"What is stored of the {what} '{name}' is damaged. Delete it and create it anew, or restore a backup."


@contextmanager
def damage_of(what: str, name: str) -> Iterator[None]:
    """Names what the block opens.

    Raises:
        Damaged: It does not open.
    """
    try:
        yield
    except VaultError as error:
        log.error("stored_data_damaged", what=what, id=name)
        raise Damaged(sentence(what, name)) from error


async def telling(what: str, name: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream of a content, which names what it is of when it does not open."""
    with damage_of(what, name):
        async for chunk in chunks:
            yield chunk


async def on_damage(_: Request, error: Exception) -> JSONResponse:
    """The answer where nobody could say what it was: a key, or a record that belongs to several things."""
    log.error("stored_data_damaged", what="record")
    damaged = Damaged("Something that this request needs is damaged where it is stored. The operator's log has it.")
    return JSONResponse(damaged.body(), status_code=Damaged.status)
