"""From an answer to what fits the hole: off with what it repeats of the code before the hole and after it.

Pure, and by the rules of `proxy/cleaning.py`: stages that decide only on what later text cannot change. Line ends are
"\\n" here. Code may repeat itself on purpose, so what is cut must be a repetition beyond doubt: better a line twice in
somebody's file than a line too few.
"""

from __future__ import annotations

import re
import textwrap

from proxy.stops import overlap_start

_NEAR = 1000
_LINES = 10
"""Characters and lines around the hole in which a repetition is looked for."""
_HELD_BLANKS = 200
"""Blanks and line ends at an answer's end that are held back."""

_TELLING = 3
"""Non-blank characters that are not equal by chance."""
_SHORT = 8
"""A line so short may stand in a block of its like, as `try:`."""

_BLANKS = (" ", "\t")
_CLOSERS = frozenset(")]}\"'`;,")
_WORD = re.compile(r"[^\W_]")
_BEGINNING = re.compile(r"(?:#+|//+|/\*\*?|\*|-|--|<!--) \Z|(?:\"\"\"|''')\Z")
"""Signs that begin a line and that no line has twice."""
_IS_UNFINISHED = re.compile(r"(?:[:{(\[=]|\S )\Z")
"""The end of a line that has no sense without more, or without a block."""
_IS_OPEN = ("(", "[", "{", "=", "+")
"""After these, an indented line goes on with more indentation."""
_BLANK_END = re.compile(r"\S \Z")
_IMPORT = re.compile(r"[ \t]*(?:import|from|use|using) ")
"""Lines that often begin as the one before them."""


def repetitions(prefix: str) -> list[str]:
    """The heads of an answer that would repeat the end of `prefix`, the longest first.

    They are the last whole lines together with the begun one, or that alone, or its indentation; with the indentation
    of the first of them or without, or all of them without the indentation that they have in common.
    """
    lines = prefix[-_NEAR:].rsplit("\n", _LINES)
    begun = lines[-1]
    # The first of them may be the rest of a line, or of all the lines before.
    first_whole = 0 if len(lines) <= _LINES and len(prefix) <= _NEAR else 1
    found: set[str] = set()
    for first in range(first_whole, len(lines) - 1):
        block = lines[first:-1]
        words = {line for line in block if _WORD.search(line)}
        # Code that repeats itself may do so again.
        if words.difference(lines[:first]):
            text = "\n".join(lines[first:])
            found |= {text, text.lstrip(), textwrap.dedent(text)} if len(text.strip()) > _SHORT else {text}
    if begun.isspace():
        found |= {text[: text.rindex("\n") + 1] for text in found}
    blocks = frozenset(found)
    if _WORD.search(begun):
        found |= {begun, begun.lstrip()}
    elif begun != begun.lstrip() and not begun.isspace():
        found.add(begun)
    if _BEGINNING.search(begun):
        found.add(begun.lstrip())
    if begun.isspace():
        # Where a line has but its indentation, the answer may begin with that again, or with a line end after its tag.
        found.add(begun)
        found |= {f"\n{repeat}" for repeat in ("", *found)}
    elif begun:
        found |= {f"\n{block}" for block in blocks}
        if _IS_UNFINISHED.search(begun):
            found |= {f"\n{begun}", f"\n{begun.lstrip()}"}
    return sorted(found, key=len, reverse=True)


