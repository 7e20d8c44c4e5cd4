"""EML: the mail's head and words, and the files that came with it."""

import contextlib
import email
import email.policy
import itertools
import re
from collections.abc import Iterator
from email.message import EmailMessage

from cloister_retriever.parsing.decoding import decode, unmarked, wide_marked
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.letters import Enclosure, begin_letter, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.pages import embedded, write_page
from cloister_retriever.parsing.signed import signed_content
from cloister_retriever.parsing.uuencoded import without_files

__all__ = ["MAIL"]

_SHOWN = ("From", "To", "Cc", "Date")
_OWN = frozenset(
    {
        *("received", "message-id", "return-path", "mime-version", "delivered-to", "dkim-signature", "x-mailer"),
        *("content-type", "content-transfer-encoding", "in-reply-to", "x-received", "thread-topic", "user-agent"),
    }
)
"""Fields that a program writes and no person."""

_COMMON = frozenset({"from", "to", "subject", "date", "cc", "sender", "reply-to"})
_COUNTED = re.compile(rb"(\d{1,10})[ \t]*\r?\n")
"""Apple's mail program begins its files with the mail's length; behind it stands what it notes itself, in XML."""

_NOTED_WITHIN = 100
_MAX_PARTS = 1_000
_DEEPEST = 20


def _parse(source: Source) -> Document:
    # A mark or blanks before the first field would make it part of the body.
    content = unmarked(wide_marked(source.content)).lstrip()
    if (counted := _COUNTED.match(content)) is not None:
        end = counted.end() + int(counted[1])
        is_apples = content[end : end + _NOTED_WITHIN].lstrip().startswith(b"<?xml")
        content = content[counted.end() : end if is_apples else None]
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    writer = Writer(source.max_text_bytes)
    begin_letter(writer, _field(message, "Subject"), [(name, _field(message, name)) for name in _SHOWN])
    enclosures: list[Enclosure] = []
    shown = _shown(message, source)
    for number, part in enumerate(_parts(message, _DEEPEST)):
        if number > _MAX_PARTS:
            raise UnreadableFile("invalid_file", f"The mail has more than {_MAX_PARTS} parts.")
        if (sealed := _sealed(part)) is not None:
            signed = signed_content(_payload(part))
            if signed is None:
                writer.note(
                    f"The mail is encrypted with {sealed}, and was not read: save it from a mail program that opens it."
                )
            else:
                enclosures.append(Enclosure("signed.eml", signed))
        elif part.get_content_type() == "message/rfc822":
            inner = part.get_payload()
            first = inner[0] if isinstance(inner, list) and inner else None
            whole = first.as_bytes() if isinstance(first, EmailMessage) else b""
            enclosures.append(Enclosure(part.get_filename() or "mail.eml", whole))
        elif _is_words(part):
            enclosures += _write_words(writer, part, source, shown)
        else:
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes) and payload and not _is_decoration(part):
                enclosures.append(Enclosure(part.get_filename() or "", payload))
    write_enclosures(writer, source, enclosures, called="Attachment")
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The mail has no text.")
    return writer.document()


def _shown(message: EmailMessage, source: Source) -> dict[str, bytes]:
    """The pictures within the words, by how a page names them (RFC 2392)."""
    if not source.album.takes_any:
        return {}
    pictures = (part for part in itertools.islice(message.walk(), _MAX_PARTS) if part.get_content_maintype() == "image")
    # A page that was saved with its pictures names them by their addresses (RFC 2557).
    named = (
        (_field(part, field).strip().strip("<>"), part.get_payload(decode=True))
        for part in pictures
        for field in ("Content-ID", "Content-Location")
        if part.get(field) is not None
    )
    return {name: content for name, content in named if name and isinstance(content, bytes)}


