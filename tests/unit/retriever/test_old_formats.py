"""What offices wrote twenty years ago: Word's one XML file, forms in XFA, files in the words of a mail, rich text with
margins, comments, boxes and pictures."""

import base64
import binascii
import io

import pytest
from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.document import Document
from cloister_retriever.parsing.reader import Reader
from PIL import Image

_W = "http://schemas.microsoft.com/office/word/2003/wordml"
_HEAD = "From: ada@example.com\nTo: bob@example.com\nSubject: Plans\nMessage-ID: <1@example.com>\n\n"


def read(content: bytes, name: str = "a.bin") -> Document:
    limits = PictureLimits(10, 1_000_000, 1_000_000, 60.0)
    return Reader(1_000_000, album=Album(limits)).read(content, name)


def drawing() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).save(out, "PNG")
    return out.getvalue()


def of_pictures(document: Document) -> list[str | None]:
    """What is said of each picture."""
    return [one.described and document.text[slice(*one.described)] for one in document.pictures]


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def word_2003(body: str) -> bytes:
    return (
        '<?xml version="1.0" standalone="yes"?><?mso-application progid="Word.Document"?>'
        f'<w:wordDocument xmlns:w="{_W}" xmlns:v="urn:schemas-microsoft-com:vml" xmlns:aml="urn:aml" '
        'xmlns:wx="urn:wx"><w:styles><w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
        f"</w:styles><w:docPr/><w:body><wx:sect>{body}</wx:sect></w:body></w:wordDocument>"
    ).encode()


def test_words_xml_of_2003_is_read_as_a_word_document_is() -> None:
    content = word_2003(
        f'<wx:sub-section><w:p><w:pPr><w:pStyle w:val="H1"/></w:pPr>{run("Leave")}</w:p>'
        f"<w:p>{run('Days')}<w:r><w:footnote><w:p>{run('in a year')}</w:p></w:footnote></w:r>{run(' are 25.')}"
        f'<aml:annotation w:type="Word.Comment"><aml:content><w:p>{run("really?")}</w:p></aml:content></aml:annotation>'
        '<aml:annotation w:type="Word.Deletion"><aml:content><w:r><w:delText>gone</w:delText></w:r></aml:content>'
        "</aml:annotation></w:p>"
        f"<w:p><w:pPr><w:listPr><w:ilvl w:val='0'/></w:listPr></w:pPr>{run('an item')}</w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('Class')}</w:p></w:tc><w:tc><w:p>{run('Hours')}</w:p></w:tc></w:tr></w:tbl>"
        f'<w:p><w:r><w:pict><w:binData w:name="wordml://1.png">{base64.b64encode(drawing()).decode()}</w:binData>'
        '<v:shape alt="A slope of grey"><v:imagedata src="wordml://1.png"/></v:shape></w:pict></w:r></w:p>'
        f'</wx:sub-section><w:sectPr><w:hdr w:type="odd"><w:p>{run("Harbour office")}</w:p></w:hdr></w:sectPr>'
    )
    document = read(content, "a.xml")
    assert document.text == (
        "Harbour office\n\nLeave\n\nDays are 25.\n\n- an item\n\nClass | Hours\n\n"
        "A slope of grey\n\nin a year\n\nreally?"
    )
    assert document.segments[-1].section == "Leave"
    assert of_pictures(document) == ["A slope of grey"]
    assert document.notes == []


def test_a_flat_open_document_has_its_pictures_and_margins() -> None:
    spaces = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document xmlns:office="{spaces}:office:1.0" xmlns:text="{spaces}:text:1.0" '
        f'xmlns:draw="{spaces}:draw" '
        f'xmlns:style="{spaces}:style:1.0" xmlns:svg="{spaces}:svg" '
        'office:mimetype="application/vnd.oasis.opendocument.text"><office:master-styles><style:master-page>'
        "<style:header><text:p>Harbour office</text:p></style:header><style:footer><text:p>12</text:p></style:footer>"
        "</style:master-page></office:master-styles><office:body><office:text><text:p>words<draw:frame><draw:image>"
        f"<office:binary-data>{base64.b64encode(drawing()).decode()}</office:binary-data></draw:image>"
        "<svg:desc>A slope of grey</svg:desc></draw:frame></text:p></office:text></office:body></office:document>"
    )
    document = read(content.encode(), "a.fodt")
    assert document.text == "Harbour office\n\nwords\n\nA slope of grey"
    assert of_pictures(document) == ["A slope of grey"]


def test_rich_text_has_its_margins_comments_boxes_and_pictures() -> None:
    digits = binascii.hexlify(drawing(), "\n", 64)
    content = (
        rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\ftnsep \chftnsep}"
        rb"{\header\pard Harbour {\b office}\par}{\footer\pard\chpgn 12\par}\sectd"
        rb"\pard The ferry{\*\atnid AE}{\*\atnauthor Ada}\chatn{\*\annotation{\*\atndate 12}\pard really?\par} leaves"
        rb" at{\shp{\*\shpinst\shpleft0{\sp{\sn shapeType}{\sv 202}}{\shptxt\pard in a box\par}}"
        rb"{\shprslt{\*\do in a box}}}"
        rb" seven.{\*\shppict{\pict{\*\picprop{\sp{\sn wzDescription}{\sv A slope of gr\u233?y}}}\pngblip"
        + b"{\\*\\blipuid 00ff}\n"
        + digits
        + rb"}}{\nonshppict{\pict\wmetafile8 0102}}\par{\header Harbour office\par}\pard end\par}"
    )
    document = read(content)
    assert document.text == (
        "Harbour office\n\nin a box\n\nThe ferry leaves at seven.\n\nA slope of gr\u00e9y\n\nend\n\nreally?"
    )
    assert of_pictures(document) == ["A slope of gr\u00e9y"]


