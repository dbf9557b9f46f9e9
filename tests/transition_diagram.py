"""The README's diagram of the circuit, made from the table that the breaker itself keeps to.

`python -m tests.transition_diagram` rewrites it.
"""

from __future__ import annotations

import re

from health.breaker import TRANSITIONS, CircuitState, TransitionReason
from tests.settings_table import README

_DIAGRAM = re.compile(r"(?<=<!-- transitions -->\n).*?(?=<!-- /transitions -->)", re.DOTALL)


def diagram() -> str:
    # In the order of the enums: a set has none, and the README would change with every run.
    edges = [
        f"    {origin} --> {target}: {', '.join(reason for reason in TransitionReason if reason in reasons)}\n"
        for origin in CircuitState
        for target in CircuitState
        if (reasons := TRANSITIONS.get((origin, target)))
    ]
    return "".join(["```mermaid\n", "stateDiagram-v2\n", f"    [*] --> {CircuitState.CLOSED}\n", *edges, "```\n"])


def in_readme() -> str:
    found = _DIAGRAM.search(README.read_text("utf-8"))
    assert found is not None
    return found.group()


if __name__ == "__main__":
    README.write_text(_DIAGRAM.sub(lambda _: diagram(), README.read_text("utf-8")), "utf-8")
