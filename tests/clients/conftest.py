"""The proxy as the client libraries find it: while Vertex serves, while Claude does, and while neither can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.simulator import Fault
from tests.rig import rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig

FRONT = {"VERTEX__PROJECT": "project", "VERTEX__LOCATION": "us-central1", "VERTEX__MODEL": "codestral-2"}
"""With these the proxy serves Mistral's own paths, too."""


@pytest.fixture(params=["vertex", "claude"])
def provider(request: pytest.FixtureRequest) -> str:
    """Who answers; the simulated models say different things, so that a text tells whose it is."""
    return str(request.param)


@pytest.fixture
async def proxy(provider: str) -> AsyncIterator[Rig]:
    """A proxy whose answers are `provider`'s."""
    async with rig(**FRONT) as running:
        if provider == "claude":
            running.vertex.fault = Fault(error="unavailable")
        yield running


@pytest.fixture
async def outage() -> AsyncIterator[Rig]:
    """A proxy with nobody left to ask: Vertex answers 503 and Claude 529."""
    async with rig(**FRONT) as running:
        running.vertex.fault = Fault(error="unavailable")
        running.claude.fault = Fault(error="overloaded")
        yield running
