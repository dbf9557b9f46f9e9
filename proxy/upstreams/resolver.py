"""Names of hosts looked up in threads of one provider's own.

A name server that does not answer holds a thread for up to half a minute. In the event loop's common pool the names of
one provider's many locations would keep the other's from being looked up: the outage would be everybody's.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.daemon_threads import in_daemon_thread

_LOOKUPS = 16
"""At once; what would be one more waits, and its attempt ends by the limit for connecting."""
_ADDRESS, _ZONE = 0, 3
"""Where the address of a host stands in a socket's address, and where an IPv6 one has its zone."""


class Resolver(AbstractResolver):
    """Asks the system, as its configuration says. The connector keeps the answers, and asks once for many callers."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError where there are none."""
        async with self._places:
            return await in_daemon_thread(lambda: _look_up(host, port, family))

    async def close(self) -> None:
        """Nothing is kept: the threads end with their lookups, or with the process."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=_numeric(address),
            port=port,
            family=one,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for one, _, proto, _, address in found
    ]


def _numeric(address: tuple[object, ...]) -> str:
    if len(address) > _ZONE and address[_ZONE]:
        # An address of the link needs the name of its interface.
        return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]  # type: ignore[arg-type]
    return str(address[_ADDRESS])
