"""`completion-proxy check`: one real probe of each upstream, with the body that a failover would send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from health.outcome import OutcomeKind
from proxy.dialects.codestral import Codestral
from proxy.probes import Check
from proxy.upstreams.credentials import credentials_for
from proxy.upstreams.providers import ORDER, Providers

if TYPE_CHECKING:
    from collections.abc import Callable

    from health.outcome import Outcome
    from proxy.settings import ProbeTarget, Settings


async def check(settings: Settings, say: Callable[[str], None]) -> int:
    """Write a table of what each upstream answered; returns 0 if all can serve, else 1."""
    clock = asyncio.get_running_loop().time
    credentials = credentials_for(settings.vertex)
    providers = Providers(settings, credentials)
    await credentials.start()
    primary, backup = ORDER
    probes: list[tuple[str, str, ProbeTarget | None]] = [
        (primary, target.model, target) for target in settings.probes.targets
    ]
    probes.append((backup, settings.claude.model, None))
    all_well = True
    try:
        for upstream, model, target in probes:
            probe = Check(
                providers.upstreams[upstream],
                target,
                Codestral(),
                timeout=settings.probes.timeout_seconds,
                clock=clock,
                emit=lambda _: None,
            )
            started = clock()
            outcome = await probe()
            all_well &= outcome.kind is OutcomeKind.OK
            say(f"{upstream:<8} {model:<28} {clock() - started:6.2f} s  {_verdict(outcome, probe.detail)}\n")
    finally:
        await credentials.stop()
        await providers.stop()
    if not settings.probes.targets:
        say(f"{primary:<8} not checked: no model is named in COMPLETION_PROXY_PROBES__TARGETS\n")
    return 0 if all_well else 1


def _verdict(outcome: Outcome, detail: str) -> str:
    if outcome.kind is OutcomeKind.OK:
        return "ok"
    said = f"{outcome.kind}: {outcome.reason}"
    return f"{said} ({detail})" if detail else said
