"""Office files of every make: parts with other names, templates, macros, charts, margins; files that are one XML."""

import pytest
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.reader import Reader

from tests.support.office import zipped
from tests.support.workbooks import relationships

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_A = "http://schemas.openxmlformats.org/drawingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

CHART = (
    f'<c:chartSpace xmlns:c="C" xmlns:a="{_A}"><c:title><a:p><a:r><a:t>Sales by quarter</a:t></a:r></a:p></c:title>'
    '<c:ser><c:tx><c:pt idx="0"><c:v>Pumps</c:v></c:pt></c:tx><c:cat><c:pt idx="0"><c:v>Q1</c:v></c:pt></c:cat>'
    "<c:val><c:formatCode>0%</c:formatCode>"
    '<c:pt idx="0"><c:v>0.25</c:v></c:pt></c:val></c:ser></c:chartSpace>'
)
CHART_READ = "Sales by quarter\n\nCategory | Pumps\nCategory: Q1 | Pumps: 25%"


def read(content: bytes, name: str = "a.bin") -> Document:
    return Reader(1_000_000).read(content, name)


def run(text: str, properties: str = "") -> str:
    return f"<w:r>{properties}<w:t>{text}</w:t></w:r>"


def paragraph(*runs: str) -> str:
    return f"<w:p>{''.join(runs)}</w:p>"


def word(
    body: str,
    *,
    part: str = "word/document.xml",
    kind: str = "wordprocessingml.document",
    space: str = _W,
    **beside: str,
) -> bytes:
    """A Word document with its main part anywhere, and parts beside it by their kinds."""
    folder, _, name = part.rpartition("/")
    around = f'xmlns:w="{space}" xmlns:r="{_R}" xmlns:a="{_A}" xmlns:c="C"'
    return zipped(
        {
            "[Content_Types].xml": f'<Types><Override PartName="/{part}" ContentType="application/vnd.openxmlformats-'
            f'officedocument.{kind}.main+xml"/></Types>',
            "_rels/.rels": relationships({"r": ("officeDocument", part)}),
            part: f"<w:document {around}><w:body>{body}</w:body></w:document>",
            f"{folder}/_rels/{name}.rels": relationships({key: (key, f"{key}.part") for key in beside}),
            **{f"{folder}/{key}.part": text.replace("<w:x>", f"<w:x {around}>") for key, text in beside.items()},
        }
    )


@pytest.mark.parametrize("part", ["word/document.xml", "word/document2.xml", "body/main.xml"])
@pytest.mark.parametrize("space", [_W, _STRICT])
def test_a_word_document_may_have_any_names_inside_and_be_strict(part: str, space: str) -> None:
    assert read(word(paragraph(run("words")), part=part, space=space)).text == "words"


@pytest.mark.parametrize("kind", ["ms-word.document.macroEnabled", "ms-word.template.macroEnabledTemplate"])
def test_templates_and_files_with_macros_are_what_they_are_without(kind: str) -> None:
    assert read(word(paragraph(run("words")), part="w/d.xml", kind=kind)).text == "words"


def test_a_word_document_is_what_it_shows() -> None:
    body = paragraph(
        f"<w:ins>{run('added')}</w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>",
        run("unseen", "<w:rPr><w:vanish/></w:rPr>"),
        run(" seen", '<w:rPr><w:vanish w:val="0"/></w:rPr>'),
        "<w:r><w:pict><w:txbxContent>" + paragraph(run("in a box")) + "</w:txbxContent></w:pict></w:r>",
    )
    body += paragraph('<w:r><w:drawing><c:chart r:id="chart"/></w:drawing></w:r>') + '<w:altChunk r:id="aFChunk"/>'
    document = read(
        word(
            body,
            header=f"<w:x>{paragraph(run('Letter of ACME'))}{paragraph(run('7'))}</w:x>",
            footer=f"<w:x>{paragraph(run('Letter of ACME'))}</w:x>",
            comments=f"<w:x><w:comment>{paragraph(run('ask Ada'))}</w:comment></w:x>",
            footnotes=f"<w:x><w:footnote>{paragraph(run('as of May'))}</w:footnote></w:x>",
            chart=CHART,
            aFChunk="<html><body><p>from a page</p></body></html>",
        )
    )
    assert document.text.split("\n\n") == [
        *("Letter of ACME", "added seen", "in a box", *CHART_READ.split("\n\n"), "from a page", "as of May", "ask Ada")
    ]


