"""The endpoints by which a simulated provider is handled from outside while it runs, on its own port.

`PUT /_fault`, `GET /_fault`, `DELETE /_fault`, `GET /_requests`. They are neither recorded nor struck by faults.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .faults import Fault, FaultError

if TYPE_CHECKING:
    from .server import SimulatedProvider

PREFIX = "/_"
SHOWN = 10
REFUSED = "refused"


async def respond(provider: SimulatedProvider, request: web.BaseRequest) -> web.StreamResponse:
    """Answer one request to a control endpoint, in JSON."""
    match request.method, request.path:
        case "GET", "/_fault":
            return _json(200, _state(provider))
        case "PUT", "/_fault":
            return await _put_fault(provider, request)
        case "DELETE", "/_fault":
            provider.fault = None
            return _json(200, _state(provider))
        case "GET", "/_requests":
            return _json(200, _requests(provider))
        case _, ("/_fault" | "/_requests"):
            return _json(405, {"error": f"{request.path} does not take {request.method}"})
    return _json(404, {"error": "there are PUT, GET and DELETE /_fault, and GET /_requests"})


async def _put_fault(provider: SimulatedProvider, request: web.BaseRequest) -> web.StreamResponse:
    try:
        document = json.loads(await request.content.read())
        if isinstance(document, dict) and document.get("preset") == REFUSED:
            return await _refuse(provider, document)
        provider.fault = Fault.from_json(document, provider.presets)
    except FaultError as error:
        return _json(400, {"error": str(error)})
    except ValueError as error:
        return _json(400, {"error": f"the body is not JSON: {error}"})
    return _json(200, _state(provider))


async def _refuse(provider: SimulatedProvider, document: dict[str, Any]) -> web.StreamResponse:
    seconds = document.get("seconds")
    good = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < float("inf")
    if not good or document.keys() != {"preset", "seconds"}:
        raise FaultError(
            'refused takes {"preset": "refused", "seconds": N} and nothing else: with the socket closed nobody can '
            "ask for it to be opened again"
        )
    await provider.refuse(seconds=seconds)
    return _json(200, {"provider": provider.name, "refused_for_seconds": seconds})


def _state(provider: SimulatedProvider) -> dict[str, Any]:
    return {
        "provider": provider.name,
        "fault": None if provider.fault is None else provider.fault.to_json(),
        "presets": sorted([*provider.presets, REFUSED]),
    }


def _requests(provider: SimulatedProvider) -> dict[str, Any]:
    return {
        "count": provider.calls,
        "in_flight": provider.in_flight,
        "max_in_flight": provider.max_in_flight,
        "last": [record.summary() for record in list(provider.requests)[-SHOWN:]],
    }


def _json(status: int, document: object) -> web.Response:
    # ensure_ascii: what is shown may hold lone surrogates.
    return web.Response(status=status, body=json.dumps(document).encode() + b"\n", content_type="application/json")
