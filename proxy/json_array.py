"""A JSON array that grows: how Google streams without `alt=sse`. Its elements, read from any pieces, and written.

Pure. Finds where elements begin and end and reads nothing else of them: what an element holds is for its reader.
"""

from __future__ import annotations

import re

from proxy.sse import LARGEST_EVENT, Event, EventTooLarge

_STRUCTURE = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_SPACE = b" \t\r\n"
# Google parts elements by a comma on a line of its own that ends in CRLF, though all other lines end in LF. No element
# holds that, so one that reaches it is broken, and the next can be read nevertheless.
_MARK = re.compile(rb"\n(?=,\r\n)")
_PART_OF_MARK = 3


class ArrayReader:
    """Reads the elements of one top-level array from a stream, in linear time, whatever the pieces it comes in.

    An element is an `Event` without a name. What stands between commas without being JSON is an element, too, which its
    reader will find unreadable; so is anything outside of the array. That no comma parts two objects is passed over.
    """

    __slots__ = ("_depth", "_held", "_in_string", "_limit", "_searched", "closed")

    def __init__(self, *, limit: int = LARGEST_EVENT) -> None:
        """`limit`, in bytes, bounds what the reader remembers."""
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self._depth = 0
        """How many brackets and braces are open; 1 is between the elements."""
        self._in_string = False
        self.closed = False
        """The array's closing bracket was read."""

    def blocks(self, data: bytes) -> list[tuple[bytes, Event | None]]:
        """What `data` completes: the raw bytes of each element, with what parts it from the one before, and the event.

        None stands for the closing bracket, and for white space after it. Raises EventTooLarge.
        """
        marked_until = max(0, len(self._held) - _PART_OF_MARK)
        self._held += data
        marks = [mark.start() for mark in _MARK.finditer(self._held, marked_until)]
        blocks: list[tuple[bytes, Event | None]] = []
        begin = 0
        for limit in (*marks, len(self._held)):
            was_closed = self.closed
            while (end := self._end(begin, limit)) > begin:
                end = self._after_space(end)
                blocks.append(self._block(begin, end, was_closed=was_closed))
                was_closed, begin = self.closed, end
            if limit < len(self._held) and (self._depth > 1 or self._in_string):
                blocks.append(self._block(begin, limit, was_closed=was_closed))
                self._depth, self._in_string = 1, False
                self._searched = begin = limit
        del self._held[:begin]
        self._searched -= begin
        if len(self._held) > self._limit:
            raise EventTooLarge(f"an element of more than {self._limit} bytes")
        return blocks

    def rest(self) -> bytes:
        """The bytes of an element that has no end yet, which are forgotten."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest

    def ended(self, raw: bytes) -> bytes:
        """An element needs no end but its own."""
        return raw

    def parse(self, raw: bytes) -> Event | None:
        """The element in `raw`, whole or not; None where it holds none."""
        content = _content(raw)
        return Event("", content) if content else None

    def _block(self, begin: int, end: int, *, was_closed: bool) -> tuple[bytes, Event | None]:
        raw = bytes(self._held[begin:end])
        if len(raw) > self._limit:
            raise EventTooLarge(f"an element of {len(raw)} bytes")
        if self.closed and not (was_closed and raw.strip(_SPACE)):
            return raw, None
        return raw, Event("", _content(raw))

    def _after_space(self, end: int) -> int:
        """White space after a block goes out with it: Google ends an element's line at once; clients look for that."""
        while end < len(self._held) and self._held[end] in _SPACE:
            end += 1
        self._searched = max(self._searched, end)
        return end

    def _end(self, begin: int, limit: int) -> int:
        """Where the block that starts at `begin` ends; `begin` where that is not before `limit`."""
        if self.closed:
            self._searched = limit
            return limit
        while self._searched < limit:
            if self._in_string:
                text = _IN_STRING.match(self._held, self._searched, limit)
                assert text is not None
                self._searched = text.end()
                if self._held[self._searched : min(self._searched + 1, limit)] != b'"':
                    break
                self._in_string = False
                self._searched += 1
                continue
            found = _STRUCTURE.search(self._held, self._searched, limit)
            if found is None:
                self._searched = limit
                break
            at = found.start()
            if self._depth == 1 and found[0] in b",]" and _is_misplaced(bytes(self._held[begin:at]), before=found[0]):
                self._searched = at
                return at
            self._searched = at + 1
            if self._ends_with(found[0]):
                return at + 1
        return begin

    def _ends_with(self, character: bytes) -> bool:
        """Take a character that stands outside of strings; whether a block ends with it."""
        if self._depth == 0:
            self._depth = 1 if character == b"[" else 0
            return self._depth == 0
        if character == b'"':
            self._in_string = True
        elif character in b"[{":
            self._depth += 1
        elif character in b"]}" and self._depth > 1:
            self._depth -= 1
            return self._depth == 1
        elif character == b"]":
            self.closed = True
            return True
        return False


def _is_misplaced(pending: bytes, *, before: bytes) -> bool:
    """Whether `pending`, which is no object and no array, cannot stand before a comma or the closing bracket."""
    return pending.strip(_SPACE) not in ((b"",) if before == b"," else (b"", b"["))


def _content(raw: bytes) -> bytes:
    content = raw.strip(_SPACE)
    return content[1:].strip(_SPACE) if content[:1] in (b"[", b",") else content


class ArrayWriter:
    """Writes the elements of one array as they come."""

    __slots__ = ("_begun",)

    def __init__(self, *, begun: bool = False) -> None:
        """`begun` where elements were sent before, by whomever."""
        self._begun = begun

    def element(self, data: bytes) -> bytes:
        """The bytes of one element, whose JSON is `data`, with what parts it from the one before: as Google's are."""
        separator = b",\r\n" if self._begun else b"["
        self._begun = True
        return separator + data + b"\n"

    def close(self) -> bytes:
        """The bytes that end the array."""
        return b"]" if self._begun else b"[]"
