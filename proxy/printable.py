"""Text of others, on its way to a terminal: what it holds beside signs that show could be orders to it, or mislead.

An escape sequence colours, hides or retypes lines; a bidi override turns the reading around; a line end makes one line
look like two. What an operator gives is refused with them, what comes from elsewhere is shown without. Pure.
"""

from __future__ import annotations

import unicodedata


def unprintable(text: str) -> str | None:
    """The name of the first sign in `text` that does not show, as `U+202E`; None where all of them do."""
    for sign in text:
        if not sign.isprintable() and not _is_blank(sign):
            return f"U+{ord(sign):04X}"
    return None


def printable(text: str) -> str:
    """`text` in one line, each sign that does not show written as its escape, as in Python's literals."""
    if text.isprintable():
        return text
    return "".join(_shown(sign) for sign in text)


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    # The literal's own quotes are left off; half a character has an escape, too.
    return " " if _is_blank(sign) else repr(sign)[1:-1]


def _is_blank(sign: str) -> bool:
    """A blank of another width, as text that was pasted often has it."""
    return unicodedata.category(sign) == "Zs"
