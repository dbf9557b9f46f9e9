"""What the simulated models know: deterministic text for every question, so that a test can tell who answered what.

Pure. An answer depends on the provider and on every character of the question: a prefix that was cut, a suffix that
was dropped or two that were exchanged give another answer.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

CHARACTERS_PER_TOKEN = 4

THINKING_TOKENS = 1024
"""Where thinking is on, an answer begins with the token of this number: a smaller cap leaves none."""

KNOWN_HOLES: dict[str, str] = {
    'days = ["Monday", "Tuesday", "': "Wednesday",
}
"""Ends of prefixes that every model completes alike, whoever it is: what a health probe may ask."""


def complete(provider: str, prefix: str, suffix: str) -> str:
    """The code that `provider` puts between `prefix` and `suffix`: two lines, without white space at either end."""
    for end, answer in KNOWN_HOLES.items():
        if prefix.endswith(end):
            return answer
    return f"{provider}_{_fingerprint(prefix, suffix)}(value)\n    return value"


def chat(provider: str, text: str) -> str:
    """What `provider` answers to a conversation whose last message of the user is `text`."""
    return f"This is {provider} on question {_fingerprint(text)}: it depends on the value."


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """The model of one provider: what it writes when nothing stops it, unless a test has its own words put there."""

    provider: str
    completes: Callable[[str, str], str] | None = None
    """From prefix and suffix, the code for the hole, in place of `complete`."""
    chats: Callable[[str], str] | None = None
    """From the last text of the user, the answer, in place of `chat`."""

    def complete(self, prefix: str, suffix: str) -> str:
        """The code between `prefix` and `suffix`."""
        return complete(self.provider, prefix, suffix) if self.completes is None else self.completes(prefix, suffix)

    def chat(self, text: str) -> str:
        """The answer to a conversation whose last message of the user is `text`."""
        return chat(self.provider, text) if self.chats is None else self.chats(text)


def alternative(text: str, index: int) -> str:
    """What the model writes as its answer number `index` where several are wanted; the first, 0, is `text`."""
    return text if index == 0 else f"{index}_{text}"


def arguments(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """With what the model calls a function to answer `text`: all properties of `schema`, JSON Schema's or Google's."""
    return {name: _argument(each, text) for name, each in (schema.get("properties") or {}).items()}


def _argument(schema: Mapping[str, Any], text: str) -> Any:
    if choices := schema.get("enum"):
        return choices[0]
    match str(schema.get("type", "")).lower():
        case "integer" | "number":
            return len(text)
        case "boolean":
            return True
        case "array":
            return [_argument(schema.get("items") or {}, text)]
        case "object":
            return arguments(schema, text)
    return text


def tokens(text: str) -> int:
    """A plausible count of the tokens in `text`."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote before it stopped, and why it did."""

    text: str
    finish: Literal["stop", "length"]
    stop: str | None = None
    """The stop text that ended it, itself not part of `text`."""


def generate(text: str, stops: Sequence[str] = (), max_tokens: int | None = None) -> Generation:
    """`text` as far as a model comes with it: up to the first of `stops`, or as far as `max_tokens` reach."""
    reach = len(text) if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0 and at + len(stop) <= reach]
    if found:
        at, stop = min(found, key=lambda hit: (hit[0], len(hit[1])))
        return Generation(text[:at], "stop", stop)
    if len(text) > reach:
        return Generation(text[:reach], "length")
    return Generation(text, "stop")


def chunks(text: str, size: int = 8) -> list[str]:
    """`text` in the pieces of which a stream is made."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def _fingerprint(*texts: str) -> str:
    # Editors send lone surrogates; they must be as good a question as any other.
    return f"{zlib.crc32(chr(0).join(texts).encode('utf-8', 'surrogatepass')):08x}"
