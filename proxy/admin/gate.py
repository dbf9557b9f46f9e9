"""Who may change something through the admin listener: whoever has the token, and no page of another site.

Reading is free to whoever reaches the listener. A change needs the admin token where one is set; without one the
listener stands on a loopback address (the settings see to it), and then the danger is a browser on the same machine: a
page of any site can send it requests. What gives such a page away is Origin and Sec-Fetch-Site, and, where its own
name was made to point here (DNS rebinding), Host.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from proxy.errors import google_error
from proxy.settings_types import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

_PORTS = {"http": 80, "https": 443}


class Gate:
    """Lets changes in. Refusals are responses: 403 for another site's, 401 without the token."""

    def __init__(self, token: Callable[[], SecretStr | None], on_refusal: Callable[[int, str], None]) -> None:
        """`token()` is the admin token now; `on_refusal` is told each code and why."""
        self._token = token
        self._on_refusal = on_refusal

    @property
    def needs_token(self) -> bool:
        """Whether a token is set."""
        return self._token() is not None

    def refusal(self, request: web.Request, presented: str | None = None) -> web.Response | None:
        """The answer to a change that is not allowed, else None. `presented` is a token that came in a form."""
        return self.foreign(request) or self._unsigned(request, presented)

    def foreign(self, request: web.Request) -> web.Response | None:
        """The answer to a change that comes from another site, else None: before anything of it is read."""
        if (why := self._foreign(request)) is not None:
            self._on_refusal(403, why)
            return error(403, why)
        return None

    def _unsigned(self, request: web.Request, presented: str | None) -> web.Response | None:
        token = self._token()
        if token is None:
            return None
        bearer = presented if presented is not None else _bearer(request.headers.get(hdrs.AUTHORIZATION, ""))
        if hmac.compare_digest(_digest(bearer), _digest(token.get_secret_value())):
            return None
        why = "the admin token is not known" if bearer else "changes need the admin token as a bearer token"
        self._on_refusal(401, why)
        response = error(401, why)
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="completion-proxy admin"'
        return response

    def _foreign(self, request: web.Request) -> str | None:
        host = request.headers.get(hdrs.HOST, "")
        # The same is asked of every request alike, whoever sends it: no browser can leave these headers out.
        if (site := request.headers.get("Sec-Fetch-Site", "none")) not in ("same-origin", "none"):
            return f"a change cannot come from another site's page (Sec-Fetch-Site: {site[:20]})"
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not _same(origin, host):
            return "a change cannot come from another site's page: Origin is not this listener's"
        if self._token() is None and not _names_loopback(host):
            return "without an admin token changes are taken under a loopback name alone, as 127.0.0.1 or localhost"
        return None


def error(code: int, message: str) -> web.Response:
    """An error of the admin listener."""
    return web.Response(status=code, body=google_error(code, message), content_type="application/json")


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(text: str) -> bytes:
    # Of equal length, so that the time it takes does not show the token's.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _same(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from `host`; the scheme may have been changed by who ends TLS before us."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in _PORTS:
        return False
    return _address(scheme, rest) is not None and _address(scheme, rest) == _address(scheme, host)


def _address(scheme: str, netloc: str) -> tuple[str, int] | None:
    if not re.fullmatch(r"[0-9A-Za-z._:\[\]-]+", netloc):
        return None
    try:
        parts = urlsplit(f"{scheme}://{netloc}")
        port = parts.port
    except ValueError:
        return None
    return (parts.hostname, port or _PORTS[scheme]) if parts.hostname else None


def _names_loopback(host: str) -> bool:
    address = _address("http", host)
    return address is not None and is_loopback(address[0])
