"""What a probe asks: a tiny real completion with a known answer, over the same code as traffic, its content checked.

A provider that answers 200 with rubbish is down; so is a backup that refuses the body which a failover would send.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from health.lag import no_lag
from health.outcome import OK, FailureReason, Outcome, OutcomeKind
from proxy import paths
from proxy.callers import Caller
from proxy.events import TokensUsed
from proxy.upstreams.base import AttemptFailed, Call, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.dialects.base import Dialect, Usage
    from proxy.events import Event
    from proxy.settings import ProbeTarget
    from proxy.upstreams.base import Upstream

# A hole that any code model fills in one way, in a few tokens.
_PREFIX = 'days = ["Monday", "Tuesday", "'
_SUFFIX = '", "Thursday", "Friday"]\n'
_ANSWER = "Wednesday"
_MAX_TOKENS = 16

_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "completion-proxy-probe",
    "Accept-Encoding": "identity",
}

# For a backup that is asked through the primary's dialect the path never leaves the proxy.
_ANY_PATH = ("probe", "global", "mistralai", "codestral-2")


def probe_call(target: ProbeTarget | None, dialect: Dialect, deadline: float) -> Call:
    """The call that a probe makes, as a caller's own would come; `target` is None for the backup."""
    project, location, publisher, model = (
        (target.project, target.location, target.publisher, target.model) if target is not None else _ANY_PATH
    )
    path = paths.model_path(project, location, publisher, model)
    route = paths.parse(path)
    assert route is not None, path
    body = {
        "model": paths.body_name(model),
        "prompt": _PREFIX,
        "suffix": _SUFFIX,
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "stop": ['"'],
    }
    return Call(
        route=route,
        target=path,
        headers=CIMultiDict(_HEADERS),
        body=json.dumps(body).encode(),
        caller=Caller(key=b"probe", may_use_claude=True),
        dialect=dialect,
        deadline=deadline,
    )


class Check:
    """Asks one upstream for the known answer."""

    def __init__(
        self,
        upstream: Upstream,
        target: ProbeTarget | None,
        dialect: Dialect,
        *,
        timeout: float,
        clock: Callable[[], float],
        emit: Callable[[Event], None],
        lag: Callable[[float, float], float] = no_lag,
    ) -> None:
        """`timeout` in seconds, for the whole of one probe; `lag` as `Limits` has it."""
        self._upstream = upstream
        self._target = target
        self._dialect = dialect
        self._timeout = timeout
        self._clock = clock
        self._emit = emit
        self._lag = lag
        self.detail = ""
        """What the operator should know of the last failure."""
        self.usage: Usage | None = None
        """What the last probe cost, where the upstream said so."""

    async def __call__(self) -> Outcome:
        """One probe. Never raises for anything that an upstream does."""
        self.detail, self.usage = "", None
        now = self._clock()
        end = now + self._timeout
        limits = Limits(
            first_byte=end,
            # With nothing to spare for the loop's own absence, any lag at all would excuse an upstream that hangs.
            total=end + self._timeout,
            idle=self._timeout,
            patience=lambda: now,
            since=now,
            lag=self._lag,
        )
        call = probe_call(self._target, self._dialect, end)
        try:
            await self._upstream.enter(end)
            try:
                reply = await self._upstream.attempt(call, limits)
            finally:
                self._upstream.leave()
        except AttemptFailed as failed:
            self.detail = failed.detail
            return _as_seen_by_a_probe(failed.outcome)
        reply.close()
        self.usage = reply.usage
        if reply.usage is not None:
            self._emit(TokensUsed(self._upstream.name, reply.usage))
        if not 200 <= reply.status < 300:
            # The caller's fault in traffic; here the caller is the proxy itself.
            self.detail = f"{reply.status}"
            return Outcome(OutcomeKind.MISCONFIGURED, FailureReason.REJECTED)
        if reply.rest is not None or _ANSWER not in self._dialect.text(reply.body):
            return Outcome.failure(FailureReason.WRONG_ANSWER)
        return OK


def _as_seen_by_a_probe(outcome: Outcome) -> Outcome:
    """What traffic may blame on one caller's request is the upstream's when the known-good request meets it."""
    if outcome.reason in {FailureReason.REJECTED, FailureReason.REFUSAL, FailureReason.NOT_EXPRESSIBLE}:
        return Outcome(OutcomeKind.MISCONFIGURED, outcome.reason)
    return outcome