def _parts(message: EmailMessage, deepest: int) -> Iterator[EmailMessage]:
    """What a mail consists of. Of several ways to say the same one is taken: plain text, else HTML, and of an
    invitation the calendar's entry only where it says nothing else."""
    kind = message.get_content_type()
    payload = message.get_payload()
    if not message.is_multipart() or kind in {"message/rfc822", "multipart/encrypted"} or not isinstance(payload, list):
        yield message
        return
    if deepest == 0:
        raise UnreadableFile("invalid_file", f"The mail has parts within parts over {_DEEPEST} levels.")
    parts = [part for part in payload if isinstance(part, EmailMessage)]
    if kind == "multipart/alternative":
        plain = [part for part in parts if part.get_content_type() == "text/plain" and _payload(part).strip()]
        words = [part for part in parts if part.get_content_type() != "text/calendar"]
        parts = plain[:1] or words[-1:] or parts[-1:]
    for part in parts:
        yield from _parts(part, deepest - 1)


def _sealed(part: EmailMessage) -> str | None:
    """With what a part is encrypted, or signed so that it has to be unwrapped."""
    kind = part.get_content_type()
    if kind in {"application/pkcs7-mime", "application/x-pkcs7-mime"}:
        return "S/MIME"
    return "PGP" if kind == "multipart/encrypted" else None


def _is_words(part: EmailMessage) -> bool:
    return part.get_content_type() in {"text/plain", "text/html"} and (
        part.get_content_disposition() != "attachment" and part.get_filename() is None
    )


def _is_decoration(part: EmailMessage) -> bool:
    """Whether it is a picture within the words, a signature, or how a saved page looks."""
    kind = part.get_content_type()
    within = part.get("Content-ID") is not None or part.get("Content-Location") is not None
    return (part.get_content_maintype() in {"image", "font"} and within) or kind in {
        *("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"),
        *("message/delivery-status", "text/rfc822-headers", "text/css", "text/javascript", "application/javascript"),
    }


def _write_words(writer: Writer, part: EmailMessage, source: Source, shown: dict[str, bytes]) -> list[Enclosure]:
    """Writes a part that is words; gives the files that are among them, as in old mails."""
    decoded = decode(_payload(part), declared=part.get_content_charset(), languages=source.languages)
    if decoded.note is not None:
        writer.note(decoded.note)
    if part.get_content_type() == "text/html":

        def picture_of(address: str) -> int | None:
            content = shown.get(address[:1000].removeprefix("cid:")) or embedded(address)
            return None if content is None else source.album.take(content)

        write_page(writer, decoded.text, level=1, picture_of=picture_of)
        return []
    text, files = without_files(decoded.text)
    writer.paragraph(text)
    return [Enclosure(name, content) for name, content in files]


def _payload(part: EmailMessage) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _field(message: EmailMessage, name: str) -> str:
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
    if any("\udc80" <= char <= "\udcff" for char in raw):
        # Bytes that no mail may have here, or UTF-8, which newer ones may (RFC 6532).
        with contextlib.suppress(UnreadableFile):
            return decode(raw.encode("utf-8", "surrogateescape")).text
        return ""
    try:
        return str(message.get(name, ""))
    except Exception:  # noqa: BLE001 - a field that breaks its own grammar makes Python's parser raise anything
        return ""


def _claims(look: Look) -> bool:
    """Whether a head of fields begins the file: such as no person writes, or any, where the name says a mail."""
    if look.is_binary:
        return False
    names: set[str] = set()
    lines = look.head.lstrip().split(b"\n", 200)
    if lines[0].startswith(b"From ") or (len(lines) > 1 and _COUNTED.fullmatch(lines[0] + b"\n")):
        lines = lines[1:]
    for line in lines[:200]:
        if line[:1] in b" \t" and line.strip() and names:
            continue
        name, colon, _ = line.partition(b":")
        if not colon or not name.replace(b"-", b"").isalnum() or len(name) > 60:
            if line.strip():
                return False
            break
        names.add(name.decode("ascii", "replace").lower())
    if look.name.endswith(".eml"):
        return bool(names & (_COMMON | _OWN))
    return bool(names & _OWN) and len(names & _COMMON) >= 2


MAIL = Kind("mail", called=("EML",), parse=_parse, claims=_claims)
