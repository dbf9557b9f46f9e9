"""The kinds of value that a setting can have: what is accepted, and the error for what is not.

An error says what is wanted and never repeats what was given, since a secret may stand in the wrong variable.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

PREFIX = "COMPLETION_PROXY_"
FALLBACK_KEY = "ANTHROPIC_API_KEY"
"""What the key for Claude is taken from where the proxy's own variable is not set."""


def variable(key: str) -> str:
    """The environment variable of the setting `key`, which is written as in TOML: `vertex.token`."""
    return PREFIX + key.upper().replace(".", "__")


class CredentialsKind(StrEnum):
    """Whose credential Vertex is called with."""

    ADC = "adc"
    STATIC = "static"
    PASSTHROUGH = "passthrough"


class StreamMode(StrEnum):
    """How the answer to a streaming request is sent."""

    LIVE = "live"
    ATOMIC = "atomic"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A Vertex model that is probed."""

    project: str
    location: str
    publisher: str
    model: str


def is_loopback(host: str) -> bool:
    """Whether a listener on `host` is out of reach of other machines. A name other than localhost is taken as not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _secret(value: SecretStr) -> SecretStr:
    # A mounted secret mostly ends in a newline, which no header can carry.
    text = value.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be visible ASCII characters without spaces: it is sent in a header")
    return SecretStr(text)


def _host(value: str) -> str:
    host = value.strip().removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[0-9A-Za-z._-]+", host):
            raise ValueError("must be an address or a host name, without a port") from None
    return host


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        address = (parts.hostname, parts.port)
    except ValueError:
        raise ValueError("must be a URL such as https://host:port") from None
    if parts.scheme not in ("http", "https") or not address[0] or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be a URL such as https://host:port")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    if parts.path not in ("", "/") or "?" in value or "#" in value:
        raise ValueError("must end after host and port: the path is the request's")
    return f"{parts.scheme}://{parts.netloc}"


def _import_path(value: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", value := value.strip()):
        raise ValueError("must be package.module:callable")
    return value


def _items(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


_TARGET = re.compile(
    r"(?P<project>[A-Za-z0-9.:_-]+)/(?P<location>[a-z0-9-]+)/(?P<publisher>[a-z0-9-]+)/(?P<model>[A-Za-z0-9.@_-]+)"
)


def _targets(value: object) -> object:
    items = _items(value)
    if not isinstance(items, list) or (items and all(isinstance(item, ProbeTarget) for item in items)):
        return items
    targets: dict[ProbeTarget, None] = {}
    for number, item in enumerate(items, 1):
        match = _TARGET.fullmatch(item) if isinstance(item, str) else None
        if match is None:
            raise ValueError(f"item {number}: must be project/location/publisher/model")
        target = ProbeTarget(**match.groupdict())
        if target.publisher != "mistralai":
            raise ValueError(f"item {number}: only models of the publisher mistralai can be probed")
        targets[target] = None
    return tuple(targets)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


_T = TypeVar("_T")
AnyCase = Annotated[_T, BeforeValidator(_lower)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_items)]
ProbeTargets = Annotated[tuple[ProbeTarget, ...], BeforeValidator(_targets)]
PathSegment = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.@:_-]{0,99}$")]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=0, le=65_535)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ImportPath = Annotated[str, AfterValidator(_import_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
