"""Text in the encodings that files have: by its mark, by what it says of itself, or guessed. A corpus made here."""

import time

import pytest
from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.reader import Reader

GERMAN = "Die Geschäftsführung prüft den Antrag. Überstunden werden vergütet, maßvoll. "
FRENCH = "L’employé a droit à vingt-cinq jours de congés payés, dès la première année. "
SPANISH = "El empleado tiene veinticinco días de vacaciones al año; pídalas con antelación. "
POLISH = "Każdy pracownik ma prawo do urlopu wypoczynkowego. Wniosek należy złożyć u przełożonego. "
CZECH = "Každý zaměstnanec má nárok na dovolenou. Žádost předložte nadřízenému včas. "
TURKISH = "Yıllık izin yirmi gündür. Başvuruyu önceden müdürünüze yapınız. "
RUSSIAN = "Сотрудник имеет право на отпуск в двадцать дней. "
GREEK = "Η άδεια είναι είκοσι ημέρες τον χρόνο. "
HEBREW = "חופשה שנתית היא עשרים יום. "
ARABIC = "الإجازة السنوية عشرون يوما. "
JAPANESE = "年次有給休暇は二十日です。申請は上司に提出してください。"
CHINESE = "年假为二十天。请向您的上级提交申请。"
TAIWANESE = (
    "\u5e74\u5047\u70ba\u4e8c\u5341\u5929\u3002\u8acb\u5411\u60a8\u7684\u4e0a\u7d1a\u63d0\u4ea4\u7533\u8acb\u3002"
)
KOREAN = "연차 휴가는 이십일입니다. 상사에게 신청하십시오. "
PLAIN = "All staff have a laptop. The office opens at eight and closes at six in the evening. "


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((GERMAN, name) for name in ("cp1252", "iso8859-1", "iso8859-15", "cp850", "mac-roman")),
        *((FRENCH, name) for name in ("cp1252", "mac-roman")),
        *((SPANISH, name) for name in ("cp1252", "iso8859-1", "cp850")),
        *((text, name) for text in (POLISH, CZECH) for name in ("cp1250", "iso8859-2", "cp852")),
        *((TURKISH, name) for name in ("cp1254", "iso8859-9")),
        *((RUSSIAN, name) for name in ("cp1251", "koi8-r", "cp866", "iso8859-5")),
        *((GREEK, name) for name in ("cp1253", "iso8859-7", "cp737")),
        (HEBREW, "cp1255"),
        (ARABIC, "cp1256"),
        *((JAPANESE, name) for name in ("shift_jis", "euc_jp", "iso2022_jp")),
        *((CHINESE, name) for name in ("gb18030", "gbk", "hz")),
        (TAIWANESE, "big5"),
        *((KOREAN, name) for name in ("cp949", "euc_kr")),
    ],
)
def test_text_in_an_old_encoding_is_read(text: str, encoding: str) -> None:
    assert decode((text * 20).encode(encoding)).text == text * 20


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_unicode_is_read_with_its_mark_or_without(encoding: str) -> None:
    text = "Gr\u00f6\u00dfe: \u65e5\u672c \U0001f600, and words"
    assert decode(text.encode(encoding)) == (text, None)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Stra\u00dfe;Gr\u00f6\u00dfe\nHauptstra\u00dfe;gro\u00df\n", "cp1252"),
        ("Gr\u00f6\u00dfe, K\u00e4se, \u00c4pfel, \u00d6l, \u00dcbung, Ma\u00df", "cp437"),
        ("pr\u00e9nom;\u00e2ge\n\u00c9lodie;30\n", "cp1252"),
        ("l\u2019\u00e9t\u00e9 \u00e0 la mer", "cp1252"),
        ("Ka\u017cdy by\u0142 w \u0141odzi.", "cp1250"),
        ("\u00c5ngstr\u00f6m;H\u00e4me\n\u00c4iti;\u00d6ljy\n", "cp1252"),
        ("col\u00b7legi, S\u00e3o Jos\u00e9", "cp1252"),
    ],
)
def test_a_line_of_an_old_encoding_makes_words(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "a.html",
            "<html><body><script>bad()</script><p>Gr\u00fc\u00dfe an alle</p></body></html>",
            "Gr\u00fc\u00dfe an alle",
        ),
        ("a.csv", "name;Betrag\r\n\u00c4nne;3,50\r\n", "name | Betrag\nname: \u00c4nne | Betrag: 3,50"),
        (
            "a.eml",
            "From: a@b.c\nMessage-ID: <a>\nSubject: Gr\u00fc\u00dfe\nTo: d\n\nan alle",
            "Gr\u00fc\u00dfe\n\nFrom: a@b.c\nTo: d\n\nan alle",
        ),
        ("a.rtf", "{\\rtf1\\ansi\\pard an alle\\par}", "an alle"),
        ("a.mbox", "From a Mon Jan  1 10:00:00 2024\nFrom: a@b.c\nSubject: b\n\nan alle\n", "an alle"),
    ],
)
def test_a_file_of_wide_characters_is_what_it_is(name: str, content: str, found: str, encoding: str, mark: str) -> None:
    text = Reader(100_000).read((mark + content).encode(encoding), name).text
    assert found in text
    assert not any(word in text for word in ("<p>", "bad()", "Message-ID", "rtf1"))


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("gb2312", "gbk", "\u9555\u57fa"),
        ("shift_jis", "cp932", "\u2460\u9ad9"),
        ("iso-8859-9", "cp1254", "\u20ac\u011f"),
        ("euc-kr", "cp949", "\ub620"),
        ("iso-8859-1", "cp1252", "\u201ca\u201d \u20ac"),
    ],
)
def test_what_calls_itself_so_is_what_everybody_means_by_it(declared: str, encoding: str, text: str) -> None:
    page = f"<html><meta charset={declared}><p>{text}"
    assert text in Reader(10_000).read(page.encode(encoding), "a.html").text


