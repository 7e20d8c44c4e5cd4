"""The page that Outlook wraps in RTF."""

import re

from cloister_retriever.parsing.rtf_words import SIGNS, SYMBOLS, TOKEN, known, paired

__all__ = ["html_within"]


def html_within(content: bytes) -> str | None:
    """The page that Outlook has wrapped in RTF, or None (MS-OXRTFEX 2.1.3.1)."""
    if b"\\fromhtml" not in content[:1024]:
        return None
    encoding = "cp1252"
    parts: list[str] = []
    depth = tag = at = 0
    hidden = False
    while at < len(content) and (token := TOKEN.match(content, at)):
        at = token.end()
        word, number, _, _, brace, _ = token.groups()
        if brace is not None:
            depth += 1 if brace == b"{" else -1
            tag = 0 if depth < tag else tag
        elif word == b"htmltag":
            tag = depth
        elif word == b"htmlrtf":
            hidden = number != b"0"
        elif word == b"ansicpg" and number:
            encoding = known(f"cp{int(number)}") or encoding
        elif word == b"bin":
            at += max(int(number or 0), 0)
        elif not hidden and (tag or depth == 1):
            parts.append(_shown(token, encoding))
    return paired("".join(parts))


def _shown(token: re.Match[bytes], encoding: str) -> str:
    """What a token of a wrapped page stands for."""
    word, number, code, symbol, _, text = token.groups()
    if text is not None:
        return str(text.decode(encoding, "replace"))
    if code is not None:
        return bytes([int(code, 16)]).decode(encoding, "replace")
    if word in {b"par", b"line"}:
        return "\n"
    if word == b"u" and number:
        return chr(int(number) % 0x10000)
    if word is not None:
        return SIGNS.get(word.decode("ascii"), "")
    return SYMBOLS.get(symbol or b"", "")
