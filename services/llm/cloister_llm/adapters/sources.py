"""Where adapters lie: each in a folder of its own, on a volume or in a bucket of an object store. Both are only read.

What lies there is the operator's, as weights are: nothing of it is sealed, and nothing but the digest is relied on.
"""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from cloister_common.buckets import BucketSettings, open_bucket
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_common.logs import get_logger

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["Bucket", "Source", "Volume", "blocks"]

log = get_logger(__name__)

_Answer = TypeVar("_Answer")

_BLOCK_BYTES = 1 << 20
_RANGE_BYTES = 8 << 20
"""Of one question to an object store, each with a deadline and trials of its own. It is what memory is taken for."""


class Source(Protocol):
    """Files of adapters, by folder and name."""

    def size(self, folder: str, name: str) -> int | None:
        """How many bytes the file has, or None if there is none.

        Raises:
            InvalidRequest: ``folder`` is none below that of the adapters, or may not be read.
            OSError: It cannot be read.
            Unavailable: Nobody can say at this moment.
        """

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Its bytes, block by block. Raises as `size`."""


class Volume:
    """Folders below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, folder: str, name: str) -> int | None:
        """As `Source.size`."""
        _inside(self._root, folder)
        file = _inside(self._root, f"{folder}/{name}")
        return file.stat().st_size if file.is_file() else None

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """As `Source.read`."""
        return blocks(_inside(self._root, f"{folder}/{name}"))


class Bucket:
    """Folders below the prefix of a bucket: the object of a file is called ``FOLDER/FILE`` there."""

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings
        self._store: S3Store | None = None

    def size(self, folder: str, name: str) -> int | None:
        """As `Source.size`."""
        import obstore

        path = _path(folder, name)
        try:
            return self._ask(folder, lambda store: int(obstore.head(store, path)["size"]))
        except FileNotFoundError:
            return None

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """As `Source.read`. Where the object is replaced meanwhile, the digest is neither's."""
        import obstore

        path, size = _path(folder, name), self.size(folder, name) or 0
        for start in range(0, size, _RANGE_BYTES):
            length = min(_RANGE_BYTES, size - start)
            read = partial(obstore.get_range, path=path, start=start, length=length)
            yield bytes(self._ask(folder, read))

    def _ask(self, folder: str, ask: Callable[["S3Store"], _Answer]) -> _Answer:
        # obstore is loaded here and not before: its threads would not outlive the fork in which vLLM's engine begins.
        from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError

        try:
            if self._store is None:
                self._store = open_bucket(self._settings)
            return ask(self._store)
        except (InvalidPathError, ValueError) as error:  # what no object can be called: with a NUL, a line's end
            raise _outside(folder) from error
        except FileNotFoundError as error:
            # (obstore's own has no `strerror`.)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            # What is not there is hidden so, where the key may not list the bucket.
            raise InvalidRequest(
                f"The object store does not let the model's pods read '{folder}': it is not there, or the key of "
                "lora.bucket may not read it.",
                param="folder",
            ) from error
        except BaseError as error:
            log.error("object_store_failed", reason=type(error).__name__)
            raise Unavailable(
                "The object store of the adapters does not answer. Try again in a moment.", retry_after=5
            ) from error


def blocks(file: Path) -> Iterator[bytes]:
    """The content of ``file``. Raises `OSError`."""
    with file.open("rb") as reading:
        while block := reading.read(_BLOCK_BYTES):
            yield block


def _inside(root: Path, name: str) -> Path:
    """The file or folder ``name`` below ``root``, wherever links lead."""
    try:
        found = (root / name).resolve()
    except ValueError as error:  # with a NUL, or half of a surrogate pair
        raise _outside(name) from error
    if not found.is_relative_to(root.resolve()) or found == root.resolve():
        raise _outside(name)
    return found


def _path(folder: str, name: str) -> str:
    if not {"", ".", ".."}.isdisjoint(folder.split("/")):
        raise _outside(folder)
    return f"{folder}/{name}"


def _outside(name: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' is not a folder below that of the adapters.", param="folder")
