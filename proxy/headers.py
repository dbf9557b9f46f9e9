"""Which headers cross the proxy, and which of its own it adds. Knows no provider.

Pure, but that the date in a Retry-After is held against the wall clock. A header crosses unless it belongs to one
connection (RFC 9110 7.6.1), names the host, or is the proxy's own.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from health.outcome import FailureReason
from proxy.trace import TRACEPARENT, TRACESTATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multidict import MultiMapping

    from proxy.trace import TraceContext

UPSTREAM = "x-completion-proxy-upstream"
REASON = "x-completion-proxy-reason"
CLIENT_TOKEN = "x-completion-proxy-token"  # noqa: S105 (the name of a header)
ACTOR = "x-completion-proxy-actor"
STREAM_MODE = "x-completion-proxy-stream"
OWN_PREFIX = "x-completion-proxy-"
PROXY_STATUS = "Proxy-Status"
VIA = "1.1 completion-proxy"

# RFC 9110 7.6.1 and, for what predates it, the lists of RFC 2616 13.5.1 and of real-world proxies.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_TRACE = frozenset({TRACEPARENT, TRACESTATE})

# Content codings that the proxy can look into; a caller's Accept-Encoding is narrowed to them, for an answer that
# cannot be inspected cannot be judged.
INSPECTABLE_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "identity"})

# RFC 9209 2.3: the registered error types; a failure without an entry is told by its received status alone.
_PROXY_ERRORS = {
    FailureReason.CONNECT: "connection_refused",
    FailureReason.DNS: "dns_error",
    FailureReason.TLS: "tls_protocol_error",
    FailureReason.RESET: "connection_terminated",
    FailureReason.FIRST_BYTE_TIMEOUT: "http_response_timeout",
    FailureReason.STALL: "connection_read_timeout",
    FailureReason.CUT: "http_response_incomplete",
    FailureReason.TRUNCATED: "http_response_incomplete",
    FailureReason.MALFORMED: "http_protocol_error",
    FailureReason.STREAM_ERROR: "http_protocol_error",
    FailureReason.CONCURRENCY: "connection_limit_reached",
    FailureReason.CREDENTIALS: "proxy_configuration_error",
    FailureReason.NOT_ALLOWED: "http_request_denied",
    FailureReason.TOTAL_TIMEOUT: "http_response_timeout",
    FailureReason.LAG: "proxy_internal_error",
    FailureReason.LOCAL: "proxy_internal_error",
}


def _connection_bound(headers: MultiMapping[str]) -> frozenset[str]:
    """The names that this message's own Connection headers bind to its connection, with the fixed ones."""
    if not (named := headers.getall("Connection", ())):
        return HOP_BY_HOP
    return HOP_BY_HOP | {token.strip().lower() for token in ",".join(named).split(",")}


def to_vertex(
    headers: MultiMapping[str],
    authorization: str | None,
    *,
    plain: bool = False,
    trace: TraceContext | None = None,
) -> CIMultiDict[str]:
    """The caller's headers as they go to Vertex: its own credential in place of `authorization` where that is given.

    `plain` asks for an answer that is not compressed. A new `trace` stands in place of what the caller sent of one.
    Content-Length is left to the transport, which frames the body anew.
    """
    bound = _connection_bound(headers)
    if trace is not None and not trace.continued:
        bound |= _TRACE
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower in bound or lower.startswith(OWN_PREFIX):
            continue
        if lower in {"host", "content-length", "authorization", "expect"}:
            continue
        if lower == "accept-encoding":
            value = "identity" if plain else _inspectable(value)
        elif lower == TRACEPARENT and trace is not None:
            value = trace.traceparent
        sent.add(name, value)
    if trace is not None:
        sent.setdefault(TRACEPARENT, trace.traceparent)
    if authorization is not None:
        sent["Authorization"] = authorization
    sent.add("Via", VIA)
    return sent


def to_caller(headers: MultiMapping[str]) -> CIMultiDict[str]:
    """An upstream's answer headers as they go to the caller: all but those of the connection."""
    bound = _connection_bound(headers)
    sent: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in bound and not lower.startswith(OWN_PREFIX):
            sent.add(name, value)
    return sent


def _inspectable(accept_encoding: str) -> str:
    codings = [coding.strip() for coding in accept_encoding.split(",")]
    kept = [coding for coding in codings if coding.split(";", 1)[0].strip().lower() in INSPECTABLE_CODINGS]
    return ", ".join(kept) or "identity"


def proxy_status(failures: Iterable[tuple[str, FailureReason, int | None]]) -> str:
    """The Proxy-Status value (RFC 9209) for attempts that failed: (upstream, why, the status it answered if any)."""
    members = []
    for upstream, reason, received in failures:
        member = f'completion-proxy; next-hop="{upstream}"'
        if (error := _PROXY_ERRORS.get(reason)) is not None:
            member += f"; error={error}"
        if received is not None:
            member += f"; received-status={received}"
        members.append(f'{member}; details="{reason}"')
    return ", ".join(members)


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After (RFC 9110 10.2.3) asks for, as a number or as a date; None for anything else."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
