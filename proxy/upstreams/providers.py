"""The upstreams that there are, made from the settings, in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from health.lag import no_lag
from proxy.upstreams.claude import Claude
from proxy.upstreams.transport import Transport
from proxy.upstreams.vertex import Vertex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.settings import Settings
    from proxy.upstreams.base import Upstream
    from proxy.upstreams.credentials import Credentials

ORDER = (Vertex.name, Claude.name)
"""Whom to ask, first to last; routing and failover know the upstreams by this order alone."""


class Providers:
    """Both upstreams with their connections. Must be made on a running loop."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        lag: Callable[[float, float], float] = no_lag,
    ) -> None:
        """`lag` tells for how many seconds between two moments the event loop was away."""
        self._transports = [Transport(connect_seconds=settings.timeouts.connect_seconds, lag=lag) for _ in ORDER]
        self.upstreams: Mapping[str, Upstream] = {
            Vertex.name: Vertex(self._transports[0], credentials, base_url=settings.vertex.base_url),
            Claude.name: Claude(
                self._transports[1],
                base_url=settings.claude.base_url,
                api_key=settings.claude.api_key.get_secret_value(),
                model=settings.claude.model,
                max_concurrency=settings.claude.max_concurrency,
            ),
        }

    async def stop(self) -> None:
        """Close every connection."""
        for transport in self._transports:
            await transport.close()
