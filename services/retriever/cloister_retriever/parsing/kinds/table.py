"""Every kind of file that is read. A new one is a module beside this one and an entry here."""

from cloister_retriever.parsing.kinds.archive import ARCHIVE
from cloister_retriever.parsing.kinds.cards import CARDS
from cloister_retriever.parsing.kinds.delimited import DELIMITED
from cloister_retriever.parsing.kinds.docx import DOCX
from cloister_retriever.parsing.kinds.epub import EPUB
from cloister_retriever.parsing.kinds.flat import FLAT
from cloister_retriever.parsing.kinds.html import HTML
from cloister_retriever.parsing.kinds.image import IMAGE
from cloister_retriever.parsing.kinds.kind import Kind
from cloister_retriever.parsing.kinds.mail import MAIL
from cloister_retriever.parsing.kinds.mailbox import MAILBOX
from cloister_retriever.parsing.kinds.markdown import MARKDOWN
from cloister_retriever.parsing.kinds.notebook import NOTEBOOK
from cloister_retriever.parsing.kinds.opendocument import ODP, ODT
from cloister_retriever.parsing.kinds.outlook import OUTLOOK
from cloister_retriever.parsing.kinds.pdf import PDF
from cloister_retriever.parsing.kinds.pptx import PPTX
from cloister_retriever.parsing.kinds.rtf import RTF
from cloister_retriever.parsing.kinds.spreadsheet import SPREADSHEET
from cloister_retriever.parsing.kinds.text import TEXT
from cloister_retriever.parsing.kinds.tnef import TNEF

__all__ = ["KINDS", "SUPPORTED"]

KINDS: tuple[Kind, ...] = (
    *(TEXT, PDF, DOCX, PPTX, SPREADSHEET, ODT, ODP, EPUB, OUTLOOK, TNEF, ARCHIVE, IMAGE),
    *(FLAT, RTF, HTML, CARDS, NOTEBOOK, MARKDOWN, MAILBOX, MAIL, DELIMITED),
)
"""In the order of the sentence that names them, and in which they are asked whether a file is theirs: those that look
at the content before those that go by the name."""

*_MOST, _LAST = (called for kind in KINDS for called in kind.called)
SUPPORTED = f"{', '.join(_MOST)} and {_LAST}"
"""For the sentence of a refusal."""
