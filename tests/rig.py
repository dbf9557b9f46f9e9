"""The whole proxy between simulated providers, on loopback sockets: what every end-to-end test stands on."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from proxy.app import App
from proxy.settings import load_settings
from proxy.simulator import SimulatedClaude, SimulatedVertex, model
from proxy.upstreams.transport import raw_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from multidict import CIMultiDictProxy

    from proxy.events import Event

VERTEX_TOKEN = "token-of-the-proxy"
CLAUDE_KEY = "key-of-the-proxy"
TARGET = "project/us-central1/mistralai/codestral-2"
PREFIX = "def add(a, b):\n    return "
SUFFIX = "\n\nprint(add(1, 2))\n"


def path(model: str = "codestral-2", *, stream: bool = False, version: str = "v1") -> str:
    method = "streamRawPredict" if stream else "rawPredict"
    return f"/{version}/projects/project/locations/us-central1/publishers/mistralai/models/{model}:{method}"


def fim(**fields: Any) -> dict[str, Any]:
    return {"model": "codestral-2", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 64, **fields}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "codestral-2", "messages": [{"role": "user", "content": "Say something."}], **fields}


def expected(provider: str) -> str:
    """What `provider` answers to `fim()`."""
    return model.complete(provider, PREFIX, SUFFIX)


@dataclass
class Answered:
    """A response as the caller saw it; `broken` where its body never came to a proper end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    broken: bool
    seconds: float

    @property
    def served_by(self) -> tuple[str | None, str | None]:
        return self.headers.get("x-completion-proxy-upstream"), self.headers.get("x-completion-proxy-reason")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def chunks(self) -> list[Any]:
        """The events of a stream, the terminator left out."""
        events = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n")]
        return [json.loads(event) for event in events if event and event != "[DONE]"]

    @property
    def finished(self) -> bool:
        """Whether the stream said that it is complete."""
        return self.body.endswith(b"data: [DONE]\n\n")

    @property
    def text(self) -> str:
        """The completion, whole or from a stream."""
        if self.headers["Content-Type"].startswith("text/event-stream"):
            return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in self.chunks)
        content = self.json["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content


@dataclass
class Rig:
    """One proxy, its two providers and a client."""

    app: App
    vertex: SimulatedVertex
    claude: SimulatedClaude
    session: aiohttp.ClientSession
    events: list[Event] = field(default_factory=list)

    async def ask(self, body: Any = None, *, url: str | None = None, **options: Any) -> Answered:
        """POST a body (bytes as they are, else as JSON); a `stream` in it chooses the method, as clients do."""
        body = fim() if body is None else body
        if url is None:
            url = path(stream=isinstance(body, dict) and bool(body.get("stream")))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": "Bearer of-the-caller"}
        headers |= options.pop("headers", {})
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with self.session.post(
            raw_url(self.app.address, url), data=io.BytesIO(data), headers=headers, **options
        ) as response:
            received, broken = bytearray(), False
            try:
                async for piece in response.content.iter_any():
                    received += piece
            except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
                broken = True
            return Answered(response.status, response.headers, bytes(received), broken, loop.time() - started)

    async def admin(self, url: str, **options: Any) -> tuple[int, str]:
        async with self.session.get(self.app.admin_address + url, **options) as response:
            return response.status, await response.text()

    async def status(self) -> Any:
        return json.loads((await self.admin("/status.json"))[1])

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample; 0.0 for one that does not exist is an error, so labels must be right."""
        value = self.app.metrics.registry.get_sample_value(f"completion_proxy_{name}", labels)
        assert value is not None, f"there is no {name}{labels}"
        return value

    def seen(self, kind: type[Any]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait for something to hold; returns how long it took."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while not holds():
            assert loop.time() - started < seconds, "it never came to hold"
            await asyncio.sleep(min(0.05, seconds / 20))
        return loop.time() - started


def circuit_is(rig: Rig, upstream: str, state: str, model: str = "codestral-2") -> Callable[[], bool]:
    return lambda: rig.metric("breaker_state", upstream=upstream, model=model, state=state) == 1


def environment(vertex: str, claude: str, **settings: str) -> dict[str, str]:
    """The environment of a proxy that stands between two simulated providers; probing is off unless asked for."""
    values = {
        "PORT": "0",
        "ADMIN_PORT": "0",
        "VERTEX__BASE_URL": vertex,
        "VERTEX__CREDENTIALS": "static",
        "VERTEX__TOKEN": VERTEX_TOKEN,
        "CLAUDE__BASE_URL": claude,
        "CLAUDE__API_KEY": CLAUDE_KEY,
        "PROBES__INTERVAL_SECONDS": "0",
        **settings,
    }
    return {f"COMPLETION_PROXY_{name}": value for name, value in values.items() if value}


@asynccontextmanager
async def rig(wall_clock: Callable[[], datetime] | None = None, /, **settings: str) -> AsyncIterator[Rig]:
    """A running rig; `settings` by their names without the prefix, "" to leave one of the usual out.

    `wall_clock` is what overrides end by.
    """
    async with AsyncExitStack() as stack:
        vertex = await stack.enter_async_context(SimulatedVertex())
        claude = await stack.enter_async_context(SimulatedClaude())
        vertex.accepted_tokens = {VERTEX_TOKEN}
        claude.accepted_keys = {CLAUDE_KEY}
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
        events: list[Event] = []
        environ = environment(vertex.url, claude.url, **settings)
        clock = {} if wall_clock is None else {"wall_clock": wall_clock}
        app = App(load_settings(environ=environ), listeners=(events.append,), **clock)
        await app.start()
        stack.push_async_callback(app.stop)
        yield Rig(app, vertex, claude, session, events)


@asynccontextmanager
async def load(proxy: Rig) -> AsyncIterator[None]:
    """Some twenty requests a second, whatever comes of them."""

    async def ask() -> None:
        while True:
            await asyncio.gather(proxy.ask(), proxy.ask(fim(stream=True)), asyncio.sleep(0.1))

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
