"""The ranges that Google's models take for a parameter, and the words in which they refuse what is beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .vertex_errors import invalid_argument

Limits = Mapping[str, tuple[float, float]]
"""By the parameter's name, the least that it takes and what it must stay below."""


def within(limits: Limits, values: Mapping[str, Any]) -> None:
    """Raises Rejected for the first of `values` that is out of its range; what has no limits may be anything."""
    for name, (low, high) in limits.items():
        value = values.get(name)
        if value is not None and not low <= value < high:
            raise invalid_argument(
                f"Unable to submit request because it has a {name} value of {value:g} but the supported range is from "
                f"{low:g} (inclusive) to {high:g} (exclusive). Update the value and try again."
            )
