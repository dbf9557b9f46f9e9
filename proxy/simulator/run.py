"""The simulated providers alone, for trying things by hand: `completion-proxy simulate`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from .claude import SimulatedClaude
from .vertex import SimulatedVertex

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GUIDE = """\
Simulated Vertex AI    {vertex}
Simulated Claude       {claude}

Point a proxy at them:

  export COMPLETION_PROXY_VERTEX__BASE_URL={vertex}
  export COMPLETION_PROXY_VERTEX__CREDENTIALS=static
  export COMPLETION_PROXY_VERTEX__TOKEN=simulated
  export COMPLETION_PROXY_CLAUDE__BASE_URL={claude}
  export COMPLETION_PROXY_CLAUDE__API_KEY=simulated

Ask for a completion (of the proxy: put its address in place of this one):

  curl {vertex}/v1/projects/p/locations/us-central1/publishers/mistralai/models/codestral-2:rawPredict \\
    -H 'Authorization: Bearer simulated' -H 'Content-Type: application/json' \\
    -d '{{"model": "codestral-2", "prompt": "def add(a, b):\\n    return ", "suffix": "\\n", "max_tokens": 64}}'

Break something, look, and mend it (GET {vertex}/_fault names the presets):

  curl -X PUT {vertex}/_fault -d '{{"preset": "unavailable"}}'
  curl -X PUT {vertex}/_fault -d '{{"preset": "refused", "seconds": 10}}'
  curl {vertex}/_requests
  curl -X DELETE {vertex}/_fault

Ctrl-C ends it.
"""


async def simulate(
    vertex_port: int, claude_port: int, echo: Callable[[str], None] = print, *, host: str = "127.0.0.1"
) -> None:
    """Run both providers until SIGINT, SIGTERM or cancellation; port 0 picks one.

    `echo` is given the guide, once both listen. Raises OSError if an address cannot be had. Whoever can reach `host`
    can break them: another one than loopback is for a network of the demo's own.
    """
    vertex, claude = SimulatedVertex(), SimulatedClaude()
    with _interruption() as interrupted:
        try:
            await vertex.start(host, vertex_port)
            await claude.start(host, claude_port)
            echo(GUIDE.format(vertex=vertex.url, claude=claude.url))
            await interrupted.wait()
        finally:
            await vertex.stop()
            await claude.stop()


@contextlib.contextmanager
def _interruption() -> Iterator[asyncio.Event]:
    """Set by a signal, from before anything is said: who has read the guide may end it at once."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    with contextlib.ExitStack() as restored:
        for each in SIGNALS:
            # Off the main thread, and on Windows, the loop takes no signals; cancellation still ends it.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(each, interrupted.set)
                restored.callback(loop.remove_signal_handler, each)
        yield interrupted
