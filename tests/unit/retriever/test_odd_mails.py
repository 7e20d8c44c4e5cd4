"""Mails as they come: signed, encrypted, forwarded within each other, in Outlook's wrapping, with bytes in heads."""

import base64
import contextlib
import datetime
import struct
from email.message import EmailMessage

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.reader import Reader
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

_HEAD = "From: ada@example.com\nTo: bob@example.com\nSubject: Leave\nMessage-ID: <1>\nMIME-Version: 1.0\n"


def read(content: bytes, name: str = "a.eml") -> Document:
    return Reader(1_000_000).read(content, name)


def signed(content: bytes) -> bytes:
    """What was signed, in one piece with its signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ada")])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=1))
    ).sign(key, SHA256())
    builder = PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, SHA256())
    return builder.sign(Encoding.DER, [PKCS7Options.Binary])


def wrapped(content: bytes, kind: str) -> bytes:
    head = f"{_HEAD}Content-Type: application/pkcs7-mime; smime-type={kind}; name=smime.p7m\n"
    return f"{head}Content-Transfer-Encoding: base64\n\n".encode() + base64.encodebytes(content)


_INNER = b"Content-Type: text/plain\n\nTwenty-five days.\n"


def test_a_mail_that_was_signed_in_one_piece_is_read() -> None:
    document = read(wrapped(signed(_INNER), "signed-data"))
    assert document.text.endswith("Twenty-five days.")
    assert document.notes == []


def test_what_was_signed_in_a_stream_is_in_parts_without_a_length() -> None:
    parts = b"".join(b"\x04" + bytes([len(part)]) + part for part in (_INNER[:20], _INNER[20:]))
    data = bytes.fromhex("06092a864886f70d010701") + b"\xa0\x80\x24\x80" + parts + bytes(4)
    whole = (
        b"\x30\x80" + bytes.fromhex("06092a864886f70d010702") + b"\xa0\x80\x30\x80\x02\x01\x01\x31\x00\x30\x80" + data
    )
    assert read(wrapped(whole, "signed-data")).text.endswith("Twenty-five days.")


def test_an_encrypted_mail_says_so() -> None:
    sealed = bytes.fromhex("3080060a2a864886f70d010703a080")
    document = read(wrapped(sealed, "enveloped-data"))
    assert document.text.startswith("Leave")
    assert document.notes == [
        "The mail is encrypted with S/MIME, and was not read: save it from a mail program that opens it."
    ]
    parts = "--s\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--s\n\n-----BEGIN PGP MESSAGE-----\n--s--\n"
    document = read(f'{_HEAD}Content-Type: multipart/encrypted; boundary="s"\n\n{parts}'.encode())
    assert "BEGIN" not in document.text
    assert "PGP" in document.notes[0]


def test_a_mail_within_a_mail_has_its_own_files() -> None:
    inner, outer = EmailMessage(), EmailMessage()
    for message, subject in ((inner, "inner"), (outer, "outer")):
        message["Subject"], message["From"], message["To"] = subject, "ada@example.com", "bob@example.com"
        message["Message-ID"] = "<1@example.com>"
        message.set_content(f"words of the {subject}")
    inner.add_attachment(b"Name,Town\nAda,Ulm\n", maintype="text", subtype="csv", filename="t.csv")
    outer.add_attachment(inner)
    document = read(outer.as_bytes())
    last = document.segments[-1]
    assert last.section == "mail.eml > t.csv"
    assert "Name: Ada | Town: Ulm" in document.text[last.start :]


def tnef(attributes: list[tuple[int, bytes]]) -> bytes:
    made = b"".join(
        b"\x01" + struct.pack("<HHI", number, 1, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
        for number, data in attributes
    )
    return struct.pack("<IH", 0x223E9F78, 1) + made


def test_the_files_in_winmail_dat_are_read_under_their_names() -> None:
    name = "M\u00e4rz.csv\0".encode("utf-16-le")
    about = struct.pack("<IHHII", 1, 0x1F, 0x3707, 1, len(name)) + name + bytes(-len(name) % 4)
    content = tnef(
        [
            *((0x8004, b"Leave\0"), (0x800C, b"Twenty-five days.\0")),
            *((0x9002, bytes(14)), (0x8010, b"MRZ~1.CSV\0"), (0x800F, b"Name,Town\nAda,Ulm\n"), (0x9005, about)),
            *((0x9002, bytes(14)), (0x8010, b"b.txt\0"), (0x800F, b"second file")),
        ]
    )
    message = EmailMessage()
    message["From"], message["To"], message["Message-ID"] = "ada@example.com", "bob@example.com", "<1@example.com>"
    message.set_content("see the file")
    message.add_attachment(content, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    text = read(message.as_bytes()).text
    assert "M\u00e4rz.csv\n\nName | Town\nName: Ada | Town: Ulm\n\nb.txt\n\nsecond file" in text
    for end in range(4, len(content), 7):
        with contextlib.suppress(UnreadableFile):
            read(content[:end], "winmail.dat")


def test_bytes_in_a_head_are_letters() -> None:
    for encoding in ("utf-8", "cp1252"):
        head = (
            _HEAD.replace("ada@", "J\u00f6rg M\u00fcller <ada@")
            .replace(".com\nTo", ".com>\nTo")
            .replace("Leave", "Pr\u00fcfung")
        )
        text = read(f"{head}\nwords\n".encode(encoding)).text
        assert text.startswith("Pr\u00fcfung\n\nFrom: J\u00f6rg M\u00fcller <ada@example.com>")


def test_a_head_that_is_no_text_leaves_the_mail_to_be_read() -> None:
    head = _HEAD.encode().replace(b"Leave", b"\x81\x8d\x8f\x90\x9d")
    body = "words of the body " * 20
    assert read(head + f"\n{body}\n".encode()).text == f"From: ada@example.com\nTo: bob@example.com\n\n{body.strip()}"


def test_damaged_words_in_winmail_dat_leave_its_files_to_be_read() -> None:
    packed = struct.pack("<II", 20, 8) + b"XXXX" + bytes(12)
    about = struct.pack("<IHHII", 1, 0x102, 0x1009, 1, len(packed)) + packed
    files = [(0x9002, bytes(14)), (0x8010, b"b.txt\0"), (0x800F, b"second file")]
    document = read(tnef([(0x8004, b"\x80\x01\x02\x03\x04\x81"), (0x9003, about), *files]), "winmail.dat")
    assert document.text == "b.txt\n\nsecond file"
    assert document.notes == ["The words of the mail are damaged, and were not read."]


def test_a_mail_in_utf7_is_read_as_it_says() -> None:
    body = "Die W\u00e4rmepumpe l\u00e4uft".encode("utf-7").decode()
    assert "W\u00e4rmepumpe" in read(f"{_HEAD}Content-Type: text/plain; charset=utf-7\n\n{body}\n".encode()).text