class WithoutPrefix:
    """Takes off an answer's head what already stands before the hole: whole lines, the begun line, its indentation.

    Less than the begun line is left alone, for it may be meant; so are lines without a letter or a digit, as `}`, and
    lines that the code has twice already. A line end before it comes from the tag that stands on a line of its own, and
    so does one where the line cannot end.
    """

    __slots__ = ("_begun", "_decided", "_held", "_is_blank", "_repetitions", "_takes_no_line_end")

    def __init__(self, prefix: str, suffix: str, *, already: str = "") -> None:
        """`already` is what the caller has of the answer, the end of `prefix`: it may end anywhere, as no editor's code
        does, so what goes on with it may well begin with blanks or a line end.
        """
        begun = prefix[-_NEAR:].rpartition("\n")[2]
        self._is_blank = begun.isspace()
        self._repetitions = [] if already and len(begun.strip()) < _TELLING else repetitions(prefix)
        is_indented = begun.startswith(_BLANKS)
        is_in_a_line = bool(suffix[:_NEAR].partition("\n")[0].strip())
        self._takes_no_line_end = (
            not already
            and bool(begun.strip())
            and (bool(_BLANK_END.search(begun)) or (is_indented and (is_in_a_line or begun.endswith(_IS_OPEN))))
        )
        # The next line may be the same; one that is the same and goes on is the begun one.
        is_telling = len(begun.strip()) >= _TELLING and bool(_WORD.search(begun)) and not _IMPORT.match(begun)
        self._begun = (f"\n{begun}", f"\n{begun.lstrip()}") if is_telling else ()
        self._held = ""
        self._decided = not begun and not self._repetitions

    def feed(self, text: str) -> str:
        """The text that is surely no repetition."""
        if self._decided or not text:
            return text
        self._held += text
        held = self._held
        if (
            held == "\n"
            or any(len(repeat) >= len(held) and repeat.startswith(held) for repeat in self._repetitions)
            or any(begun.startswith(held) for begun in self._begun)
        ):
            return ""
        return self._decide()

    def finish(self) -> str:
        """The rest, now that the head cannot grow."""
        return "" if self._decided else self._decide()

    def _decide(self) -> str:
        self._decided = True
        held = self._held
        for repeat in self._repetitions:
            # A line that goes deeper than the cursor's is not that one.
            goes_deeper = self._is_blank and repeat.strip() and held.startswith(_BLANKS, len(repeat))
            if held.startswith(repeat) and not goes_deeper:
                return held[len(repeat) :]
        for begun in self._begun:
            if held.startswith(begun) and held[len(begun) :][:1] not in ("", "\n"):
                return held[len(begun) :]
        if self._takes_no_line_end and held[:1] == "\n" and not held[1:2].isspace() and held[1:2] not in _CLOSERS:
            return held[1:]
        return held


_OPENER = {")": "(", "]": "[", "}": "{"}
_QUOTES = "\"'`"
_STATEMENT = 24_000
"""Characters before the hole and after it whose brackets are counted."""


