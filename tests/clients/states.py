"""A proxy in each of the states that a client can find it in: Vertex serves, Claude does, nobody can."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from proxy.simulator import Fault
from tests.rig import rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig

PROVIDERS = ("vertex", "claude")
"""Who can answer; the simulated models say different things, so that a text tells whose it is."""
NOBODY = "nobody"

FRONT = {"VERTEX__PROJECT": "project", "VERTEX__LOCATION": "us-central1", "VERTEX__MODEL": "codestral-2"}
"""With these the proxy serves Mistral's own paths, too."""


@asynccontextmanager
async def served_by(answering: str) -> AsyncIterator[Rig]:
    """A proxy whose answers are those of one of `PROVIDERS`, or of `NOBODY`: Vertex says 503 then and Claude 529."""
    async with rig(**FRONT) as running:
        if answering != "vertex":
            running.vertex.fault = Fault(error="unavailable")
        if answering == NOBODY:
            running.claude.fault = Fault(error="overloaded")
        yield running
