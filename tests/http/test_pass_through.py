"""While Vertex serves, the proxy is not there: bytes in, bytes out."""

from __future__ import annotations

import pytest

from tests.rig import expected, fim, rig

pytestmark = pytest.mark.virtual_time


async def test_smoke() -> None:
    async with rig() as proxy:
        answer = await proxy.ask()
        assert answer.status == 200, answer
        assert answer.text == expected("vertex")
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == expected("vertex")
        assert answer.served_by == ("vertex", "primary")
        await proxy.vertex.refuse()
        answer = await proxy.ask()
        assert answer.text == expected("claude")
        assert answer.served_by == ("claude", "connect")
        answer = await proxy.ask(fim(stream=True))
        assert answer.text == expected("claude")
