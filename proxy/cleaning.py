"""From a chat model's answer to the code in it: off with the tags, the talk and the fence.

Pure. Each stage is fed text in pieces and lets through what is certain; `finish` gives what it held back. What a stage
lets through in all depends on the text alone, not on the pieces: it decides only on what later text cannot change. What
it looks at is bounded, for a hostile answer must not stall everybody; hence the numbers in the regular expressions.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from proxy.stops import overlap_start

_PROSE = re.compile(
    r"\s{0,20}(?:I(?: |['\u2019](?:m|ll|d|ve)\b)|Sure\b|Certainly\b|Of course\b|Sorry\b|Unfortunately\b"
    r"|Here(?: is| are| it| you|['\u2019]s)\b|It (?:looks|seems|appears)\b"
    r"|There(?: is|['\u2019]s)\b|Based on\b|Looking at\b"
    r"|Please\b|Let me\b|Note(?: that\b|:)|As an AI\b|To complete\b|No(?:thing| completion)\b"
    r"|This (?:is|will|should|completes|adds|fills|returns|continues)\b"
    r"|Th(?:e|is) (?:code|cursor|completion|function|file|missing)\b)"
)
_INTRODUCTIONS = (
    *("Here is", "Here are", "Here it is", "Here you go", "Here's", "Here\u2019s"),
    *("Sure", "Certainly", "Of course", "The completed"),
)
_INTRODUCTION = re.compile(rf"\s{{0,20}}(?:{'|'.join(_INTRODUCTIONS)})[^\n]{{0,200}}")
_AFTERWORD = re.compile(r"\n[ \t]{0,20}\r?\n(?=[A-Z])")

_OPENING = r"<completion(?:-[1-9][0-9]{0,8})?>"
_FENCE_LINE = r"```[\w+#.-]{0,30}[ \t]{0,20}\r?\n"
_HEAD = 200
_OPENING_AT_HEAD = re.compile(rf"\s{{0,50}}(?:{_FENCE_LINE}\s{{0,50}})?({_OPENING})", re.IGNORECASE)
_OPENING_OF_LINE = re.compile(rf"^[ \t]{{0,20}}{_OPENING}", re.IGNORECASE | re.MULTILINE)
_CLOSING_AT_END = re.compile(r"</completion(?:-[1-9][0-9]{0,8})?>\s{0,100}\Z", re.IGNORECASE)
_CLOSING_AT_END_TO_BE = re.compile(r"</completion(?:-[0-9]{0,9})?\Z", re.IGNORECASE)
_CLOSING_SPAN = 130
"""Characters that the three may match at most."""


class Inside:
    """Lets through what stands between two tags; without them, what does not look like talk.

    The tags that were asked for occur nowhere in the code around the hole. Others of their kind, in another case or
    with another number, count where they begin the answer or end it.
    """

    __slots__ = ("_before", "_closing", "_head", "_held", "_opened", "_opening", "_tail", "closed")

    def __init__(self, opening: str, closing: str) -> None:
        self._opening = opening
        self._closing = closing
        self._opened = False
        self._before: list[str] = []
        self._head = ""
        self._tail = ""
        self._held = ""
        self.closed = False
        """The closing tag was reached: what follows is not wanted."""

    def feed(self, text: str) -> str:
        """The text that is surely inside."""
        if self.closed:
            return ""
        if not self._opened:
            text = self._after_opening(text)
            if not self._opened:
                return ""
        text = self._held + text
        if (at := text.find(self._closing)) >= 0:
            self.closed = True
            self._held = ""
            return text[:at]
        keep = min(overlap_start(text, self._closing), _end_of_untagged(text))
        self._held = text[keep:]
        return text[:keep]

    def finish(self) -> str:
        """The rest, now that no tag can follow."""
        held, self._held = self._held, ""
        if not self._opened:
            return self._untagged("".join(self._before))
        # A "<" or "</" may be code; more of the closing tag is that tag, cut off by the limit of tokens.
        is_cut = len(held) > 2 and self._closing.startswith(held)
        return "" if is_cut or _CLOSING_AT_END.match(held) else held

    def _after_opening(self, text: str) -> str:
        """The text after the opening tag; before it, all is kept, for there may be none."""
        self._before.append(text)
        if len(self._head) < _HEAD:
            self._head += text[: _HEAD - len(self._head)]
            if found := _OPENING_AT_HEAD.match(self._head):
                self._opened = True
                if self._opening == "<COMPLETION>":
                    # No number was needed, so the code has no tags that could be taken for these.
                    self._closing = f"</{found[1][1:]}"
                return "".join(self._before)[found.end() :]
        text = self._tail + text
        before, found_tag, inside = text.partition(self._opening)
        self._opened = bool(found_tag)
        self._tail = before[1 - len(self._opening) :]
        return inside

    def _untagged(self, text: str) -> str:
        text = text.partition(self._closing)[0]
        if found := _CLOSING_AT_END.search(text, max(0, len(text) - _CLOSING_SPAN)):
            text = text[: found.start()]
        if fence := _FENCE_ANYWHERE.search(text):
            return text[fence.start() :]
        if not _PROSE.match(text):
            return "" if self._opening.startswith(text.strip()) else _without_afterword(text)
        if opening := _OPENING_OF_LINE.search(text):
            return text[opening.end() :]
        introduction = _INTRODUCTION.match(text)
        if introduction and introduction[0].rstrip().endswith(":"):
            return _without_afterword(re.sub(r"\A(?:[ \t]{0,20}\r?\n){0,5}", "", text[introduction.end() :]))
        return ""


def _end_of_untagged(text: str) -> int:
    """Where at the end of `text` some closing tag may have begun, with only blanks after it."""
    at = text.rfind("<", max(0, len(text) - _CLOSING_SPAN))
    if at < 0:
        return len(text)
    tail = text[at:]
    is_tag = "</completion".startswith(tail.lower()) or _CLOSING_AT_END_TO_BE.match(tail) or _CLOSING_AT_END.match(tail)
    return at if is_tag else len(text)


def _without_afterword(code: str) -> str:
    """Without the paragraph of talk that ends an answer."""
    if code.rstrip()[-1:] not in (".", "!", "?"):
        return code
    for found in _AFTERWORD.finditer(code):
        if _PROSE.match(code, found.end()):
            return code[: found.start()].removesuffix("\r")
    return code


_FENCE_ANYWHERE = re.compile(_FENCE_LINE)
_FENCE = re.compile(rf"\s{{0,100}}{_FENCE_LINE}")
_FENCE_TO_BE = re.compile(r"\s{0,100}(?:`{0,2}|```[\w+#.-]{0,30}[ \t]{0,20}\r?)\Z")
_FENCE_END = re.compile(r"\r?\n[ \t]{0,40}```[ \t]{0,20}\r?\n")
_FENCE_END_TO_BE = re.compile(r"\n[ \t]{0,40}`{0,3}[ \t]{0,20}\r?\Z")
_FENCE_AT_END = re.compile(r"\r?\n[ \t]{0,40}```\s{0,40}\Z")


class _Fence(Enum):
    UNDECIDED = auto()
    NONE = auto()
    OPEN = auto()
    CLOSED = auto()


class Unfenced:
    """Takes off a Markdown code fence that stands around the whole, and drops what stands before and after it."""

    __slots__ = ("_fence", "_held", "_let_go", "_lines")

    def __init__(self, *, whole_lines: bool) -> None:
        """`whole_lines`: the hole is one of whole lines, so the line end before the closing fence is the code's."""
        self._lines = whole_lines
        self._fence = _Fence.UNDECIDED
        self._held = ""
        self._let_go = False

    def feed(self, text: str) -> str:
        """The text that is surely no part of a fence."""
        if self._fence is _Fence.NONE or not text:
            return text
        if self._fence is _Fence.CLOSED:
            return ""
        self._held += text
        if self._fence is _Fence.UNDECIDED:
            start = _after_introduction(self._held)
            if start >= 0 and (found := _FENCE.match(self._held, start)):
                self._fence = _Fence.OPEN
                # The opening's line end stays for now: a closing fence is known by the line end before it.
                self._held = self._held[found.end() - 1 :]
            elif start < 0 or _FENCE_TO_BE.match(self._held, start):
                return ""
            else:
                self._fence = _Fence.NONE
                return self._let(len(self._held))
        if found := _FENCE_END.search(self._held):
            self._fence = _Fence.CLOSED
            return self._let(self._end_of_code(found))
        return self._let(_end_of_certain(self._held))

    def finish(self) -> str:
        """The rest, now that no fence can follow."""
        if self._fence is _Fence.OPEN:
            found = _FENCE_AT_END.search(self._held)
            return self._let(self._end_of_code(found) if found else len(self._held))
        start = _after_introduction(self._held)
        if start >= 0 and self._held[start:].lstrip().startswith("```"):
            return ""
        return self._let(len(self._held))

    def _end_of_code(self, end: re.Match[str]) -> int:
        return end.string.index("\n", end.start()) + 1 if self._lines else end.start()

    def _let(self, end: int) -> str:
        """Let go of what is held, up to `end`, without the line end of the opening fence."""
        text, self._held = self._held[:end], self._held[end:]
        if text and not self._let_go:
            self._let_go = True
            if self._fence is not _Fence.NONE and self._fence is not _Fence.UNDECIDED:
                return text[1:]
        return text


def _after_introduction(text: str) -> int:
    """Where a fence may begin: after a line of talk, if that is how the text begins; -1 while that cannot be told."""
    if len(text) < 40 and (head := text.lstrip()) and any(words.startswith(head) for words in _INTRODUCTIONS):
        return -1
    found = _INTRODUCTION.match(text)
    if not found:
        return 0
    if found.end() == len(text):
        return -1
    return found.end() if text[found.end()] == "\n" else 0


def _end_of_certain(text: str) -> int:
    """Where in fenced text a closing fence may have begun."""
    end = text.rfind("\n")
    if end < 0 or not _FENCE_END_TO_BE.match(text, end):
        end = len(text)
    return end - 1 if text[end - 1 : end] == "\r" else end
