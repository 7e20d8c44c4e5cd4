"""Pictures wherever an office puts them: in groups, in shapes, in what stands for an object, in tables and headings of
a page, on a book's cover; and those that are drawn in lines, which are told."""

import base64

import pytest
from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.reader import Reader

from tests.support.illustrated import picture
from tests.support.office import zipped
from tests.support.workbooks import relationships

_A = "http://schemas.openxmlformats.org/drawingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
RED = picture("red")
DATA = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
EMF = b"\x01\0\0\0".ljust(40, b"\0") + b" EMF".ljust(64, b"\0")
WMF = b"\xd7\xcd\xc6\x9a".ljust(64, b"\0")
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def described(content: bytes, name: str) -> tuple[list[str | None], list[str]]:
    """What is said of each picture of a file, and what was left out."""
    album = Album(PictureLimits(10, 1_000_000, 1_000_000, 60.0))
    document = Reader(1_000_000, album=album).read(content, name)
    said = [one.described and document.text[slice(*one.described)] for one in document.pictures]
    return said, album.notes()


def slide(tree: str, content: bytes = RED) -> bytes:
    return zipped(
        {
            "ppt/presentation.xml": "<p/>",
            "ppt/slides/slide1.xml": f'<p:sld xmlns:p="P" xmlns:a="{_A}" xmlns:r="{_R}">{tree}</p:sld>',
            "ppt/slides/_rels/slide1.xml.rels": relationships({"r1": ("image", "../media/a.bin")}),
            "ppt/media/a.bin": content,
        }
    )


def shape(name: str, text: str, inner: str) -> str:
    return f'<p:{name}><p:cNvPr descr="{text}"/>{inner}</p:{name}>'


BLIP = '<a:blipFill><a:blip r:embed="r1"/></a:blipFill>'
WORDS = "<a:p><a:r><a:t>words</a:t></a:r></a:p>"
OBJECT = f"<Choice><oleObj/></Choice><Fallback><oleObj>{shape('pic', '', BLIP)}</oleObj></Fallback>"


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            f"<p:grpSp><p:grpSp><p:grpSp>{shape('pic', 'deep within', BLIP)}</p:grpSp></p:grpSp></p:grpSp>",
            "deep within",
        ),
        (shape("sp", "a shape of it", f"<p:spPr>{BLIP}</p:spPr>{WORDS}"), "a shape of it"),
        (shape("graphicFrame", "the sheet", f"{WORDS}{OBJECT}"), "the sheet"),
    ],
    ids=["in groups", "a shape is filled with it", "stands for an object"],
)
def test_a_picture_on_a_slide_is_found_wherever_it_is(tree: str, said: str) -> None:
    assert described(slide(tree), "a.pptx") == ([said], [])


def test_a_bullet_is_no_picture() -> None:
    bullet = '<a:p><a:pPr><a:buBlip><a:blip r:embed="r1"/></a:buBlip></a:pPr><a:r><a:t>item</a:t></a:r></a:p>'
    assert described(slide(shape("sp", "", bullet)), "a.pptx") == ([], [])


@pytest.mark.parametrize(
    "page",
    [
        f"<p>words</p><table><tr><td><img src='{DATA}' alt='A crane at work'></td><td>a</td></tr></table>",
        f"<h1>Title <img src='{DATA}' alt='A crane at work'></h1><p>words</p>",
        f"<p>words</p><picture><source srcset='x.webp'><img src='{DATA}' alt='A crane at work'></picture>",
        f"<p>words</p><svg><image xlink:href='{DATA}' title='A crane at work'/></svg>",
    ],
    ids=["table", "heading", "picture", "svg"],
)
def test_a_picture_of_a_page_is_found_wherever_it_is(page: str) -> None:
    assert described(f"<!DOCTYPE html><html><body>{page}</body></html>".encode(), "a.html") == (["A crane at work"], [])


def test_a_books_cover_is_a_picture_and_addresses_are_as_on_the_web() -> None:
    book = zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="b/c.opf"/></rootfiles></container>',
            "b/c.opf": '<package><manifest><item id="a" href="text/a.xhtml" media-type="application/xhtml+xml"/>'
            '</manifest><spine><itemref idref="a"/></spine></package>',
            "b/text/a.xhtml": "<html><body><svg><image xlink:href='../images/my%20cover.png'/></svg><p>words</p>"
            "<img src='../images/my%20cover.png?size=1#top' alt='The cover again'/></body></html>",
            "b/images/my cover.png": RED,
        }
    )
    assert described(book, "a.epub") == ([None, "The cover again"], [])


@pytest.mark.parametrize("content", [EMF, WMF, SVG], ids=["emf", "wmf", "svg"])
def test_a_picture_that_is_drawn_in_lines_is_told(content: bytes) -> None:
    tree = shape("sp", "", WORDS) + shape("pic", "a diagram", BLIP)
    said = ["A picture was left out: it is drawn in lines (EMF, WMF, SVG), which is not read."]
    assert described(slide(tree, content), "a.pptx") == ([], said)
