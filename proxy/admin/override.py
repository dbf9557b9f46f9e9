"""The override through the admin listener: for the command, for scripts, and for the status page's form."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from proxy.admin.gate import Gate, error
from proxy.moments import parse_length
from proxy.override import OverrideMode, entry
from proxy.override_desk import DEFAULT_LENGTH, LONGEST, OverrideDesk, OverrideRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_KEYS = ("mode", "reason", "actor", "ttl_seconds", "percent", "force")
_LONGEST_TEXT = 500
_LARGEST_BODY = 64 * 1024
_WRITTEN_SECONDS = 1.0


class _Invalid(ValueError):
    """What was asked for makes no override; the message names the field."""


@dataclass(frozen=True, slots=True)
class _Wish:
    mode: OverrideMode
    reason: str
    actor: str | None
    length: timedelta
    percent: float
    force: bool


def add_override(
    application: web.Application, desk: OverrideDesk, gate: Gate, written: Callable[[float], Awaitable[bool]]
) -> None:
    """Add the routes of the override, and the login of the page.

    `written(seconds)` waits until the journal has a change in its file, and says whether it has: else a restart undoes
    the change, which the answer's `outlives_restart` tells.
    """

    async def show(_: web.Request) -> web.Response:
        return _shown(desk)

    async def put(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        try:
            wish = _wish(await _object(request))
        except _Invalid as invalid:
            return error(400, str(invalid))
        return await _done(desk, _set(desk, wish), written)

    async def delete(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        try:
            said = await _object(request) if request.can_read_body else {}
            _refuse_unknown(said, ("actor",))
            return await _done(desk, _clear(desk, _text(said, "actor")), written)
        except _Invalid as invalid:
            return error(400, str(invalid))

    async def post(request: web.Request) -> web.Response:
        try:
            form: Mapping[str, Any] = await request.post()
        except (ValueError, LookupError):
            form = {}
        if (refusal := gate.refusal(request, presented=str(form.get("token", "")))) is not None:
            return _page(refusal)
        try:
            said = _from_form({name: str(value) for name, value in form.items()})
            clears = said["mode"] == OverrideMode.AUTO
            done = await _done(desk, _clear(desk, _text(said, "actor")) if clears else _set(desk, _wish(said)), written)
        except _Invalid as invalid:
            return _page(error(400, str(invalid)))
        return _page(done) if done.status != 200 else web.Response(status=303, headers={hdrs.LOCATION: "/"})

    async def login(request: web.Request) -> web.Response:
        return gate.refusal(request) or web.Response(status=204)

    application.router.add_get("/override", show)
    application.router.add_put("/override", put)
    application.router.add_delete("/override", delete)
    application.router.add_post("/override", post)
    application.router.add_post("/login", login)


async def _done(desk: OverrideDesk, answer: web.Response, written: Callable[[float], Awaitable[bool]]) -> web.Response:
    """An answer to a change, when that is in the journal's file, or has had the time to be."""
    if answer.status != 200:
        return answer
    return _json({**entry(desk.current()), "outlives_restart": await written(_WRITTEN_SECONDS)})


def _shown(desk: OverrideDesk) -> web.Response:
    return _json(entry(desk.current()))


def _json(value: Mapping[str, Any]) -> web.Response:
    return web.json_response(value, dumps=lambda value: json.dumps(value, indent=2) + "\n")


def _set(desk: OverrideDesk, wish: _Wish) -> web.Response:
    try:
        desk.set(
            wish.mode,
            reason=wish.reason,
            actor=wish.actor,
            length=wish.length,
            percent=wish.percent,
            force=wish.force,
        )
    except OverrideRefused as refused:
        return error(409, str(refused))
    return _shown(desk)


def _clear(desk: OverrideDesk, actor: str | None) -> web.Response:
    try:
        desk.clear(actor)
    except OverrideRefused as refused:
        return error(409, str(refused))
    return _shown(desk)


async def _object(request: web.Request) -> dict[str, Any]:
    body = bytearray()
    # What is there is not all: a body may come in several pieces.
    while piece := await request.content.readany():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise _Invalid("the body is too large")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise _Invalid("the body must be JSON") from None
    if not isinstance(said, dict):
        raise _Invalid("the body must be a JSON object")
    return said


def _refuse_unknown(said: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [key for key in said if key not in known]:
        raise _Invalid(f"{unknown[0][:40]!r}: there is no such field; the fields are {', '.join(known)}")


def _wish(said: Mapping[str, Any]) -> _Wish:
    _refuse_unknown(said, _KEYS)
    if said.get("mode") not in (OverrideMode.VERTEX, OverrideMode.CLAUDE):
        raise _Invalid("mode must be vertex or claude; to let go of an override, delete it")
    reason = _text(said, "reason")
    if reason is None:
        raise _Invalid("reason is required: whoever comes after you wants to know why")
    length = timedelta(seconds=_number(said, "ttl_seconds", DEFAULT_LENGTH.total_seconds(), LONGEST.total_seconds()))
    force = said.get("force", False)
    if not isinstance(force, bool):
        raise _Invalid("force must be true or false")
    return _Wish(
        OverrideMode(said["mode"]), reason, _text(said, "actor"), length, _number(said, "percent", 100, 100), force
    )


def _text(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > _LONGEST_TEXT or not _is_text(value)):
        raise _Invalid(f"{key} must be a text of at most {_LONGEST_TEXT} characters")
    return " ".join(value.split()) or None if value is not None else None


def _is_text(value: str) -> bool:
    """Whether it can be written: JSON may hold half a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(said: Mapping[str, Any], key: str, default: float, most: float) -> float:
    value = said.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most or math.isnan(value):
        raise _Invalid(f"{key} must be a number above 0 and at most {most:g}")
    return float(value)


def _from_form(form: Mapping[str, str]) -> dict[str, Any]:
    """What a form of the browser's own says, as the JSON would have said it."""
    said: dict[str, Any] = {key: form[key] for key in ("mode", "reason", "actor") if form.get(key, "").strip()}
    said.setdefault("mode", "")
    if length := form.get("ttl", "").strip():
        try:
            said["ttl_seconds"] = parse_length(length).total_seconds()
        except ValueError as invalid:
            raise _Invalid(f"for how long: {invalid}") from None
    if percent := form.get("percent", "").strip():
        try:
            said["percent"] = float(percent)
        except ValueError:
            raise _Invalid("percent must be a number above 0 and at most 100") from None
    said["force"] = form.get("force", "") in ("on", "true", "1")
    return said


def _page(answer: web.Response) -> web.Response:
    """An error for people: the same words, with the way back."""
    body = answer.body if isinstance(answer.body, bytes) else b"{}"
    message = html.escape(json.loads(body)["error"]["message"])
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Nothing was changed</title>'
        f'<h1>Nothing was changed</h1><p>{message}</p><p><a href="/">Back</a></p></html>\n'
    )
    response = web.Response(status=answer.status, text=page, content_type="text/html")
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return response
