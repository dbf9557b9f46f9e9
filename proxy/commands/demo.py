"""`completion-proxy demo`: an outage from beginning to end, on loopback, with simulated providers and a steady load.

Everything is the real thing but the providers and the shorter times, which are shown. Each answer is compared with what
its provider must have said: an answer that is late, broken off or not the one for its request counts as lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import structlog

from health.outcome import OutcomeKind
from health.transitions import CircuitState
from proxy import events, headers
from proxy.app import App
from proxy.commands.demo_view import Plain, show_summary, view
from proxy.events import RouteReason
from proxy.settings import load_settings
from proxy.simulator import Fault, SimulatedClaude, SimulatedVertex, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.commands.demo_view import View
    from proxy.events import Event

_MODEL = "codestral-2"
_PATH = f"/v1/projects/demo/locations/us-central1/publishers/mistralai/models/{_MODEL}"
_PATIENCE_SECONDS = 5.0
"""An editor gives up a completion after so long; so does the load."""


@dataclass(frozen=True, slots=True)
class Script:
    """How long each act lasts, in seconds, and the settings that fit such short acts."""

    healthy: float
    failing: float
    slow: float
    back: float
    slow_seconds: float
    settings: dict[str, str]
    requests_per_second: float = 40.0


FULL = Script(
    healthy=4.0,
    failing=5.0,
    slow=4.0,
    back=7.0,
    slow_seconds=0.8,
    settings={
        "WINDOW_SECONDS": "5",
        "SLOW_CALL_SECONDS": "0.4",
        "OPEN_SECONDS": "1",
        "MAX_OPEN_SECONDS": "2",
        "RAMP_SECONDS": "2",
    },
)
FAST = Script(
    healthy=1.2,
    failing=1.6,
    slow=1.4,
    back=2.2,
    slow_seconds=0.5,
    settings={
        "WINDOW_SECONDS": "2",
        "SLOW_CALL_SECONDS": "0.25",
        "OPEN_SECONDS": "0.4",
        "MAX_OPEN_SECONDS": "0.8",
        "RAMP_SECONDS": "1",
    },
)


@dataclass(slots=True)
class Tally:
    """What happened, for the view while it happens and for the summary."""

    script: Script
    clock: Callable[[], float]
    started_at: float = 0.0
    act: str = ""
    requests: int = 0
    lost: list[str] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)
    repaired_seconds: list[float] = field(default_factory=list)
    backup_seconds: list[float] = field(default_factory=list)
    first_bad_at: float | None = None
    tripped_at: float | None = None
    recovered_at: float | None = None
    returned_at: float | None = None
    switches: list[tuple[float, events.Switch]] = field(default_factory=list)
    transitions: list[tuple[float, events.CircuitMoved]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return self.clock() - self.started_at

    def listen(self, event: Event) -> None:
        """A listener of the proxy's hub."""
        now = self.elapsed
        match event:
            case events.AttemptEnded(upstream="vertex", outcome=outcome, seconds_to_first_byte=seconds):
                slow = seconds is not None and seconds > float(self.script.settings["SLOW_CALL_SECONDS"])
                if self.first_bad_at is None and (outcome.kind is OutcomeKind.FAILED or slow):
                    self.first_bad_at = now
            case events.CircuitMoved(upstream="vertex"):
                self.transitions.append((now, event))
                if self.tripped_at is None and event.transition.to_state is CircuitState.OPEN:
                    self.tripped_at = now
            case events.Switch():
                self.switches.append((now, event))
                if self.recovered_at is not None and event.to_upstream == "vertex":
                    self.returned_at = now

    def count(self, upstream: str, reason: str, seconds: float) -> None:
        """A request that was served."""
        self.served[upstream] += 1
        if upstream == "claude":
            direct = reason in {RouteReason.CIRCUIT_OPEN, RouteReason.PROBE_DOWN}
            (self.backup_seconds if direct else self.repaired_seconds).append(seconds)

    def added_seconds(self) -> tuple[float, float] | None:
        """Median and largest latency that a repaired request had over one that went to the backup at once."""
        if not self.repaired_seconds or not self.backup_seconds:
            return None
        usual = statistics.median(self.backup_seconds)
        return statistics.median(self.repaired_seconds) - usual, max(self.repaired_seconds) - usual


