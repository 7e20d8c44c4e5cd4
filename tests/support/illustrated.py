"""Documents with pictures in them, in the fewest parts that make one: built here, so that no corpus is fetched."""

import base64
import io
from html import escape

from PIL import Image, ImageDraw
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from tests.support.office import zipped

__all__ = ["docx_with", "epub_with", "html_with", "odt_with", "pdf_with", "picture", "pptx_with", "scan"]

_OFFICE = "http://schemas.openxmlformats.org"
_R = f"{_OFFICE}/officeDocument/2006/relationships"
_W = f"{_OFFICE}/wordprocessingml/2006/main"
_A = f"{_OFFICE}/drawingml/2006/main"
_P = f"{_OFFICE}/presentationml/2006/main"
_ODF = "urn:oasis:names:tc:opendocument:xmlns"


def picture(colour: str, kind: str = "PNG", *, side: int = 96) -> bytes:
    """A square of a colour on white, as a file."""
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).rectangle((side // 8, side // 8, side - side // 8, side - side // 8), fill=colour)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def html_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """A page with a picture in a data URL, between two paragraphs."""
    address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    figure = f'<figure><img src="{address}" alt="{escape(alt)}">'
    figure += f"<figcaption>{escape(caption)}</figcaption></figure>" if caption else "</figure>"
    return f"<!DOCTYPE html><body><p>{escape(before)}</p>{figure}<p>{escape(after)}</p></body>".encode()


def docx_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """A Word document with a picture in a paragraph of its own."""

    def paragraph(text: str, style: str = "") -> str:
        named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{named}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>" if text else ""

    drawing = (
        f'<w:p><w:r><w:drawing><wp:inline><wp:docPr id="1" name="Picture 1" descr="{escape(alt)}"/><a:graphic>'
        '<a:graphicData><pic:pic><pic:blipFill><a:blip r:embed="rId7"/></pic:blipFill></pic:pic></a:graphicData>'
        "</a:graphic></wp:inline></w:drawing></w:r></w:p>"
    )
    spaces = f'xmlns:w="{_W}" xmlns:a="{_A}" xmlns:r="{_R}" xmlns:wp="x:wp" xmlns:pic="x:pic"'
    body = paragraph(before) + drawing + paragraph(caption, "Beschriftung") + paragraph(after)
    return zipped(
        {
            "word/document.xml": f"<w:document {spaces}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f'<w:styles xmlns:w="{_W}"><w:style w:styleId="Beschriftung"><w:name w:val="caption"/>'
            "</w:style></w:styles>",
            "word/_rels/document.xml.rels": _relation("rId7", "media/image1.png"),
            "word/media/image1.png": content,
        }
    )


def pptx_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """A presentation whose second slide has a picture; the first has other words."""
    head = f'xmlns:p="{_P}" xmlns:a="{_A}" xmlns:r="{_R}"'

    def shape(text: str) -> str:
        return f"<p:sp><p:txBody><a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p></p:txBody></p:sp>" if text else ""

    shown = (
        f'<p:pic><p:nvPicPr><p:cNvPr id="4" name="Picture 3" descr="{escape(alt)}"/></p:nvPicPr>'
        '<p:blipFill><a:blip r:embed="rId2"/></p:blipFill></p:pic>'
    )
    slides = f"<p:spTree>{shape(before)}{shown}{shape(caption)}{shape(after)}</p:spTree>"
    return zipped(
        {
            "ppt/presentation.xml": f"<p:presentation {head}/>",
            "ppt/slides/slide1.xml": f"<p:sld {head}>{shape('The agenda of this meeting')}</p:sld>",
            "ppt/slides/slide2.xml": f"<p:sld {head}>{slides}</p:sld>",
            "ppt/slides/_rels/slide2.xml.rels": _relation("rId2", "../media/image1.png"),
            "ppt/media/image1.png": content,
        }
    )


def pdf_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """A PDF whose second page has a picture between two lines; a caption stands right below it.

    A PDF that a program drew has no text that stands for a picture: what is wanted as such stands there as a caption.
    """
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.drawString(72, 700, "The agenda of this meeting")
    canvas.showPage()
    canvas.drawString(72, 720, before)
    canvas.drawImage(ImageReader(io.BytesIO(content)), 72, 500, width=150, height=150)
    canvas.drawString(72, 480, caption or (f"Figure 1: {alt}" if alt else ""))
    canvas.drawString(72, 300, after)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def scan(content: bytes, pages: int = 1) -> bytes:
    """A PDF of pages that are nothing but a picture."""
    out = io.BytesIO()
    canvas = Canvas(out)
    for _ in range(pages):
        canvas.drawImage(ImageReader(io.BytesIO(content)), 0, 0, width=595, height=842)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def epub_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """A book of one chapter with a picture in it."""
    figure = (
        f'<figure><img src="../images/one.png" alt="{escape(alt)}"/><figcaption>{escape(caption)}</figcaption></figure>'
    )
    body = f"<p>{escape(before)}</p>{figure}<p>{escape(after)}</p>"
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfile full-path="book/book.opf"/></container>',
            "book/book.opf": '<package><manifest><item id="a" href="text/a.xhtml" media-type="application/xhtml+xml"/>'
            '</manifest><spine><itemref idref="a"/></spine></package>',
            "book/text/a.xhtml": f'<?xml version="1.0" encoding="utf-8"?>\n<html><body>{body}</body></html>',
            "book/images/one.png": content,
        }
    )


def odt_with(content: bytes, *, before: str = "", after: str = "", alt: str = "", caption: str = "") -> bytes:
    """An OpenDocument text with a picture in a paragraph."""
    spaces = f'xmlns:office="{_ODF}:office:1.0" xmlns:text="{_ODF}:text:1.0" xmlns:draw="{_ODF}:drawing:1.0"'
    frame = f'<draw:frame><draw:image xlink:href="Pictures/1.png"/><svg:desc>{escape(alt)}</svg:desc></draw:frame>'
    body = f"<text:p>{escape(before)}</text:p><text:p>{frame}</text:p><text:p>{escape(caption)}</text:p>"
    body += f"<text:p>{escape(after)}</text:p>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{_ODF}:manifest:1.0"/>',
            "content.xml": f'<office:document-content {spaces} xmlns:xlink="x:xlink" xmlns:svg="x:svg"><office:body>'
            f"<office:text>{body}</office:text></office:body></office:document-content>",
            "Pictures/1.png": content,
        }
    )


def _relation(name: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_OFFICE}/package/2006/relationships"><Relationship Id="{name}" Type="{_R}/image" '
        f'Target="{target}"/></Relationships>'
    )