@pytest.mark.parametrize("declared", ["utf-16", "cp037", "rot13", "base64", "idna", "nonsense"])
def test_what_a_file_cannot_be_in_is_not_believed(declared: str) -> None:
    page = f"<html><meta charset={declared}><p>{GERMAN}"
    assert GERMAN.strip() in Reader(10_000).read(page.encode("cp1252"), "a.html").text


def test_one_bad_byte_does_not_disprove_what_a_page_says_of_itself() -> None:
    page = f"<html><meta charset=koi8-r><p>{RUSSIAN * 3}".encode("koi8-r")
    cut = f"<html><meta charset=euc-jp><p>{JAPANESE * 3}".encode("euc_jp") + b"\x8f"
    assert RUSSIAN.strip() in Reader(10_000).read(page, "a.html").text
    assert JAPANESE in Reader(10_000).read(cut, "a.html").text


def test_marks_in_the_middle_and_halves_of_characters_are_no_damage() -> None:
    assert decode("\ufeffone\ufefftwo".encode()).text.replace("\ufeff", "") == "onetwo"
    assert Reader(10_000).read("one\ufefftwo".encode(), "a.txt").text == "onetwo"
    halves = "\U0001f600 na\u00efve".encode("utf-16-be")
    cesu = b"".join(
        chr(int.from_bytes(halves[at : at + 2])).encode("utf-8", "surrogatepass") for at in range(0, len(halves), 2)
    )
    assert decode(cesu) == ("\U0001f600 na\u00efve", None)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN * 10 + "It costs \u00a35 or 3 \u20ac.",
        "Gr\u00fc\u00dfe aus M\u00fcnchen: die Gr\u00f6\u00dfe betr\u00e4gt 5 m\u00b2.",
        "Prix\u00a0: 12,50 \u20ac l\u2019unit\u00e9 \u2014 livraison \u00ab gratuite \u00bb d\u00e8s 30 \u20ac.",
        PLAIN + "It\u2019s \u201cfine\u201d.",
        PLAIN * 3 + "It is 20 \u00b0C \u00b1 2.",
        "caf\u00e9",
        "100 \u20ac",
    ],
)
def test_a_few_signs_of_windows_are_read_as_such(text: str) -> None:
    assert decode(text.encode("cp1252")).text == text


