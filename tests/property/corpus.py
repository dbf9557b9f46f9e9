"""Holes cut from real files, as editors cut them: what stands before the cursor, what after it, and what is missing.

The files are the standard library of the Python that runs; a seed chooses among them, so that a run can be repeated.
"""

from __future__ import annotations

import random
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.dialects.base import Hole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 20_261_124
_FILES = 400
_SIZES = range(2_000, 120_000)
_OTHERS = ("site-packages", "test", "idlelib")
"""Folders that are not there everywhere, or hold code that is broken on purpose."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A hole and the code that was in it."""

    kind: str
    hole: Hole
    middle: str

    @property
    def line_end(self) -> str:
        """That of the file."""
        return "\r\n" if "\r\n" in self.hole.prefix + self.hole.suffix else "\n"

    @property
    def begun(self) -> str:
        """The part of the cursor's line that stands before it."""
        return self.hole.prefix.rpartition("\n")[2]


def cuts(count: int, seed: int = SEED) -> Iterator[Cut]:
    """`count` cuts, as many of each kind as of the others; every fourth is one of a file with CRLF."""
    chance = random.Random(seed)
    texts = list(_texts(chance))
    kinds = list(_KINDS.items())
    made = 0
    while made < count:
        kind, cut = kinds[made % len(kinds)]
        text = chance.choice(texts)
        places = cut(text, chance)
        if places is None:
            continue
        start, end = places
        prefix, middle, suffix = text[:start], text[start:end], text[end:]
        if kind.startswith("no suffix"):
            suffix = ""
        if made // len(kinds) % 4 == 3:
            prefix, middle, suffix = (part.replace("\n", "\r\n") for part in (prefix, middle, suffix))
        made += 1
        yield Cut(kind, Hole(prefix, suffix), middle)


def _texts(chance: random.Random) -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    paths = sorted(library.glob("*.py")) + sorted(library.glob("[a-z]*/[a-z]*.py"))
    paths = [path for path in paths if path.parent.name not in _OTHERS]
    for path in chance.sample(paths, min(_FILES, len(paths))):
        text = path.read_text("utf-8", errors="replace")
        if len(text) in _SIZES:
            yield text


Places = tuple[int, int] | None
_EDGE = re.compile(r"(?<=\w)(?!\w)|(?<=\s)(?=\S)|(?<=[^\w\s])")


def _line(text: str, chance: random.Random) -> tuple[int, int, int]:
    """Where a line that is not blank begins, where its indentation ends, and where it ends."""
    while True:
        at = chance.randrange(len(text))
        start = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if body := text[start:end].strip():
            return start, text.index(body, start), end


def _edges(text: str, start: int, end: int) -> list[int]:
    """Where words and signs end or begin."""
    return [found.start() for found in _EDGE.finditer(text, start, end) if start < found.start() < end]


def _rest_of_line(text: str, chance: random.Random) -> Places:
    _, start, end = _line(text, chance)
    edges = _edges(text, start, end)
    return (chance.choice(edges), end) if edges else None


def _in_a_line(text: str, chance: random.Random) -> Places:
    _, start, end = _line(text, chance)
    edges = _edges(text, start, end)
    if len(edges) < 2:
        return None
    first, last = sorted(chance.sample(edges, 2))
    return (first, last) if text[first:last].strip() else None


def _in_a_word(text: str, chance: random.Random) -> Places:
    _, start, end = _line(text, chance)
    words = [found.span() for found in re.finditer(r"\w{3,}", text[start:end])]
    if not words:
        return None
    first, last = chance.choice(words)
    return start + chance.randrange(first + 1, last), chance.choice((start + last, end))


def _whole_line(text: str, chance: random.Random) -> Places:
    start, _, end = _line(text, chance)
    return start, end


def _after_indentation(text: str, chance: random.Random) -> Places:
    start, body, end = _line(text, chance)
    return (body, end) if body > start else None


def _lines_on(text: str, end: int, chance: random.Random) -> int:
    """The end of one of the next lines that is not blank."""
    for _ in range(chance.randrange(1, 8)):
        after = text.find("\n", end + 1)
        if after < 0:
            break
        end = after
    while end > 0 and text[end - 1].isspace():
        end -= 1
    return end


def _block(text: str, chance: random.Random) -> Places:
    """From a line's end."""
    _, start, end = _line(text, chance)
    last = _lines_on(text, end, chance)
    return (end, last) if last > end > start else None


def _indented_block(text: str, chance: random.Random) -> Places:
    start, body, end = _line(text, chance)
    last = _lines_on(text, end, chance)
    return (body, last) if last > end and body > start else None


def _whole_lines(text: str, chance: random.Random) -> Places:
    """With the line end of the last one, where the next is not blank."""
    start, _, end = _line(text, chance)
    last = _lines_on(text, end, chance) + 1
    return (start, last) if (last < len(text) and not text[last].isspace()) or text[last : last + 1] == " " else None


def _nothing(text: str, chance: random.Random) -> Places:
    _, _, end = _line(text, chance)
    return end, end


_KINDS: dict[str, Callable[[str, random.Random], Places]] = {
    "rest of a line": _rest_of_line,
    "in a line": _in_a_line,
    "in a word": _in_a_word,
    "whole line": _whole_line,
    "after indentation": _after_indentation,
    "lines, from a line's end": _block,
    "lines, after indentation": _indented_block,
    "lines, with the last one's end": _whole_lines,
    "no suffix, rest of a line": _rest_of_line,
    "no suffix, lines": _indented_block,
    "nothing": _nothing,
}
