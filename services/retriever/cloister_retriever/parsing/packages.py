"""Containers of files: ZIP archives, and what Office and others make of them, read under limits of our own.

An archive says of each file how long it is, and it may lie: so every file is read in parts, and what comes out is
counted. Names are names only. Nothing is written anywhere, so that no path in an archive leads anywhere.
"""

import io
import itertools
import lzma
import re
import stat
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

_NAMES_ARE_UTF8 = 0x800
"""A flag of the ZIP format; without it Python takes a name as what DOS had."""

_SMALL = 1024 * 1024
_STEP = 256 * 1024

_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    NotImplementedError,  # a way of packing that Python's library has not
    RuntimeError,  # a password is wanted
)
"""What the library raises for an archive that cannot be read."""

_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OPEN_DOCUMENTS = {
    "text": "odt",
    "text-master": "odt",
    "text-web": "odt",
    "spreadsheet": "ods",
    "presentation": "odp",
    "graphics": "odp",
}
_BY_TYPE = (
    (re.compile(rb"(?:wordprocessingml|ms-word)\.[\w.]{1,60}\.main\+xml"), "docx"),
    (re.compile(rb"(?:presentationml|ms-powerpoint)\.[\w.]{1,60}\.main\+xml"), "pptx"),
    (re.compile(rb"vnd\.ms-excel\.sheet\.binary\.[\w.]{1,60}\.main\""), "xlsb"),
    (re.compile(rb"(?:spreadsheetml|ms-excel)\.[\w.]{1,60}\.main\+xml"), "xlsx"),
    (re.compile(rb"vnd\.ms-visio\.[\w.]{1,60}\.main\+xml"), "visio"),
    (re.compile(rb"vnd\.ms-package\.xps-|application/oxps"), "xps"),
)
"""What an Office file says of its main part, which may have any name: documents, templates and shows, with macros or
without (ECMA-376, part 2, 7.2.3)."""

_BY_MEMBER = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsb",
    "META-INF/container.xml": "epub",
    "Index/Document.iwa": "iwork",
    "Index.zip": "iwork",
}


class Package:
    """A ZIP archive that is being read.

    Args:
        content: All of it.

    Attributes:
        links: Names that lead elsewhere, in whatever file system the archive was made of. Nothing follows them.

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
        self._names: dict[str, zipfile.ZipInfo] = {}
        self.links: list[str] = []
        for info in self._zip.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                self.links.append(info.filename)
            elif not info.is_dir():
                # Some programs part folders as Windows does.
                info.filename = _name(info).replace("\\", "/")
                # Of several files of one name each is one; what looks for the name gets the first.
                again = itertools.count(2)
                while info.filename in self._names:
                    info.filename = f"{info.filename} ({next(again)})"
                self._names[info.filename] = info
        self._folded = {name.casefold(): name for name in reversed(self._names)}
        self._taken = 0

    def __contains__(self, name: str) -> bool:
        """Whether it has a file of this name, or one that differs in capital letters only, as Office takes them."""
        return name in self._names or name.casefold() in self._folded

    def __iter__(self) -> Iterator[str]:
        """The names of its files, in its order."""
        return iter(self._names)

    def read(self, name: str) -> bytes:
        """One file of it.

        Raises:
            KeyError: There is none of this name.
            UnreadableFile: It is damaged, encrypted, or over a limit.
        """
        info = self._names.get(name) or self._names[self._folded[name.casefold()]]
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


def _name(info: zipfile.ZipInfo) -> str:
    """A file's name, also where it is in UTF-8 and the archive does not say so, as macOS makes them."""
    if info.flag_bits & _NAMES_ARE_UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def package_of(content: bytes) -> str | None:
    """What a container holds: ``docx``, ``pptx``, ``xlsx``, ``xlsb``, ``odt``, ``ods``, ``odp``, ``epub``, ``zip``, or
    what is not read, ``visio``, ``xps``, ``iwork`` and other ``opendocument``; of Microsoft's older container ``xls``,
    ``msg``, ``encrypted`` or ``ole``; None for what is no container, or a damaged archive."""
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
            name = kind.removeprefix(_OPEN_DOCUMENT).removesuffix("-template").removesuffix("-flat-xml")
            return _OPEN_DOCUMENTS.get(name, "opendocument")
        if kind == "application/epub+zip":
            return "epub"
    if "[Content_Types].xml" in package:
        try:
            types = package.read("[Content_Types].xml")
        except UnreadableFile:
            return "zip"
        said = next((kind for pattern, kind in _BY_TYPE if pattern.search(types)), None)
        if said is not None:
            return said
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