@pytest.mark.parametrize("stray", [b"caf\xe9. ", b"\x96 ", b"\xe2\x80", b"\xff"])
def test_a_bad_byte_in_utf8_spoils_one_character_and_is_told(stray: bytes) -> None:
    text, note = decode((GERMAN * 10).encode() + stray + (GERMAN * 10).encode())
    assert text.startswith(GERMAN * 10)
    assert text.endswith(GERMAN * 10)
    assert text.count("\ufffd") == 1
    assert note is not None
    assert "could not be read" in note


@pytest.mark.parametrize(("text", "encoding"), [(JAPANESE, "shift_jis"), (CHINESE, "gb18030"), (TAIWANESE, "big5")])
@pytest.mark.parametrize("lead", ["", "x"])
def test_a_large_file_is_looked_at_as_a_whole(text: str, encoding: str, lead: str) -> None:
    whole = lead + text * 10_000
    started = time.process_time()
    assert decode(whole.encode(encoding)).text == whole
    assert time.process_time() - started < 5


def test_what_tells_the_encoding_may_be_at_the_end_of_a_large_file() -> None:
    text = PLAIN * 20_000 + CZECH * 20
    assert decode(text.encode("cp1250")).text == text


@pytest.mark.parametrize(("text", "encoding", "bad"), [(TAIWANESE, "big5", b"\x8f\xfe"), (GERMAN, "cp1252", b"\x81")])
def test_a_bad_byte_in_an_old_encoding_is_no_proof_of_another(text: str, encoding: str, bad: bytes) -> None:
    whole = (text * 50).encode(encoding) + bad + (text * 50).encode(encoding)
    assert decode(whole).text.startswith(text * 50)


def test_a_guess_that_may_be_wrong_is_told_and_one_that_is_sure_is_not() -> None:
    assert "may be wrong" in (decode(b"caf\xe9 na\xefve").note or "")
    assert decode((GERMAN * 20).encode("cp1252")).note is None


def test_a_language_that_is_expected_decides_between_encodings_that_both_fit() -> None:
    content = "\u0421\u0442\u0435\u043d\u0430".encode("cp1251")
    assert decode(content, languages=["ru", "uk", "bg"]).text == "\u0421\u0442\u0435\u043d\u0430"


@pytest.mark.parametrize("declared", ["windows-1250", "ISO-8859-2"])
def test_what_a_file_says_of_its_encoding_is_believed_where_it_fits(declared: str) -> None:
    assert decode("z\u0142o\u017cy\u0107".encode(declared), declared=declared).text == "z\u0142o\u017cy\u0107"
    assert decode("z\u0142o\u017cy\u0107".encode(), declared=declared).text == "z\u0142o\u017cy\u0107"


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)) * 20, b"\x00\x01\x02" * 500, b"\x07\x08" * 500 + b"\xe4", b"\x00\x01\x02binary\x00" * 50],
)
def test_garbage_is_no_text(content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="not text"):
        decode(content)


_EAST = (
    "\u8fd9\u662f\u4e00\u4efd\u4e2d\u6587\u6587\u4ef6\uff0c\u5e94\u5f53\u88ab\u6b63\u786e\u8bfb\u53d6\u3002\u4f1a\u8bae\u660e\u5929\u4e0b\u5348\u5f00\u59cb\u3002"
    * 3
)
_KANA = (
    "\u3053\u308c\u306f\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u4f1a\u8b70\u306f\u660e\u65e5\u306e\u5348\u5f8c\u306b\u59cb\u307e\u308a\u307e\u3059\u3002"
    * 3
)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [_EAST, _KANA])
def test_text_of_east_asia_in_two_bytes_needs_no_mark_and_no_ascii(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("encoding", ["cp037", "cp273", "cp500"])
def test_a_mainframes_text_is_read_and_told(encoding: str) -> None:
    text = "Die W\u00e4rmepumpe l\u00e4uft in gr\u00f6\u00dferen Geb\u00e4uden \u00fcber Nacht. " * 3
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert decoded.note is not None
    assert "EBCDIC" in decoded.note
