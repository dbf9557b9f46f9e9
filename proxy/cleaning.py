"""The stages by which a chat model's answer becomes code that fits a hole.

Pure. Each stage is fed text in pieces and lets through what is certain; `finish` gives what it held back. What a stage
lets through in all depends on the text alone, not on the pieces: it decides only on what later text cannot change.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from proxy.stops import overlap_start

_PROSE = re.compile(
    r"\s*(?:I(?: |['\u2019](?:m|ll|d|ve)\b)|Sure\b|Certainly\b|Sorry\b|Unfortunately\b|Here(?: is| are|['\u2019]s)\b"
    r"|It (?:looks|seems|appears)\b|There(?: is|['\u2019]s)\b|This is\b|Based on\b|Looking at\b|Please\b|As an AI\b"
    r"|Th(?:e|is) (?:code|cursor|completion|function|file|missing)\b|To complete\b|No(?:thing| completion)\b)"
)


class Inside:
    """Lets through what stands between two tags; without them, what does not look like talk."""

    __slots__ = ("_closing", "_held", "_opened", "_opening", "closed")

    def __init__(self, opening: str, closing: str) -> None:
        self._opening = opening
        self._closing = closing
        self._held = ""
        self._opened = False
        self.closed = False
        """The closing tag was reached: what follows is not wanted."""

    def feed(self, text: str) -> str:
        """The text that is surely inside."""
        if self.closed:
            return ""
        text = self._held + text
        self._held = ""
        if not self._opened:
            before, found, inside = text.partition(self._opening)
            if not found:
                self._held = before
                return ""
            self._opened = True
            text = inside
        if (at := text.find(self._closing)) >= 0:
            self.closed = True
            return text[:at]
        keep = overlap_start(text, self._closing)
        self._held = text[keep:]
        return text[:keep]

    def finish(self) -> str:
        """The rest, now that no tag can follow."""
        held, self._held = self._held, ""
        if not self._opened:
            return self._untagged(held)
        # A "<" or "</" may be code; more of the closing tag is that tag, cut off by the limit of tokens.
        return "" if len(held) > 2 else held

    def _untagged(self, text: str) -> str:
        text = text.partition(self._closing)[0]
        if fence := _FENCE_ANYWHERE.search(text):
            return text[fence.start() :]
        return "" if _PROSE.match(text) or self._opening.startswith(text.strip()) else text


_FENCE_ANYWHERE = re.compile(r"```[\w+#.-]*[ \t]*\r?\n")
_FENCE = re.compile(r"\s*```[\w+#.-]*[ \t]*\r?\n")
_FENCE_TO_BE = re.compile(r"\s*(?:`{0,2}|```[\w+#.-]*[ \t]*\r?)\Z")
_FENCE_END = re.compile(r"\r?\n[ \t]*```[ \t]*\r?\n")
_FENCE_END_TO_BE = re.compile(r"\n[ \t]*`{0,3}[ \t]*\r?\Z")
_FENCE_AT_END = re.compile(r"\r?\n[ \t]*```\s*\Z")


class _Fence(Enum):
    UNDECIDED = auto()
    NONE = auto()
    OPEN = auto()
    CLOSED = auto()


class Unfenced:
    """Takes off a Markdown code fence that stands around the whole, and drops what follows the fence."""

    __slots__ = ("_fence", "_held", "_let_go")

    def __init__(self) -> None:
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
            if found := _FENCE.match(self._held):
                self._fence = _Fence.OPEN
                # The opening's line end stays for now: a closing fence is known by the line end before it.
                self._held = self._held[found.end() - 1 :]
            elif _FENCE_TO_BE.match(self._held):
                return ""
            else:
                self._fence = _Fence.NONE
                return self._let(len(self._held))
        if found := _FENCE_END.search(self._held):
            self._fence = _Fence.CLOSED
            return self._let(found.start())
        return self._let(_end_of_certain(self._held))

    def finish(self) -> str:
        """The rest, now that no fence can follow."""
        if self._fence is _Fence.OPEN:
            found = _FENCE_AT_END.search(self._held)
            return self._let(found.start() if found else len(self._held))
        if self._fence is _Fence.UNDECIDED and "```" not in self._held:
            return self._let(len(self._held))
        return ""

    def _let(self, end: int) -> str:
        """Let go of what is held, up to `end`, without the line end of the opening fence."""
        text, self._held = self._held[:end], self._held[end:]
        if text and not self._let_go:
            self._let_go = True
            if self._fence is not _Fence.NONE and self._fence is not _Fence.UNDECIDED:
                return text[1:]
        return text


def _end_of_certain(text: str) -> int:
    """Where in fenced text a closing fence may have begun."""
    end = text.rfind("\n")
    if end < 0 or not _FENCE_END_TO_BE.match(text, end):
        end = len(text)
    return end - 1 if text[end - 1 : end] == "\r" else end


_WORD = re.compile(r"\w")
_NEAR = 1000
_LINES = 10
"""Characters and lines before the hole in which a repetition is looked for."""


class WithoutPrefix:
    """Takes off an answer's head what already stands before the hole: whole lines, the begun line, its indentation.

    Less than the begun line is left alone, for it may be meant; so are lines without a letter or a digit, as `}`.
    """

    __slots__ = ("_decided", "_held", "_repeats")

    def __init__(self, prefix: str) -> None:
        self._repeats = _repeats(prefix)
        self._held = ""
        self._decided = not self._repeats

    def feed(self, text: str) -> str:
        """The text that is surely no repetition."""
        if self._decided or not text:
            return text
        self._held += text
        if any(len(repeat) > len(self._held) and repeat.startswith(self._held) for repeat in self._repeats):
            return ""
        return self._decide()

    def finish(self) -> str:
        """The rest, now that the head cannot grow."""
        return "" if self._decided else self._decide()

    def _decide(self) -> str:
        self._decided = True
        for repeat in self._repeats:
            if self._held.startswith(repeat):
                return self._held[len(repeat) :]
        return self._held


def _repeats(prefix: str) -> list[str]:
    """The heads of an answer that would repeat the end of `prefix`, the longest first."""
    lines = prefix[-_NEAR:].rsplit("\n", _LINES)
    line = lines[-1]
    # The first of them may be the rest of a line, or of all the lines before.
    whole = 0 if len(lines) <= _LINES and len(prefix) <= _NEAR else 1
    repeats = {"\n".join(lines[first:]) for first in range(whole, len(lines))}
    repeats.add(line.lstrip())
    repeats = {repeat for repeat in repeats if _WORD.search(repeat)}
    if line and line.isspace():
        # Where a line has but its indentation, the answer may begin with that again, or with a line end after its tag.
        repeats.add(line)
        repeats |= {end + repeat for end in ("\n", "\r\n") for repeat in ("", *repeats)}
    return sorted(repeats, key=len, reverse=True)


_CLOSERS = frozenset(")]}\"'`;,")
_OPENER = {")": "(", "]": "[", "}": "{"}
_TELLING = 3
"""Non-blank characters that are not equal by chance."""


class WithoutSuffix:
    """Takes off an answer's tail what already stands after the hole."""

    __slots__ = ("_before", "_held", "_line", "_suffix")

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._line = suffix.lstrip().partition("\n")[0].rstrip()
        self._before: list[str] = []
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that cannot be a repetition, whatever follows."""
        if not self._suffix or not text:
            return text
        text = self._held + text
        keep = overlap_start(text, self._suffix)
        self._held = text[keep:]
        text = text[:keep]
        self._before.append(text)
        return text

    def finish(self) -> str:
        """The rest, without the longest repetition that is one beyond doubt."""
        held, self._held = self._held, ""
        # A repetition is near the end; looking further would let a hostile answer stall everybody.
        at = overlap_start(held, self._suffix, max(0, len(held) - _NEAR))
        while at < len(held):
            overlap = held[at:]
            if overlap.isspace():
                # The line end before the closing tag, where the line ends anyway.
                return held[:at] if "\n" in overlap else held
            if self._repeats(overlap, held[:at]):
                return held[:at]
            at = overlap_start(held, self._suffix, at + 1)
        return held

    def _repeats(self, overlap: str, before: str) -> bool:
        """Whether `overlap`, which the answer ends and the suffix begins with, is there twice rather than by chance."""
        solid = "".join(overlap.split())
        if _CLOSERS.issuperset(solid):
            before = "".join(self._before) + before
            return not any(_closes(closer, before) for closer in set(solid))
        return len(solid) >= _TELLING or len(overlap.strip()) >= len(self._line)


def _closes(closer: str, before: str) -> bool:
    """Whether `closer` ends what the answer itself has begun."""
    if opener := _OPENER.get(closer):
        return before.count(opener) > before.count(closer)
    return closer in "\"'`" and before.count(closer) % 2 == 1
