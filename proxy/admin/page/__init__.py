"""The status page of the admin listener, and the feed that keeps it live.

One renderer: the server writes the whole page, and the script in it fetches the same page again and swaps the parts
that have changed. So it works without scripts, and what it shows cannot differ from what the server says.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from proxy.admin.page.feed import Feed
from proxy.admin.page.shared import Shared
from proxy.admin.page.view import view
from proxy.daemon_threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from proxy.history.timeline import Timeline
    from proxy.status import Status

__all__ = ["Feed", "add_page"]

# No script, style or form of another origin, and none that stands in the page itself: models' names come from callers.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # Without any referrer a browser sends a form with an Origin of "null", which is what a foreign page has.
    "Referrer-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-store",
}
_FILES = {"/status.css": "text/css", "/status.js": "text/javascript", "/icon.svg": "image/svg+xml"}


def add_page(
    application: web.Application,
    status: Status,
    timeline: Timeline,
    feed: Feed,
    *,
    needs_token: Callable[[], bool],
    wall_clock: Callable[[], datetime],
    instance: str,
) -> None:
    """Add the page, what belongs to it, and `/events`."""

    def render(template: Any, *, hold: bool) -> str:
        shown = view(status.snapshot(), timeline, wall_clock())
        return str(template.render(page=shown, needs_token=needs_token(), instance=instance, hold=hold))

    async def prepare(*, hold: bool) -> Callable[[], str]:
        # The first time, the library is loaded: in a thread, for completions are served meanwhile.
        template = _template() if _template.cache_info().currsize else await in_daemon_thread(_template)
        return partial(render, template, hold=hold)

    pages = {hold: Shared(partial(prepare, hold=hold), lambda: feed.news) for hold in (False, True)}

    async def show(request: web.Request) -> web.Response:
        text = await pages["hold" in request.query].text()
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def asset(request: web.Request) -> web.Response:
        return web.Response(text=_file(request.path), content_type=_FILES[request.path], headers=_HEADERS)

    application.router.add_get("/", show)
    for path in _FILES:
        application.router.add_get(path, asset)
    # An answer to HEAD has no body, and a feed is nothing else.
    application.router.add_get("/events", feed.serve, allow_head=False)
    application.on_shutdown.append(feed.close)


@cache
def _file(path: str) -> str:
    return (Path(__file__).parent / path.removeprefix("/")).read_text("utf-8")


@cache
def _template() -> Any:
    # Imported when the first page is asked for: serving must not wait for it.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("/status.html"))
