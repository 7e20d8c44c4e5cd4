"""Cuts a rendered prompt into the template's own markup and the content that stands in it."""

from dataclasses import dataclass

from cloister_common.errors import InvalidRequest

from cloister_llm.rendering.markers import Found, Markers

__all__ = ["Piece", "cut"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the prompt: ``content`` came with the request, the rest is the model's own template."""

    text: str
    content: bool


def cut(rendered: str, markers: Markers) -> list[Piece]:
    """The pieces of ``rendered``, markup and content in turn, neither of them empty.

    The text they join to is what the template would have written around the content itself. A space that the template
    puts before content moves over to the content, where tokenizers of all kinds want it (``" Hello"`` is one token).

    Raises:
        InvalidRequest: The template changed a marker (cut it, turned its case, escaped it in a way that is not
            known here), so the content cannot be put back.
    """
    pieces: list[Piece] = []
    before = 0  # where the text not yet cut begins
    for found in markers.find(rendered):
        lead = _before(rendered, found, before)
        trail = _after(rendered, found)
        _append(pieces, rendered[before : found.start - lead], content=False)
        end = found.end + trail
        core = found.write(found.core)
        _append(pieces, rendered[found.start - lead : found.start] + core + rendered[found.end : end], content=True)
        before = end
    _append(pieces, rendered[before:], content=False)
    if any(not piece.content and markers.leaves_traces(piece.text) for piece in pieces):
        raise InvalidRequest(
            "The model's chat template changes the text of messages, so it cannot be rendered safely. "
            "Use a chat template that writes content as it is.",
            param="messages",
        )
    return [piece for piece in _with_spaces_moved(pieces) if piece.text]


def _append(pieces: list[Piece], text: str, *, content: bool) -> None:
    if not text:
        return
    if pieces and pieces[-1].content == content:
        pieces[-1] = Piece(pieces[-1].text + text, content)
    else:
        pieces.append(Piece(text, content))


def _before(rendered: str, found: Found, floor: int) -> int:
    """How many characters before the marker are the content's own whitespace."""
    at = found.start
    for character in reversed(found.lead):
        written = found.write(character)
        if at - len(written) < floor or not rendered.startswith(written, at - len(written)):
            break
        at -= len(written)
    return found.start - at


def _after(rendered: str, found: Found) -> int:
    """How many characters after the marker are the content's own whitespace."""
    at = found.end
    for character in found.trail:
        written = found.write(character)
        if not rendered.startswith(written, at):
            break
        at += len(written)
    return at - found.end


def _with_spaces_moved(pieces: list[Piece]) -> list[Piece]:
    moved = list(pieces)
    for at in range(len(moved) - 1):
        piece, following = moved[at], moved[at + 1]
        if following.content and not piece.content and piece.text.endswith(" ") and following.text[:1].strip():
            moved[at] = Piece(piece.text[:-1], content=False)
            moved[at + 1] = Piece(" " + following.text, content=True)
    return moved
