"""The override through the admin listener: for the command, for scripts, and for the status page's form."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from proxy.admin.gate import Gate, error
from proxy.override import LEAST_PERCENT, OverrideMode, entry
from proxy.override_desk import DEFAULT_LENGTH, LONGEST, OverrideDesk, OverrideRefused, length_of
from proxy.printable import unprintable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_KEYS = ("mode", "reason", "actor", "ttl_seconds", "percent", "force")
_LONGEST_TEXT = 500
_LARGEST_BODY = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 50
_WRITTEN_SECONDS = 1.0


class _Invalid(Exception):
    """What was asked for makes no override; the message names the field."""

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Wish:
    mode: OverrideMode
    reason: str
    actor: str | None
    length: timedelta
    percent: float
    force: bool


def add_override(
    application: web.Application,
    desk: OverrideDesk,
    gate: Gate,
    written: Callable[[float], Awaitable[bool]] | None,
    *,
    instance: str,
) -> None:
    """Add the routes of the override, and the login of the page.

    `written(seconds)` waits until the journal has a change in its file, and says whether it has: else a restart undoes
    the change, which the answer's `outlives_restart` tells. None where the journal has no file.
    `instance` names this proxy among its replicas.
    """

    def shown(**more: Any) -> web.Response:
        below = [entry(override) for override in desk.shadowed()]
        value = {**entry(desk.current()), "shadowed": below, "instance": instance, **more}
        return web.json_response(value, dumps=lambda value: json.dumps(value, indent=2) + "\n")

    async def set_to(wish: _Wish) -> web.Response:
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
        return shown(outlives_restart=written is not None and await written(_WRITTEN_SECONDS))

    async def clear(actor: str | None) -> web.Response:
        try:
            cleared = desk.clear(actor)
        except OverrideRefused as refused:
            return error(409, str(refused))
        said = None if cleared is None else entry(cleared)
        # Where nothing is kept, nothing comes back.
        return shown(cleared=said, outlives_restart=written is None or await written(_WRITTEN_SECONDS))

    async def show(_: web.Request) -> web.Response:
        return shown()

    async def put(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        try:
            return await set_to(_wish(await _object(request)))
        except _Invalid as invalid:
            return error(invalid.code, str(invalid))

    async def delete(request: web.Request) -> web.Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        try:
            said = await _object(request) if request.can_read_body else {}
            _refuse_unknown(said, ("actor",))
            return await clear(_text(said, "actor"))
        except _Invalid as invalid:
            return error(invalid.code, str(invalid))

    async def post(request: web.Request) -> web.Response:
        # The token stands in the form itself; whoever is a stranger without it is not read at all.
        if (refusal := gate.foreign(request)) is not None:
            return _page(refusal)
        try:
            form = await _form(request)
            if (refusal := gate.refusal(request, presented=form.get("token", ""))) is not None:
                return _page(refusal)
            said = _from_form(form)
            clears = said["mode"] == OverrideMode.AUTO
            done = await (clear(_text(said, "actor")) if clears else set_to(_wish(said)))
        except _Invalid as invalid:
            return _page(error(invalid.code, str(invalid)))
        return _page(done) if done.status != 200 else web.Response(status=303, headers={hdrs.LOCATION: "/"})

    async def login(request: web.Request) -> web.Response:
        return gate.refusal(request) or web.Response(status=204)

    application.router.add_get("/override", show)
    application.router.add_put("/override", put)
    application.router.add_delete("/override", delete)
    application.router.add_post("/override", post)
    application.router.add_post("/login", login)


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        said = json.loads(await _body(request))
    except (ValueError, RecursionError):
        raise _Invalid("the body must be JSON") from None
    if not isinstance(said, dict):
        raise _Invalid("the body must be a JSON object")
    return said


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != _FORM:
        raise _Invalid(f"a form must come as {_FORM}", 415)
    try:
        return dict(parse_qsl((await _body(request)).decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise _Invalid("the form has too many fields") from None


async def _body(request: web.Request) -> bytes:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise _Invalid("the body must not be compressed", 415)
    body = bytearray()
    # What is there is not all: a body may come in several pieces.
    while piece := await request.content.readany():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise _Invalid("the body is too large")
    return bytes(body)


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
    longest = LONGEST.total_seconds()
    length = timedelta(seconds=_number(said, "ttl_seconds", DEFAULT_LENGTH.total_seconds(), most=longest))
    percent = _number(said, "percent", 100, least=LEAST_PERCENT, most=100)
    force = said.get("force", False)
    if not isinstance(force, bool):
        raise _Invalid("force must be true or false")
    return _Wish(OverrideMode(said["mode"]), reason, _text(said, "actor"), length, percent, force)


def _text(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise _Invalid(f"{key} must be a text of at most {_LONGEST_TEXT} characters")
    if (sign := unprintable(value.strip())) is not None:
        raise _Invalid(f"{key} must be one line of text that shows; {sign} does not")
    return " ".join(value.split()) or None


def _number(said: Mapping[str, Any], key: str, default: float, *, least: float = 0, most: float) -> float:
    value = said.get(key, default)
    # Not-a-number is not within any bounds.
    if not isinstance(value, int | float) or isinstance(value, bool) or not (0 < value <= most and value >= least):
        above = f"from {least:g} to {most:g}" if least else f"above 0 and at most {most:g}"
        raise _Invalid(f"{key} must be a number {above}")
    return float(value)


def _from_form(form: Mapping[str, str]) -> dict[str, Any]:
    """What a form of the browser's own says, as the JSON would have said it."""
    said: dict[str, Any] = {key: form[key] for key in ("mode", "reason", "actor") if form.get(key, "").strip()}
    said.setdefault("mode", "")
    if length := form.get("ttl", "").strip():
        try:
            said["ttl_seconds"] = length_of(length).total_seconds()
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
