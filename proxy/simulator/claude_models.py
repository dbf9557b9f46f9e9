"""Which Claude takes what: the simulator's own table, kept apart from the proxy's so that it can contradict it.

As documented in November 2026, and where that leaves room, the stricter reading: what passes here passes there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model takes."""

    max_output: int
    """The most that `max_tokens` may be."""
    prefill: bool = False
    """Whether the last message may be the assistant's."""
    sampling: Literal["one", "none"] = "none"
    """`one` of temperature and top_p, or none of temperature, top_p and top_k."""
    thinking: frozenset[str] = field(default_factory=frozenset)
    """The types of `thinking` that it takes."""
    thinks_unasked: bool = False
    effort: bool = True
    """Whether it takes `output_config.effort`."""

    def thinks(self, asked: str | None) -> bool:
        """Whether it thinks before it answers, with this type of `thinking` or none in the request."""
        if asked is None:
            return self.thinks_unasked
        # Between tools there is nothing to think of without tools.
        return asked in ("adaptive", "enabled")


_4_5 = Capabilities(
    max_output=64_000, prefill=True, sampling="one", thinking=frozenset({"enabled", "disabled"}), effort=False
)
_4_6 = Capabilities(
    max_output=64_000, sampling="one", thinking=frozenset({"enabled", "adaptive", "disabled"}), effort=True
)
_4_7 = Capabilities(max_output=128_000, thinking=frozenset({"adaptive", "disabled"}))
_5 = Capabilities(max_output=128_000, thinking=frozenset({"adaptive", "disabled"}), thinks_unasked=True)
_HAIKU_5_5 = Capabilities(max_output=64_000, thinking=frozenset({"adaptive", "disabled"}), thinks_unasked=True)
_SONNET_5_5 = Capabilities(max_output=128_000, thinking=frozenset({"between_tools"}), thinks_unasked=True)
_ALWAYS = Capabilities(max_output=128_000, thinking=frozenset({"adaptive"}), thinks_unasked=True)

MODELS: dict[str, Capabilities] = {
    "claude-haiku-4-5": _4_5,
    "claude-haiku-4-5-20251001": _4_5,
    "claude-sonnet-4-5": _4_5,
    "claude-sonnet-4-5-20250929": _4_5,
    "claude-opus-4-5": _4_5,
    "claude-opus-4-5-20251101": _4_5,
    "claude-sonnet-4-6": _4_6,
    "claude-opus-4-6": _4_6,
    "claude-opus-4-7": _4_7,
    "claude-opus-4-8": _4_7,
    "claude-sonnet-5": _5,
    "claude-opus-5": _5,
    "claude-haiku-5-5": _HAIKU_5_5,
    "claude-sonnet-5-5": _SONNET_5_5,
    "claude-opus-5-5": _ALWAYS,
    "claude-fable-5": _ALWAYS,
    "claude-fable-5-1": _ALWAYS,
    "claude-fable-5-2": _ALWAYS,
    "claude-mythos-5": _ALWAYS,
    "claude-mythos-5-1": _ALWAYS,
    "claude-mythos-5-2": _ALWAYS,
}
