"""EML: the mail's head and words, and the files that came with it."""

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.letters import Enclosure, begin_letter, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.pages import write_page

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
_MAX_PARTS = 1_000
_DEEPEST = 20


def _parse(source: Source) -> Document:
    # A mark or blanks before the first field would make it part of the body.
    content = source.content.removeprefix(b"\xef\xbb\xbf").lstrip()
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    writer = Writer(source.max_text_bytes)
    begin_letter(writer, _field(message, "Subject"), [(name, _field(message, name)) for name in _SHOWN])
    enclosures: list[Enclosure] = []
    for number, part in enumerate(_parts(message, _DEEPEST)):
        if number > _MAX_PARTS:
            raise UnreadableFile("invalid_file", f"The mail has more than {_MAX_PARTS} parts.")
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload()
            first = inner[0] if isinstance(inner, list) and inner else None
            whole = first.as_bytes() if isinstance(first, EmailMessage) else b""
            enclosures.append(Enclosure(part.get_filename() or "mail.eml", whole))
        elif _is_words(part):
            _write_words(writer, part, source)
        else:
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes) and payload and not _is_decoration(part):
                enclosures.append(Enclosure(part.get_filename() or "", payload))
    write_enclosures(writer, source, enclosures, called="Attachment")
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The mail has no text.")
    return writer.document()


def _parts(message: EmailMessage, deepest: int) -> Iterator[EmailMessage]:
    """What a mail consists of. Of several ways to say the same one is taken: plain text, else HTML."""
    kind = message.get_content_type()
    payload = message.get_payload()
    if not message.is_multipart() or kind == "message/rfc822" or not isinstance(payload, list):
        yield message
        return
    if deepest == 0:
        raise UnreadableFile("invalid_file", f"The mail has parts within parts over {_DEEPEST} levels.")
    parts = [part for part in payload if isinstance(part, EmailMessage)]
    if kind == "multipart/alternative":
        plain = [part for part in parts if part.get_content_type() == "text/plain" and _payload(part).strip()]
        parts = plain[:1] or parts[-1:]
    for part in parts:
        yield from _parts(part, deepest - 1)


def _is_words(part: EmailMessage) -> bool:
    return part.get_content_type() in {"text/plain", "text/html"} and (
        part.get_content_disposition() != "attachment" and part.get_filename() is None
    )


def _is_decoration(part: EmailMessage) -> bool:
    """Whether it is a picture within the words, or a signature."""
    kind = part.get_content_type()
    return (part.get_content_maintype() == "image" and part.get("Content-ID") is not None) or kind in {
        *("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"),
        *("message/delivery-status", "text/rfc822-headers"),
    }


def _write_words(writer: Writer, part: EmailMessage, source: Source) -> None:
    decoded = decode(_payload(part), declared=part.get_content_charset(), languages=source.languages)
    if decoded.note is not None:
        writer.note(decoded.note)
    if part.get_content_type() == "text/html":
        write_page(writer, decoded.text, level=1)
    else:
        writer.paragraph(decoded.text)


def _payload(part: EmailMessage) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _field(message: EmailMessage, name: str) -> str:
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
    if lines[0].startswith(b"From "):
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
