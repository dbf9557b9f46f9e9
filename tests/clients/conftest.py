"""What the tests of all client libraries share: a proxy in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.states import NOBODY, PROVIDERS, served_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig import Rig


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    """Who answers."""
    return str(request.param)


@pytest.fixture
async def proxy(provider: str) -> AsyncIterator[Rig]:
    """A proxy whose answers are `provider`'s."""
    async with served_by(provider) as running:
        yield running


@pytest.fixture
async def outage() -> AsyncIterator[Rig]:
    """A proxy with nobody left to ask."""
    async with served_by(NOBODY) as running:
        yield running
