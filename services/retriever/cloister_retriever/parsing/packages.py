"""Containers of files: ZIP archives, and what Office and others make of them, read under limits of our own.

An archive says of each file how long it is, and it may lie: so every file is read in parts, and what comes out is
counted. Names are names only. Nothing is written anywhere, so that no path in an archive leads anywhere.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator

import olefile

from cloister_retriever.parsing.document import UnreadableFile

__all__ = ["Package", "package_of"]

_MAX_FILES = 10_000
_MAX_BYTES = 256 * 1024 * 1024
"""Of all that is taken out of one archive: a quarter of what a parser's process has."""

_MAX_RATIO = 200
"""Office's XML shrinks to a tenth. What shrinks to less than this was made to burst, once it is of some size."""

_SMALL = 1024 * 1024
_STEP = 256 * 1024

_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    NotImplementedError,  # a way of packing that Python's library has not
    RuntimeError,  # a password is wanted
)
"""What the library raises for an archive that cannot be read."""

_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_BY_MEMBER = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsx",
    "META-INF/container.xml": "epub",
}


class Package:
    """A ZIP archive that is being read.

    Args:
        content: All of it.

    Raises:
        UnreadableFile: It is damaged, or has too many files.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except _DAMAGES as error:
            raise UnreadableFile("invalid_file", "The file is a damaged ZIP archive.") from error
        if len(self._zip.infolist()) > _MAX_FILES:
            raise UnreadableFile("invalid_file", f"The archive has more than {_MAX_FILES} files. Split it.")
        self._names = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        self._taken = 0

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """The names of its files, in its order."""
        return iter(self._names)

    def read(self, name: str) -> bytes:
        """One file of it.

        Raises:
            KeyError: There is none of this name.
            UnreadableFile: It is damaged, encrypted, or over a limit.
        """
        info = self._names[name]
        if info.flag_bits & 1:
            raise UnreadableFile("invalid_file", "The file is encrypted. Upload a copy that opens without a password.")
        parts: list[bytes] = []
        length = 0
        try:
            with self._zip.open(info) as file:
                while part := file.read(_STEP):
                    parts.append(part)
                    length += len(part)
                    self._taken += len(part)
                    if self._taken > _MAX_BYTES or (
                        length > _SMALL and length > _MAX_RATIO * max(info.compress_size, 1)
                    ):
                        raise UnreadableFile("invalid_file", "The file holds far more than its size lets expect.")
        except _DAMAGES as error:
            raise UnreadableFile("invalid_file", "The file is damaged: a part of it cannot be unpacked.") from error
        return b"".join(parts)


def package_of(content: bytes) -> str | None:
    """What a container holds: ``docx``, ``pptx``, ``xlsx``, ``odt``, ``ods``, ``odp``, ``epub``, ``zip``; of
    Microsoft's older container ``xls``, ``msg``, ``encrypted`` or ``ole``; None for what is no
    container, or a damaged archive."""
    if content.startswith(b"PK\x03\x04"):
        return _zip_kind(content)
    if content.startswith(olefile.MAGIC):
        return _ole_kind(content)
    return None


def _zip_kind(content: bytes) -> str | None:
    try:
        package = Package(content)
    except UnreadableFile:
        return "zip" if zipfile.is_zipfile(io.BytesIO(content)) else None
    if "mimetype" in package:
        try:
            kind = package.read("mimetype")[:100].decode("ascii", "replace").strip()
        except UnreadableFile:
            return None
        if kind.startswith(_OPEN_DOCUMENT):
            return {"text": "odt", "spreadsheet": "ods", "presentation": "odp"}.get(
                kind.removeprefix(_OPEN_DOCUMENT).removesuffix("-template"), "zip"
            )
    return next((kind for member, kind in _BY_MEMBER.items() if member in package), "zip")


def _ole_kind(content: bytes) -> str | None:
    try:
        with olefile.OleFileIO(io.BytesIO(content)) as ole:
            if ole.exists("__properties_version1.0"):
                return "msg"
            if ole.exists("EncryptedPackage"):
                return "encrypted"
            if ole.exists("Workbook") or ole.exists("Book"):
                return "xls"
    except Exception:  # noqa: BLE001 - olefile raises whatever comes of a damaged container: IndexError, struct.error, its own
        return "ole"
    return "ole"
