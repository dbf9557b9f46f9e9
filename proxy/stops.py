"""Where an answer ends by the caller's wish: at one of its stop strings, or at its limit of tokens.

Pure. Anthropic refuses blank stop sequences ("\\n\\n" is the commonest of all) and counts tokens otherwise than the
caller's model does, so both are kept on this side, and in a stream before the text is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CHARACTERS_PER_TOKEN = 4
"""How much text one token of the caller's limit allows; about what Codestral's tokenizer makes of code."""


def overlap_start(text: str, target: str, begin: int = 0) -> int:
    """Where the longest tail of `text`, from `begin` on, starts that is also a head of `target`; len(text) for none."""
    if not target:
        return len(text)
    at = max(begin, len(text) - len(target))
    while (at := text.find(target[0], at)) >= 0:
        if target.startswith(text[at:]):
            return at
        at += 1
    return len(text)


class Stops:
    """Lets an answer's text through up to the first stop string, the string itself left out, or up to the limit.

    What it lets through in all depends on the text alone, not on the pieces. The first stop is the one that ends first,
    as where a model stops in mid-answer; of two that end together, the longer.

    An answer may go on where another has broken off. What the caller has of it by then counts as if it had been fed: a
    stop may begin in it, and the limit holds for both together. It is never let through again.
    """

    __slots__ = ("_had", "_held", "_room", "_stops", "capped", "stopped")

    def __init__(self, stops: Sequence[str], max_tokens: int | None, *, already: str = "") -> None:
        """`max_tokens` of None is no limit; an empty stop string stops nothing. `already` is what the caller has."""
        self._stops = [stop for stop in stops if stop]
        self._room = None if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
        self._held = ""
        self._had = 0
        """Characters at the beginning of what is held that the caller has."""
        self.stopped = False
        """A stop or the limit was reached: no more text will come."""
        self.capped = False
        """It was the limit."""
        if already:
            self.feed(already)
            self._had = len(self._held)

    def feed(self, text: str) -> str:
        """The text that may be sent on now; what may yet turn out to be the beginning of a stop is held back."""
        if self.stopped or not text:
            return ""
        if not self._stops:
            return self._within(text)
        text = self._held + text
        self._held = ""
        start = self._first(text)
        if start >= 0:
            self.stopped = True
            return self._let(text[:start])
        keep = min(overlap_start(text, stop) for stop in self._stops)
        passed = self._let(text[:keep])
        if not self.stopped:
            self._held = text[keep:]
        return passed

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return self._let(held)

    def _first(self, text: str) -> int:
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(ends)[1] if ends else -1

    def _let(self, text: str) -> str:
        """Let go of `text`, which counts whole, but without what the caller has."""
        had = min(self._had, len(text))
        self._had -= had
        return self._within(text)[had:]

    def _within(self, text: str) -> str:
        if self._room is None:
            return text
        if len(text) > self._room:
            self.stopped = self.capped = True
            text = text[: self._room]
        self._room -= len(text)
        return text