def test_a_slide_has_its_groups_diagrams_charts_and_comments_and_says_that_it_is_hidden() -> None:
    head = f'xmlns:p="P" xmlns:a="{_A}" xmlns:r="{_R}"'
    text = "<p:sp><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sp>"
    shapes = f"<p:grpSp><p:grpSp>{text.format('in groups')}</p:grpSp></p:grpSp>" + "".join(
        f"<p:graphicFrame><a:graphic>{one}</a:graphic></p:graphicFrame>"
        for one in ('<d:relIds xmlns:d="D" r:dm="diagramData"/>', '<c:chart xmlns:c="C" r:id="chart"/>')
    )
    point = f'<d:pt xmlns:d="D" xmlns:a="{_A}"><a:p><a:r><a:t>{{}}</a:t></a:r></a:p></d:pt>'
    parts = {"diagramData": f"<m>{point.format('Ask')}{point.format('Wait')}</m>", "chart": CHART}
    parts["comments"] = '<p:cmLst xmlns:p="P"><p:cm><p:text>look here</p:text></p:cm></p:cmLst>'
    document = read(
        zipped(
            {
                "[Content_Types].xml": "<Types><Override ContentType="
                '"application/vnd.openxmlformats-officedocument.presentationml.slideshow.main+xml"/></Types>',
                "_rels/.rels": relationships({"r": ("officeDocument", "ppt/show.xml")}),
                "ppt/show.xml": f'<p:presentation {head}><p:sldId r:id="s"/></p:presentation>',
                "ppt/_rels/show.xml.rels": relationships({"s": ("slide", "one.xml")}),
                "ppt/one.xml": f'<p:sld {head} show="0">{shapes}</p:sld>',
                "ppt/_rels/one.xml.rels": relationships({name: (name, f"{name}.xml") for name in parts}),
                **{f"ppt/{name}.xml": content for name, content in parts.items()},
            }
        )
    )
    assert document.text == f"in groups\n\n- Ask\n- Wait\n\n{CHART_READ}\n\nComment: look here"
    assert document.notes == ["Slide 1 is hidden when the presentation is shown, and read all the same."]


_OFFICE = "urn:oasis:names:tc:opendocument:xmlns"
_FLAT = (
    f'<?xml version="1.0"?><office:document xmlns:office="{_OFFICE}:office:1.0" xmlns:text="{_OFFICE}:text:1.0" '
    f'xmlns:table="{_OFFICE}:table:1.0" office:mimetype="application/vnd.oasis.opendocument.{{}}">'
    "<office:body>{}</office:body></office:document>"
)
_CELL = "<table:table-row><table:table-cell><text:p>words</text:p></table:table-cell></table:table-row>"
_PACKAGE = "http://schemas.microsoft.com/office/2006/xmlPackage"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (_FLAT.format("text", "<office:text><text:p>words</text:p></office:text>"), "words"),
        (_FLAT.format("spreadsheet", f'<table:table table:name="T">{_CELL}</table:table>'), "T\n\nwords"),
        (
            f'<?xml version="1.0"?><p:package xmlns:p="{_PACKAGE}"><p:part p:name="/word/document.xml"><p:xmlData>'
            f'<w:document xmlns:w="{_W}"><w:body><w:p><w:r><w:t>words</w:t></w:r></w:p></w:body></w:document>'
            "</p:xmlData></p:part></p:package>",
            "words",
        ),
        (
            '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" '
            'xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"><Styles><Style ss:ID="p"><NumberFormat '
            'ss:Format="Percent"/></Style><Style ss:ID="d"><NumberFormat ss:Format="dd.mm.yyyy"/></Style></Styles>'
            '<Worksheet ss:Name="S"><Table><Row ss:Index="3"><Cell ss:StyleID="p"><Data ss:Type="Number">0.5</Data>'
            "</Cell>"
            '<Cell ss:StyleID="d"><Data ss:Type="DateTime">2023-07-16T00:00:00.000</Data></Cell>'
            '<Cell><Data ss:Type="Boolean">1</Data></Cell></Row></Table></Worksheet></Workbook>',
            "S\n\n50.00% | 16.07.2023 | TRUE",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_office_file_that_is_one_xml_file_is_read(content: str, text: str, encoding: str) -> None:
    assert read(content.replace('<?xml version="1.0"?>', "").encode(encoding), "a.xml").text == text


def test_a_text_that_speaks_of_such_files_is_a_text() -> None:
    said = f"<note>of {_PACKAGE} and urn:oasis:names:tc:opendocument:xmlns:office:1.0</note>"
    assert read(said.encode(), "a.xml").text == said


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"[Content_Types].xml": '<Types><O C="application/vnd.ms-visio.drawing.main+xml"/></Types>'}, "Visio"),
        ({"[Content_Types].xml": '<Types><O C="application/vnd.ms-package.xps-fixed+xml"/></Types>'}, "XPS"),
        ({"Index/Document.iwa": "x"}, "Pages, Numbers or Keynote"),
        ({"mimetype": "application/vnd.oasis.opendocument.database"}, "no text, spreadsheet"),
    ],
)
def test_what_is_not_read_of_an_office_is_named(files: dict[str, str], named: str) -> None:
    with pytest.raises(UnreadableFile, match=named):
        read(zipped(files))


def test_names_inside_may_be_in_other_letters_and_parted_as_windows_does() -> None:
    sheet = f'<worksheet xmlns="{_S}"><sheetData><row><c t="s"><v>0</v></c></row></sheetData></worksheet>'
    files = {
        "_rels\\.rels": relationships({"r": ("officeDocument", "xl/workbook.xml")}),
        "xl\\workbook.xml": f'<workbook xmlns:r="{_R}"><sheets><sheet name="S" r:id="r"/></sheets></workbook>',
        "xl\\_rels\\Workbook.xml.rels": relationships(
            {"r": ("worksheet", "worksheets/Sheet1.xml"), "s": ("sharedStrings", "SharedStrings.xml")}
        ),
        "xl\\worksheets\\sheet1.xml": sheet,
        "xl\\sharedStrings.xml": "<sst><si><t>words</t></si></sst>",
    }
    assert read(zipped(files)).text == "S\n\nwords"
