"""What must hold between several settings, so that a proxy that starts can serve and cannot be abused.

Pure but for a look at the TLS files and at what is installed. A rule names the settings that it judges: it is passed
over when one of them could not be read at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from proxy import paths
from proxy.settings_types import FALLBACK_KEY, CredentialsKind, is_loopback, variable

if TYPE_CHECKING:
    from proxy.settings import Settings

Name: TypeAlias = Callable[[str], str]
"""How to speak of a setting to the user: by its variable, and by the file that it came from."""
Problem: TypeAlias = tuple[tuple[str, ...], str]
"""The settings judged, and what is wrong between them."""


def broken_rules(settings: Settings, name: Name) -> Iterator[Problem]:
    """Every rule that `settings` break."""
    yield from _listener_checks(settings, name)
    yield from _upstream_checks(settings, name)
    yield from _time_checks(settings, name)
    yield from _extra_checks(settings, name)


def _listener_checks(settings: Settings, name: Name) -> Iterator[Problem]:
    if not (is_loopback(settings.host) or settings.client_tokens or settings.allow_anonymous):
        yield (
            ("host", "client_tokens", "allow_anonymous"),
            f"{variable('client_tokens')}: required, since {name('host')} is not a loopback address; "
            f"{variable('allow_anonymous')}=true lets everybody in instead",
        )
    if not (is_loopback(settings.admin_host) or settings.admin_token):
        yield (
            ("admin_host", "admin_token"),
            f"{variable('admin_token')}: required, since {name('admin_host')} is not a loopback address",
        )
    if settings.port == settings.admin_port != 0 and settings.host == settings.admin_host:
        keys = ("port", "admin_port", "host", "admin_host")
        yield keys, f"{name('admin_port')}: is the data listener's; the two need different ones"
    for key, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        path: Path | None = getattr(settings, key)
        if path is None and getattr(settings, other) is not None:
            yield (key, other), f"{variable(key)}: required together with {name(other)}"
        elif path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            # The path is not shown: what stands there may be the key itself.
            yield (key,), f"{name(key)}: no file can be read at this path"


def _upstream_checks(settings: Settings, name: Name) -> Iterator[Problem]:
    kind = settings.vertex.credentials
    if not settings.claude.api_key.get_secret_value():
        yield ("claude.api_key",), f"{variable('claude.api_key')} or {FALLBACK_KEY}: required, and neither is set"
    keys = ("vertex.token", "vertex.credentials")
    if kind is CredentialsKind.STATIC and settings.vertex.token is None:
        yield keys, f"{variable('vertex.token')}: required with {name('vertex.credentials')}=static"
    if kind is not CredentialsKind.STATIC and settings.vertex.token is not None:
        yield (
            keys,
            f"{name('vertex.token')}: only allowed with {variable('vertex.credentials')}=static, and it is {kind}",
        )
    yield from _front_checks(settings, name)
    if kind is CredentialsKind.PASSTHROUGH and settings.probes.targets:
        yield (
            ("probes.targets", "vertex.credentials"),
            f"{name('probes.targets')}: not possible with {name('vertex.credentials')}=passthrough, "
            "since the proxy has no credential of its own to probe with",
        )


def _front_checks(settings: Settings, name: Name) -> Iterator[Problem]:
    keys = tuple(f"vertex.{part}" for part in ("project", "location", "model"))
    given = [key for key in keys if getattr(settings.vertex, key.removeprefix("vertex.")) is not None]
    for key in keys:
        if given and key not in given:
            yield keys, f"{variable(key)}: required together with {name(given[0])}"
    if (front := settings.vertex.front) is not None and paths.parse(paths.model_path(*front)) is None:
        yield keys, f"{', '.join(map(name, keys))}: name no model of Mistral's on Vertex"


def _time_checks(settings: Settings, name: Name) -> Iterator[Problem]:
    for shorter in ("connect_seconds", "first_byte_seconds"):
        if getattr(settings.timeouts, shorter) >= settings.timeouts.total_seconds:
            keys = (f"timeouts.{shorter}", "timeouts.total_seconds")
            yield keys, f"{name(keys[0])}: must be less than {name(keys[1])}, or no time is left to fail over"
    if 0 < settings.breaker.window_calls < settings.breaker.minimum_calls:
        keys = ("breaker.window_calls", "breaker.minimum_calls")
        yield keys, f"{name(keys[0])}: must not be less than {name(keys[1])}, or no rate could ever trip"
    if settings.breaker.open_seconds > settings.breaker.max_open_seconds:
        keys = ("breaker.open_seconds", "breaker.max_open_seconds")
        yield keys, f"{name(keys[0])}: must not be more than {name(keys[1])}"


def _extra_checks(settings: Settings, name: Name) -> Iterator[Problem]:
    if settings.openfeature_provider is not None and find_spec("openfeature") is None:
        yield (
            ("openfeature_provider",),
            f"{name('openfeature_provider')}: needs an extra: pip install completion-proxy[openfeature]",
        )
