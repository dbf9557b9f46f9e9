"""Which settings may change while the proxy runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.reload import ReloadRefused, refuse_what_needs_a_restart
from proxy.settings import Settings, load_settings
from tests.rig import environment

if TYPE_CHECKING:
    from pathlib import Path


def settings(**changed: str) -> Settings:
    return load_settings(environ=environment("http://v", "http://c", **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"HOST": "127.0.0.2"}, {"PORT": "1"}, {"ADMIN_HOST": "127.0.0.2"}, {"ADMIN_PORT": "1"}, {"OVERRIDE": "claude"},
        {"OVERRIDE_FILE": "/x"}, {"JOURNAL_FILE": "/x"}, {"LOG_REQUESTS": "false"}, {"OPENFEATURE_PROVIDER": "a:b"},
        {"BREAKER__WINDOW_SECONDS": "11"}, {"BREAKER__WINDOW_CALLS": "100"}, {"BREAKER__OBSERVE_ONLY": "true"},
    ],
)  # fmt: skip
def test_what_is_built_once_changes_in_silence(changed: dict[str, str]) -> None:
    (name,) = changed
    with pytest.raises(ReloadRefused) as refused:
        refuse_what_needs_a_restart(settings(), settings(**changed))
    (problem,) = refused.value.problems
    assert problem.startswith(f"COMPLETION_PROXY_{name}: ")
    assert "restart" in problem


def test_every_change_that_needs_a_restart_is_told_one_at_a_time(tmp_path: Path) -> None:
    for name in ("certificate", "key"):
        (tmp_path / name).write_text("x")
    tls = {"TLS_CERTIFICATE": str(tmp_path / "certificate"), "TLS_KEY": str(tmp_path / "key")}
    with pytest.raises(ReloadRefused) as refused:
        refuse_what_needs_a_restart(settings(), settings(PORT="1", OVERRIDE="claude", **tls))
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "COMPLETION_PROXY_PORT", "COMPLETION_PROXY_OVERRIDE", "COMPLETION_PROXY_TLS_CERTIFICATE",
    ]  # fmt: skip


def test_what_can_change_is_refused() -> None:
    refuse_what_needs_a_restart(
        settings(),
        settings(
            CLIENT_TOKENS="a", ADMIN_TOKEN="b", VERTEX__TOKEN="c", CLAUDE__API_KEY="d", CLAUDE__MODEL="e",
            BREAKER__OPEN_SECONDS="1", TIMEOUTS__TOTAL_SECONDS="20", PROBES__INTERVAL_SECONDS="5", DRAIN_SECONDS="1",
            MAX_BODY_BYTES="1000", STREAM_MODE="atomic",
        ),
    )  # fmt: skip