class Load:
    """Asks at a steady pace, whatever the answers; every other request is for a stream."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
        self._session = session
        self._url = url
        self._tally = tally

    async def run(self) -> None:
        """Until cancelled; then waits for what is still on its way."""
        pause = 1 / self._tally.script.requests_per_second
        asking: set[asyncio.Task[None]] = set()
        due = self._tally.clock()
        try:
            while True:
                task = asyncio.create_task(self._ask(self._tally.requests))
                asking.add(task)
                task.add_done_callback(asking.discard)
                self._tally.requests += 1
                due += pause
                await asyncio.sleep(max(0.0, due - self._tally.clock()))
        except asyncio.CancelledError:
            await asyncio.gather(*asking)
            raise

    async def _ask(self, number: int) -> None:
        stream = number % 2 == 1
        prefix, suffix = f"def task_{number}(value):\n    return ", "\n\nprint(task_0(1))\n"
        body = {"model": _MODEL, "prompt": prefix, "suffix": suffix, "max_tokens": 64, "stream": stream}
        started = self._tally.clock()
        try:
            async with self._session.post(
                f"{self._url}{_PATH}:{'streamRawPredict' if stream else 'rawPredict'}", json=body
            ) as response:
                upstream = response.headers.get(headers.UPSTREAM, "")
                reason = response.headers.get(headers.REASON, "")
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._tally.lost.append(type(error).__name__)
            return
        if response.status != 200:
            self._tally.lost.append(f"status {response.status}")
        elif _text(answer, stream=stream) != model.complete(upstream, prefix, suffix):
            self._tally.lost.append(f"not the answer of {upstream} to this request")
        else:
            self._tally.count(upstream, reason, self._tally.clock() - started)


def _text(answer: bytes, *, stream: bool) -> str | None:
    """The completion in an answer; None where it is not complete."""
    if not stream:
        return str(json.loads(answer)["choices"][0]["message"]["content"])
    *chunks, last, end = answer.decode().split("\n\n")
    if last != "data: [DONE]" or end:
        return None
    deltas = (json.loads(chunk.removeprefix("data: "))["choices"][0]["delta"] for chunk in chunks)
    return "".join(delta.get("content") or "" for delta in deltas)


async def run_demo(*, fast: bool) -> int:
    """Run the script and show it; returns 0 if no request was lost, else 1."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    script = FAST if fast else FULL
    tally = Tally(script, asyncio.get_running_loop().time)
    async with AsyncExitStack() as stack:
        vertex = await stack.enter_async_context(SimulatedVertex())
        claude = await stack.enter_async_context(SimulatedClaude())
        vertex.latency, claude.latency = 0.06, 0.09
        app = App(load_settings(environ=_environment(script, vertex.url, claude.url)), listeners=(tally.listen,))
        await app.start()
        stack.push_async_callback(app.stop)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
            )
        )
        tally.started_at = tally.clock()
        load = asyncio.create_task(Load(session, app.address, tally).run())
        with view(tally, app.status.snapshot) as shown:
            await _play(tally, vertex, shown)
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
    show_summary(tally)
    return 1 if tally.lost or not tally.served["claude"] else 0


async def _play(tally: Tally, vertex: SimulatedVertex, shown: View) -> None:
    for act, seconds, fault in _acts(tally.script):
        tally.act = act
        vertex.fault = fault
        if fault is None and tally.first_bad_at is not None:
            tally.recovered_at = tally.elapsed
        if isinstance(shown, Plain):
            shown.begin(act)
        end = tally.clock() + seconds
        while (left := end - tally.clock()) > 0:
            await asyncio.sleep(min(left, 0.125))
            shown.refresh()


def _acts(script: Script) -> Iterator[tuple[str, float, Fault | None]]:
    yield "Vertex is well", script.healthy, None
    yield "Vertex answers 503", script.failing, Fault(status=503)
    yield f"Vertex needs {script.slow_seconds:g} s", script.slow, Fault(delay_before_headers=script.slow_seconds)
    yield "Vertex is back", script.back, None


def _environment(script: Script, vertex_url: str, claude_url: str) -> dict[str, str]:
    values = {
        "PORT": "0",
        "ADMIN_PORT": "0",
        "VERTEX__BASE_URL": vertex_url,
        "VERTEX__CREDENTIALS": "static",
        "VERTEX__TOKEN": "simulated",
        "CLAUDE__BASE_URL": claude_url,
        "CLAUDE__API_KEY": "simulated",
        "PROBES__TARGETS": f"demo/us-central1/mistralai/{_MODEL}",
        **{f"BREAKER__{name}": value for name, value in script.settings.items()},
    }
    return {f"COMPLETION_PROXY_{name}": value for name, value in values.items()}
