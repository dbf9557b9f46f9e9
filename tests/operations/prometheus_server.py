"""A real Prometheus for a test: its own data, loopback only, scraping one proxy twice a second.

The rules are those of grafana/prometheus, every length of time in them shortened by rule, so that a test need not last
for hours; their numbers, labels and texts are as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import shutil
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from tests.operations.queries import RULE_FILES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PROMETHEUS = shutil.which("prometheus")

_UNITS = {"s": 1, "m": 60, "h": 3600}
_TIMES_SHORTER = 60
_LEAST_WINDOW_SECONDS = 4
"""Eight scrapes: a machine that is busy may miss some of them."""
_LONGEST_WAIT_SECONDS = 2
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


class Server:
    """A running Prometheus, asked over its HTTP API."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session

    async def query(self, text: str) -> list[Sample]:
        """The instant answer, now; a scalar is a sample without labels."""
        data = (await self._get("/api/v1/query", query=text))["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    async def value(self, text: str) -> float:
        """The one sample that the query gives; NaN while it gives none."""
        samples = await self.query(text)
        assert len(samples) <= 1, samples
        return samples[0].value if samples else math.nan

    async def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire now, by name: each is one, however many replicas there are."""
        alerts = (await self._get("/api/v1/alerts"))["data"]["alerts"]
        found = [alert for alert in alerts if alert["state"] == "firing"]
        by_name = {alert["labels"]["alertname"]: alert for alert in found}
        assert len(by_name) == len(found), found
        return by_name

    async def rules(self) -> list[dict[str, Any]]:
        groups = (await self._get("/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def until(self, text: str, holds: Callable[[float], bool]) -> float:
        """Wait until the query's one value is as it should be; returns it."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not holds(value := await self.value(text)):  # noqa: ASYNC110 (what another process does has no event)
                await asyncio.sleep(0.2)
        return value

    async def until_firing(self, *names: str) -> dict[str, dict[str, Any]]:
        """Wait until these alerts fire, and no other; returns them."""
        found: dict[str, dict[str, Any]] = {}
        async for _ in _attempts():
            if set(found := await self.firing()) == set(names):
                return found
        raise AssertionError(f"{sorted(found)} fire, not {sorted(names)}")

    async def ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.get(f"{self._address}/-/ready") as response:
                return response.status == 200
        return False

    async def _get(self, path: str, **parameters: str) -> Any:
        async with self._session.get(self._address + path, params=parameters) as response:
            answer = await response.json()
            assert answer["status"] == "success", answer
            return answer


async def _attempts() -> AsyncIterator[None]:
    """Times to look again, for as long as anything here may take."""
    for _ in range(int(_PATIENCE_SECONDS / _PAUSE_SECONDS)):
        yield
        await asyncio.sleep(_PAUSE_SECONDS)


def shortened(document: dict[str, Any]) -> dict[str, Any]:
    """The rules of a file with their windows 60 times shorter (4 s at least), and their waits at most 2 s long."""
    for group in document["groups"]:
        group["interval"] = "500ms"
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[(\w+)\]", lambda found: f"[{_window(found[1])}s]", rule["expr"])
            for wait in rule.keys() & {"for", "keep_firing_for"}:
                rule[wait] = f"{min(math.ceil(_seconds(rule[wait]) / _TIMES_SHORTER), _LONGEST_WAIT_SECONDS)}s"
    return document


def _window(length: str) -> int:
    return max(math.ceil(_seconds(length) / _TIMES_SHORTER), _LEAST_WINDOW_SECONDS)


def _seconds(length: str) -> int:
    (found,) = re.finditer(r"^(\d+)([smh])$", length)
    return int(found[1]) * _UNITS[found[2]]


def _write_configuration(folder: Path, target: str) -> Path:
    for file in RULE_FILES:
        (folder / file.name).write_text(yaml.safe_dump(shortened(yaml.safe_load(file.read_text()))))
    configuration = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [file.name for file in RULE_FILES],
        "scrape_configs": [{"job_name": "completion-proxy", "static_configs": [{"targets": [target]}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    return file


def _free_port() -> int:
    """Prometheus tells nobody which port it got for 0. Below those that connections are given: none takes it since."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Server]:
    """A Prometheus that scrapes `target` (host:port) and keeps what it has in `folder`."""
    assert PROMETHEUS is not None
    configuration = _write_configuration(folder, target)
    port = _free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROMETHEUS,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Server(f"http://127.0.0.1:{port}", session)
            async for _ in _attempts():
                if await server.ready():
                    break
                assert process.returncode is None, (folder / "prometheus.log").read_text()
            yield server
    finally:
        if process.returncode is None:
            # Nothing of it is wanted any more, so it need not write it all down first.
            process.kill()
        await process.wait()
