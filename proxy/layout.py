"""Line ends and indentation: an answer's own are not always those of the file.

Pure, and by the rules of `proxy/cleaning.py`: stages that decide only on what later text cannot change.
"""

from __future__ import annotations

import re


def line_end(prefix: str, suffix: str) -> str:
    """The line end of a file, "\\n" or "\\r\\n": the one nearest before the cursor, else after it."""
    code, at = (prefix, prefix.rfind("\n")) if "\n" in prefix else (suffix, suffix.find("\n"))
    return "\r\n" if at > 0 and code[at - 1] == "\r" else "\n"


class OneLineEnd:
    """Makes every line end "\\n", whatever the answer has."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The text whose line ends are known."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return text.removesuffix("\r").replace("\r\n", "\n")

    def finish(self) -> str:
        """A last "\\r"."""
        held, self._held = self._held, ""
        return held


class WindowsLineEnd:
    """Makes every "\\n" a "\\r\\n", but for one whose "\\r" stands before the cursor already."""

    __slots__ = ("_is_begun",)

    def __init__(self, prefix: str) -> None:
        self._is_begun = prefix.endswith("\r")

    def feed(self, text: str) -> str:
        """All of it."""
        ended = text.replace("\n", "\r\n")
        if text and self._is_begun:
            self._is_begun = False
            return ended.removeprefix("\r") if text[0] == "\n" else ended
        return ended

    def finish(self) -> str:
        """Nothing is held back."""
        return ""


_HEADER = re.compile(
    r"(?:(?:async )?(?:def \w+ ?\(.*|for .+ in .+|with .+)|class \w+.*|(?:if|elif|while|match|case|except) .+"
    r"|try|else|finally|except):\Z"
)
_LONGEST_HEADER = 300


def _is_header(line: str) -> bool:
    # With a bracket of a line before, `for x in y):` is none.
    is_whole = all(line.count(opener) == line.count(closer) for opener, closer in ("()", "[]", "{}"))
    return is_whole and bool(_HEADER.match(line))


class Indented:
    """Gives a block the indentation of the cursor's line, where the answer has begun at the margin instead.

    That is certain only where the first line demands a deeper one after it, as `if x:` does, and the next is not even
    deeper than the cursor's own. Text in strings is left alone.
    """

    __slots__ = ("_at_line_start", "_first", "_held", "_indentation", "_is_decided")

    def __init__(self, prefix: str, *, already: str = "") -> None:
        """`already` is what the caller has of the answer: where there is some, the cursor may be in an indentation."""
        begun = "" if already else prefix.rpartition("\n")[2]
        is_text = any(prefix.count(quotes) % 2 for quotes in ('"""', "'''"))
        self._indentation = begun if begun.isspace() and not is_text else ""
        self._is_decided = not self._indentation
        self._first = ""
        self._held = ""
        self._at_line_start = False

    def feed(self, text: str) -> str:
        """The text with its indentation; the line end of a first line that opens a block waits for the next line."""
        if not self._indentation:
            return text
        if self._is_decided:
            return self._indented(text)
        if not self._held:
            before, found, after = text.partition("\n")
            self._first += before[:_LONGEST_HEADER]
            if not found:
                return text
            if len(self._first) > _LONGEST_HEADER or not _is_header(self._first.strip()):
                self._indentation = ""
                return text
            self._held, text = "\n", after
        else:
            before = ""
        self._held += text
        return before + self._decide()

    def finish(self) -> str:
        """The line end that waited."""
        held, self._held = self._held, ""
        return held

    def _decide(self) -> str:
        held = self._held
        if held.isspace() and len(held) <= _LONGEST_HEADER:
            return ""
        self._held = ""
        solid = held.lstrip()
        own = held[: len(held) - len(solid)].rpartition("\n")[2]
        self._is_decided = True
        # A comment may stand at any depth.
        if not own or not self._indentation.startswith(own) or solid.startswith("#"):
            self._indentation = ""
            return held
        return self._indented(held)

    def _indented(self, text: str) -> str:
        lines = text.split("\n")
        for at, line in enumerate(lines):
            self._at_line_start = self._at_line_start or at > 0
            if self._at_line_start and (line and not line.isspace()):
                lines[at] = self._indentation + line
                self._at_line_start = False
        return "\n".join(lines)
