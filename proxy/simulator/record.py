"""What a simulated provider remembers of each request, for tests to look at."""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web

from .faults import Fault

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "x-completion-proxy-token"})


@dataclass(slots=True, eq=False)
class RecordedRequest:
    """One request as it arrived. Times are those of the event loop's clock, in seconds."""

    method: str
    raw_path: str
    """The request target exactly as sent; bytes that are no UTF-8 are surrogate escapes."""
    headers: list[tuple[str, str]]
    """In the order and the spelling in which they were sent, decoded as latin-1."""
    started_at: float
    body: bytes = b""
    """As sent, still compressed if it was."""
    status: int | None = None
    """Of the answer that was meant for it; None if the connection was to be reset instead."""
    fault: Fault | None = None
    """What struck it."""
    finished: bool = False
    """The answer was ended as HTTP demands it, even if early."""
    aborted_at: float | None = None
    """When the caller closed the connection before the answer had ended."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is nothing more to come, for whatever reason."""

    @classmethod
    def of(cls, request: web.BaseRequest, now: float) -> RecordedRequest:
        """The record of a request whose headers have arrived."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        return cls(method=request.method, raw_path=request.raw_path, headers=headers, started_at=now)

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)

    @property
    def content_type(self) -> str | None:
        """The media type of the body, without parameters, in lower case."""
        value = self.header("content-type")
        return None if value is None else value.partition(";")[0].strip().lower()

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return self.parse()
        except ValueError:
            return None

    def parse(self) -> Any:
        """The body as JSON, decompressed if need be. Raises ValueError."""
        body = self.body
        if self.header("content-encoding") == "gzip":
            try:
                body = zlib.decompress(body, wbits=16 + zlib.MAX_WBITS)
            except zlib.error as error:
                raise ValueError("the body is not gzip") from error
        try:
            return json.loads(body, parse_constant=_no_constant)
        except RecursionError as error:
            raise ValueError("the body is nested too deeply") from error

    def summary(self) -> dict[str, Any]:
        """What may be shown of it: everything but secrets."""
        return {
            "method": self.method,
            "path": self.raw_path,
            "headers": [[name, "***" if _is_secret(name) else value] for name, value in self.headers],
            "body": self.json,
            "status": self.status,
            "fault": None if self.fault is None else self.fault.to_json(),
            "finished": self.finished,
            "aborted": self.aborted_at is not None,
        }


def _is_secret(name: str) -> bool:
    return name.lower() in SECRET_HEADERS or name.lower().startswith("x-goog-")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
