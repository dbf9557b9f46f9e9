"""Rules between settings that rest on what is installed: named by what would go wrong."""

from __future__ import annotations

import pytest

from proxy import settings_rules
from proxy.settings import Settings, SettingsError, load_settings


def load(provider: str) -> Settings:
    return load_settings(environ={"ANTHROPIC_API_KEY": "k", "COMPLETION_PROXY_OPENFEATURE_PROVIDER": provider})


def test_a_provider_of_flags_that_fails_only_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(" flags.made_here:Provider.make ").openfeature_provider == "flags.made_here:Provider.make"
    monkeypatch.setattr(settings_rules, "find_spec", lambda name: None if name == "openfeature" else name)
    with pytest.raises(SettingsError) as caught:
        load("flags:make")
    assert caught.value.problems == [
        "COMPLETION_PROXY_OPENFEATURE_PROVIDER: needs an extra: pip install completion-proxy[openfeature]"
    ]


@pytest.mark.parametrize("provider", ["flags", "flags:", ":make", "flags.make", "fl-ags:make", "a:b:c", "a b:c", "1:a"])
def test_a_provider_of_flags_that_cannot_be_imported(provider: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(provider)
    assert caught.value.problems == ["COMPLETION_PROXY_OPENFEATURE_PROVIDER: must be package.module:callable"]