class WithoutSuffix:
    """Takes off an answer's tail what already stands after the hole, and blanks and line ends that do not fit there."""

    __slots__ = ("_after", "_before", "_begun", "_held", "_line", "_prefix", "_suffix")

    def __init__(self, suffix: str, *, prefix: str, already: str = "") -> None:
        """`already` is what the caller has of the answer, the end of `prefix`: a bracket may be open in it."""
        # Where a file ends, a line ends, too.
        self._suffix = suffix[:_NEAR] or "\n"
        self._after = suffix[:_STATEMENT]
        self._prefix = prefix.removesuffix(already)[-_STATEMENT:]
        self._begun = self._prefix.rpartition("\n")[2]
        self._line = self._suffix.lstrip().partition("\n")[0].rstrip()
        self._before = [already]
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that cannot be a repetition, whatever follows."""
        if not text:
            return ""
        text = self._held + text
        end = _end_of_solid(text)
        keep = min(overlap_start(text, self._suffix), overlap_start(text[:end], self._suffix), end)
        self._held = text[keep:]
        text = text[:keep]
        self._before.append(text)
        return text

    def finish(self) -> str:
        """The rest, without the longest repetition that is one beyond doubt."""
        held, self._held = self._held, ""
        self._before = ["".join(self._before)[-_STATEMENT:]]
        end = _end_of_solid(held)
        # One blank at the end may be meant; more of them, or a line end, may follow a repetition.
        for text in (held, held[:end]) if held[end:] not in ("", " ") else (held,):
            at = overlap_start(text, self._suffix)
            while at < len(text):
                overlap = text[at:]
                if not overlap.isspace() and self._repeats(overlap, text[:at]):
                    return self._without_line_end(text[:at])
                at = overlap_start(text, self._suffix, at + 1)
        return self._without_line_end(held)

    def _without_line_end(self, text: str) -> str:
        """Without the line end before the closing tag where the line ends anyway, and without blanks before that."""
        if self._suffix[0] == "\n":
            text = text.rstrip(" \t")
            overlap = text[overlap_start(text, self._suffix) :]
            return text[: len(text) - len(overlap)].rstrip(" \t") if overlap.isspace() else text
        if text.endswith("\n") and self._splits_a_line(text):
            text = text[:-1]
        solid = text.rstrip(" \t")
        # One blank may be meant, as in a string, and several before a comment or a word that is aligned.
        return solid if len(text) - len(solid) > 1 and self._suffix[0] in " \t)]},;" else text

    def _splits_a_line(self, text: str) -> bool:
        """Whether the line end of `text` comes where the code around it needs none."""
        if not self._begun.strip() or (self._before[0] + text).count("\n") > 1:
            return False
        return self._suffix[0] in " \t([)].,:;=" or text[-2:-1] in _BLANKS

    def _repeats(self, overlap: str, before: str) -> bool:
        """Whether `overlap`, which the answer ends and the suffix begins with, is there twice rather than by chance."""
        solid = "".join(overlap.split())
        before = self._before[0] + before
        if _CLOSERS.issuperset(solid):
            return not any(self._closes(closer, before, overlap) for closer in set(solid))
        is_twice = (self._prefix + before).rstrip().endswith(overlap.strip()) or self._suffix.startswith(
            (overlap * 2, f"{overlap}\n{overlap}")
        )
        is_ruler = len(set(solid)) == 1 and not solid.isalnum() and solid != ":"
        if is_twice or is_ruler or _is_inside(before[-1:], overlap[0]):
            # The code repeats itself, or it is the end of a word or of an indentation.
            return False
        if self._suffix[len(overlap) :].lstrip(" \t")[:1] not in ("", "\n"):
            # The end of what is there may begin like the next line; that is none where whole lines stand before it.
            solid = "".join(overlap.rpartition("\n")[0].split())
            return bool(_WORD.search(solid)) and len(solid) >= _TELLING
        return len(solid) >= _TELLING or len(overlap.strip()) >= len(self._line)

    def _closes(self, closer: str, before: str, overlap: str) -> bool:
        """Whether `closer` ends what the answer itself has begun, or what the code before the hole has."""
        rest = self._after.partition("\n")[0]
        if opener := _OPENER.get(closer):
            open_before = before.count(opener) - before.count(closer)
            if "\n" not in overlap:
                # Where all that is open is in sight, in the line or around it, the answer is to close just that.
                around = (
                    (self._begun, rest),
                    (self._prefix.rpartition("\n\n")[2], self._after.partition("\n\n")[0]),
                    (self._prefix, self._after),
                )
                open_around = [sum(code.count(opener) - code.count(closer) for code in codes) for codes in around]
                left = {is_open + open_before for is_open in open_around if is_open >= 0}
                if overlap.count(closer) in left:
                    return True
                if 0 in left:
                    return False
            return open_before > 0
        if closer * 3 in overlap:
            return (self._prefix + before + overlap + self._after).count(closer * 3) % 2 == 0
        if closer in _QUOTES:
            line = self._begun + before + overlap + rest
            return line.replace(closer * 3, "").count(closer) % 2 == 0
        return False


def _is_inside(before: str, after: str) -> bool:
    """Whether the place between two characters is inside a word or between blanks."""
    return (before.isalnum() and after.isalnum()) or (before in _BLANKS and after in _BLANKS)


def _end_of_solid(text: str) -> int:
    """Where the blanks and line ends begin that end `text`, or the last of them if there are too many."""
    return max(len(text.rstrip(" \t\n")), len(text) - _HELD_BLANKS)
