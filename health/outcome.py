"""The vocabulary of judgement: what came of a call, and whose fault it was.

Pure values. Who sees a call end names a `FailureReason`; the table `KINDS` alone says what that counts as, so that
traffic, probes and both providers are judged by one rule. (One exception: a probe's request is known to be good, so an
upstream that refuses it is misconfigured.) Source of the table: the provider's documentation of its errors, and the
rule that a breaker must react to the upstream's faults and to nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OutcomeKind(StrEnum):
    """What a call counts as."""

    OK = "ok"
    FAILED = "failed"
    MISCONFIGURED = "misconfigured"
    """A failure that time alone will not heal: a key, a permission, a retired model."""
    THROTTLED = "throttled"
    """Refused for capacity; never part of the failure rate."""
    NEUTRAL = "neutral"
    """Says nothing about the upstream: neither dilutes a rate nor resets a count."""


class FailureReason(StrEnum):
    """Why an attempt did not serve its caller. The values are label values and header values."""

    CONNECT = "connect"
    DNS = "dns"
    TLS = "tls"
    RESET = "reset"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    STALL = "stall"
    """Content began and then nothing came for the idle time."""
    CUT = "cut"
    """A stream ended, cleanly or not, before it said that it was finished."""
    TRUNCATED = "truncated"
    """A whole body ended before its announced length."""
    MALFORMED = "malformed"
    STREAM_ERROR = "stream_error"
    """An error object inside an answer whose status was 200."""
    SERVER_ERROR = "server_error"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    FAILED_PRECONDITION = "failed_precondition"
    BILLING = "billing"
    CREDENTIALS = "credentials"
    """The proxy could not obtain a credential to call with."""
    REJECTED = "rejected"
    """The upstream refused the body that the proxy made for it."""
    NOT_EXPRESSIBLE = "not_expressible"
    """The request asks for what this upstream cannot be asked for."""
    NOT_ALLOWED = "not_allowed"
    """The caller may not spend the proxy's key at this upstream."""
    REFUSAL = "refusal"
    """The model declined to answer."""
    WRONG_ANSWER = "wrong_answer"
    """A probe's answer was well-formed and wrong."""
    CONCURRENCY = "concurrency"
    """The proxy's own limit of calls at a time was reached."""
    CLIENT_LEFT = "client_left"
    """The caller went away before the end."""
    CANCELLED = "cancelled"
    """The upstream says that the call was cancelled, though its caller was still waiting."""
    TOTAL_TIMEOUT = "total_timeout"
    """Content was still flowing when the request's whole time was used up: the proxy's limit, nobody's fault."""
    LAG = "lag"
    """The proxy itself was too busy to see whether an answer came."""
    LOCAL = "local"
    """The proxy itself failed: it ran out of file descriptors, ports or memory, or has a bug."""


KINDS: dict[FailureReason, OutcomeKind] = {
    FailureReason.CONNECT: OutcomeKind.FAILED,
    FailureReason.DNS: OutcomeKind.NEUTRAL,
    FailureReason.TLS: OutcomeKind.FAILED,
    FailureReason.RESET: OutcomeKind.FAILED,
    FailureReason.FIRST_BYTE_TIMEOUT: OutcomeKind.FAILED,
    FailureReason.STALL: OutcomeKind.FAILED,
    FailureReason.CUT: OutcomeKind.FAILED,
    FailureReason.TRUNCATED: OutcomeKind.FAILED,
    FailureReason.MALFORMED: OutcomeKind.FAILED,
    FailureReason.STREAM_ERROR: OutcomeKind.FAILED,
    FailureReason.SERVER_ERROR: OutcomeKind.FAILED,
    FailureReason.THROTTLED: OutcomeKind.THROTTLED,
    FailureReason.UNAUTHORIZED: OutcomeKind.MISCONFIGURED,
    FailureReason.FORBIDDEN: OutcomeKind.MISCONFIGURED,
    FailureReason.NOT_FOUND: OutcomeKind.MISCONFIGURED,
    FailureReason.FAILED_PRECONDITION: OutcomeKind.MISCONFIGURED,
    FailureReason.BILLING: OutcomeKind.MISCONFIGURED,
    FailureReason.CREDENTIALS: OutcomeKind.MISCONFIGURED,
    FailureReason.REJECTED: OutcomeKind.NEUTRAL,
    FailureReason.NOT_EXPRESSIBLE: OutcomeKind.NEUTRAL,
    FailureReason.NOT_ALLOWED: OutcomeKind.NEUTRAL,
    FailureReason.REFUSAL: OutcomeKind.NEUTRAL,
    FailureReason.WRONG_ANSWER: OutcomeKind.FAILED,
    FailureReason.CONCURRENCY: OutcomeKind.NEUTRAL,
    FailureReason.CLIENT_LEFT: OutcomeKind.NEUTRAL,
    FailureReason.CANCELLED: OutcomeKind.NEUTRAL,
    FailureReason.TOTAL_TIMEOUT: OutcomeKind.NEUTRAL,
    FailureReason.LAG: OutcomeKind.NEUTRAL,
    FailureReason.LOCAL: OutcomeKind.NEUTRAL,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one call. `reason` is None exactly for `OK` and `NEUTRAL` below; `retry_after` is in seconds."""

    kind: OutcomeKind
    reason: FailureReason | None = None
    retry_after: float | None = None

    @classmethod
    def failure(cls, reason: FailureReason, retry_after: float | None = None) -> Outcome:
        """The outcome of a call that failed for `reason`, of the kind that the table gives it."""
        return cls(KINDS[reason], reason, retry_after)


OK = Outcome(OutcomeKind.OK)
NEUTRAL = Outcome(OutcomeKind.NEUTRAL)