def test_a_picture_in_rich_text_may_be_in_bytes() -> None:
    picture = drawing()
    content = rb"{\rtf1\ansi words {\pict\pngblip\bin%d " % len(picture) + picture + rb"} and more\par}"
    document = read(content)
    assert document.text == "words  and more"
    assert len(document.pictures) == 1


@pytest.mark.parametrize("end", range(29, 300, 7))
def test_rich_text_that_was_cut_off_is_read_so_far(end: int) -> None:
    content = (
        rb"{\rtf1\ansi\deff0 words{\header above\par}{\shp{\*\shpinst{\shptxt box {\header inner\par}\par}}}"
        rb"{\*\annotation said {\pict\pngblip 01 {\header\header}}}{\*\shppict{\pict{\*\picprop{\sp{\sn wzDescription}"
        rb"{\sv text}}}89}} more\trowd\intbl one\cell{\*\annotation\intbl two\cell\row}\row\pard end\par}"
    )[:end]
    assert "words" in read(content).text


def xfa(packets: dict[str, str], *, shown: str = "Please wait") -> bytes:
    """A PDF that shows a page, and has a form in XFA beside it."""
    parts = [
        b"<</Type/Catalog/Pages 2 0 R/NeedsRendering true/AcroForm<</Fields[]/XFA[%s]>>>>"
        % b"".join(b"(%s) %d 0 R " % (name.encode(), number) for number, name in enumerate(packets, 6)),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        stream(f"BT /F 12 Tf 20 250 Td ({shown}) Tj ET"),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *map(stream, packets.values()),
    ]
    numbered = b"\n".join(b"%d 0 obj%s endobj" % (number, one) for number, one in enumerate(parts, 1))
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + numbered + b"\ntrailer<</Root 1 0 R>>\n%%EOF"


def stream(text: str) -> bytes:
    return b"<</Length %d>>stream\n%s\nendstream" % (len(text.encode()), text.encode())


TEMPLATE = (
    '<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><subform><draw><value><text>Application for leave'
    '</text></value></draw><field name="nm"><caption><value><text>Full name</text></value></caption></field>'
    '<field name="town"/></subform></template>'
)
DATA = (
    '<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form><nm>Ada Example</nm><row><town>'
    "London</town></row><row><town>Paris</town></row><empty/><why><body xmlns='http://www.w3.org/1999/xhtml'><p>To "
    "<b>rest</b></p></body></why><photo xfa:contentType='image/png'>AAAA</photo></form></xfa:data></xfa:datasets>"
)
FILLED = "Please wait\n\nApplication for leave\n\nFull name: Ada Example\ntown: London\ntown: Paris\nwhy: To rest"


@pytest.mark.parametrize(
    "packets",
    [
        {"preamble": "<xdp>", "template": TEMPLATE, "datasets": DATA, "postamble": "</xdp>"},
        {"": f"<xdp>{TEMPLATE}{DATA}</xdp>"},
    ],
)
def test_what_was_filled_into_a_form_in_xfa_is_read(packets: dict[str, str]) -> None:
    document = read(xfa(packets), "a.pdf")
    assert document.text == FILLED
    assert document.notes == []


def test_a_form_in_xfa_that_is_damaged_is_told() -> None:
    document = read(xfa({"config": "<config/>", "datasets": " "}), "a.pdf")
    assert document.text == "Please wait"
    assert document.notes == [
        "The PDF has a form in XFA, of which only what its pages show was read: print it as a PDF."
    ]


def uuencoded(name: str, content: bytes, *, newline: str = "\n") -> str:
    lines = [binascii.b2a_uu(content[at : at + 45]).decode().rstrip("\n") for at in range(0, len(content), 45)]
    return newline.join([f"begin 644 {name}", *lines, "`", "end", ""])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_in_the_words_of_an_old_mail_are_attachments(newline: str) -> None:
    table = b"Name,Town\n" + b"".join(b"Ada%d,Ulm\n" % number for number in range(20))
    body = (
        f"See below.\n{uuencoded('staff.csv', table)}\n{uuencoded('a note.txt', b'of two')}Yours\n"
        "begin 644 words\nthat only look so\nend\n"
    )
    document = read((_HEAD + body).replace("\n", newline).encode(), "a.eml")
    assert "See below.\n\nYours\nbegin 644 words\nthat only look so\nend\n\nstaff.csv\n\nName | Town\n" in document.text
    assert "Name: Ada19 | Town: Ulm\n\na note.txt\n\nof two" in document.text


@pytest.mark.parametrize("name", ["", "/", "a" * 70_000])
def test_a_part_that_no_container_can_have_is_passed_over(name: str) -> None:
    space = "http://schemas.microsoft.com/office/2006/xmlPackage"
    part = f'<pkg:part pkg:name="{name}"><pkg:xmlData><a/></pkg:xmlData></pkg:part>'
    package = f'<pkg:package xmlns:pkg="{space}">{part}<pkg:part/></pkg:package>'
    Reader(1_000_000).read(package.encode(), "a.xml")
