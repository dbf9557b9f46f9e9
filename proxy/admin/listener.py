"""The admin listener: is the process well, and what does it know. Not on the way of any completion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.history.incidents import Incidents
    from proxy.history.journal import Journal
    from proxy.metrics import Metrics
    from proxy.status import Status


def admin_application(
    metrics: Metrics, status: Status, journal: Journal, incidents: Incidents, draining: Callable[[], bool]
) -> web.Application:
    """The routes of the admin listener that only read; `add_override` and `add_page` add theirs."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if draining():
            return web.Response(status=503, text="draining\n")
        return web.Response(text="ready\n")

    async def show_metrics(request: web.Request) -> web.Response:
        body, content_type = metrics.render(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def show_status(_: web.Request) -> web.Response:
        return web.json_response(status.snapshot(), dumps=_dumps)

    async def show_incidents(_: web.Request) -> web.Response:
        return web.json_response({"incidents": incidents.entries})

    async def show_journal(_: web.Request) -> web.Response:
        return web.json_response({"entries": journal.entries})

    application = web.Application()
    application.router.add_get("/livez", livez)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/status.json", show_status)
    application.router.add_get("/incidents", show_incidents)
    application.router.add_get("/journal", show_journal)
    return application


def _dumps(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
