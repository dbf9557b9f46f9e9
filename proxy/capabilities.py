"""What each Claude model accepts: the one table.

A body that the model refuses is a 400 exactly when the backup is needed, so nothing optional is sent that its row does
not name, and the health probe sends the body that a real failover would.

Sources, November 2026: Anthropic's pages "Troubleshooting thinking" (support, defaults and rejected configurations by
model), the model overviews and the migration guides of Haiku 5.5, Sonnet 5.5 and Opus 5.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Sampling(StrEnum):
    """Which of `temperature` and `top_p` a model takes. No model that is left takes both at once."""

    NONE = "none"
    EITHER = "either"


class Thinking(StrEnum):
    """What to send to have a model think not at all, or as little as it can."""

    OMIT = "omit"
    """Nothing: it does not think unless asked to, or is not known well enough to be asked anything."""
    DISABLED = "disabled"
    """`thinking: {"type": "disabled"}`; accepted at the effort that it has by default."""
    BETWEEN_TOOLS = "between_tools"
    """`thinking: {"type": "between_tools"}`: with no tools, no thinking."""
    LOW_EFFORT = "low_effort"
    """`output_config: {"effort": "low"}`: it always thinks."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One model's row."""

    max_output_tokens: int
    """Above it `max_tokens` is a 400."""
    sampling: Sampling
    thinking: Thinking
    thinking_headroom: int = 0
    """Tokens added to `max_tokens` because thinking counts into it: without them the answer itself could be empty."""


_HEADROOM = 4096

_4_5 = Capabilities(64_000, Sampling.EITHER, Thinking.OMIT)
_4_6 = Capabilities(64_000, Sampling.EITHER, Thinking.OMIT)
_4_7 = Capabilities(128_000, Sampling.NONE, Thinking.OMIT)
_5 = Capabilities(128_000, Sampling.NONE, Thinking.DISABLED)
# The documents differ on the limits of 4.6 and of Haiku 5.5; the lower one is taken by both.
_HAIKU_5_5 = Capabilities(64_000, Sampling.NONE, Thinking.DISABLED)
_ALWAYS_THINKS = Capabilities(128_000, Sampling.NONE, Thinking.LOW_EFFORT, _HEADROOM)

_TABLE: dict[str, Capabilities] = {
    "claude-haiku-4-5": _4_5,
    "claude-sonnet-4-5": _4_5,
    "claude-opus-4-5": _4_5,
    "claude-sonnet-4-6": _4_6,
    "claude-opus-4-6": _4_6,
    "claude-opus-4-7": _4_7,
    "claude-opus-4-8": _4_7,
    "claude-sonnet-5": _5,
    "claude-opus-5": _5,
    "claude-haiku-5-5": _HAIKU_5_5,
    "claude-sonnet-5-5": Capabilities(128_000, Sampling.NONE, Thinking.BETWEEN_TOOLS),
    "claude-opus-5-5": _ALWAYS_THINKS,
    "claude-fable-5": _ALWAYS_THINKS,
    "claude-fable-5-1": _ALWAYS_THINKS,
    "claude-fable-5-2": _ALWAYS_THINKS,
    "claude-mythos-5": _ALWAYS_THINKS,
    "claude-mythos-5-1": _ALWAYS_THINKS,
    "claude-mythos-5-2": _ALWAYS_THINKS,
    "claude-mythos-preview": Capabilities(64_000, Sampling.NONE, Thinking.OMIT, _HEADROOM),
}

UNKNOWN = Capabilities(64_000, Sampling.NONE, Thinking.OMIT, _HEADROOM)
"""For a model that is not in the table: nothing optional is sent, and there is room for thinking that may be on."""

_DATE = re.compile(r"[-@]\d{8}\Z")


@lru_cache(maxsize=64)
def capabilities(model: str) -> Capabilities:
    """The row of `model`, with its date (`-20251001`, or Vertex's `@20251001`) or without."""
    return _TABLE.get(_DATE.sub("", model), UNKNOWN)
