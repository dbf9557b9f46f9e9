"""What Anthropic counts, in whole answers and in streams. Pure."""

from __future__ import annotations

from typing import Any

from proxy.dialects.base import Usage

_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Counts:
    """Anthropic's counts, which a stream tells in instalments, each the whole so far."""

    __slots__ = ("input", "output")

    def __init__(self) -> None:
        self.input = 0
        self.output = 0

    def add(self, usage: Any) -> None:
        """Take what `usage` tells; tokens read from and written to the cache are input, too."""
        if not isinstance(usage, dict):
            return
        # The last word of a stream may leave out what the first one told of the cache.
        self.input = max(self.input, sum(count for name in _INPUTS if (count := _count(usage.get(name)))))
        if (output := _count(usage.get("output_tokens"))) is not None:
            self.output = output

    @property
    def usage(self) -> Usage:
        """What was told so far."""
        return Usage(self.input, self.output)


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
