"""Settings: named by what would go wrong in an incident."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.override import OverrideMode
from proxy.settings import CredentialsKind, ProbeTarget, Settings, SettingsError, describe, load_settings

KEY = {"ANTHROPIC_API_KEY": "sk-ant-test"}
# The default of each setting as it is documented, and another value that is valid.
DOCUMENTED = {
    "HOST": ("127.0.0.1", "::1"),
    "PORT": ("8080", "8"),
    "ADMIN_HOST": ("127.0.0.1", "::1"),
    "ADMIN_PORT": ("8081", "7"),
    "TLS_CERTIFICATE": ("none", __file__),
    "TLS_KEY": ("none", __file__),
    "CLIENT_TOKENS": ("empty", "t"),
    "ALLOW_ANONYMOUS": ("false", "true"),
    "ADMIN_TOKEN": ("none", "t"),
    "OVERRIDE": ("auto", "claude"),
    "OVERRIDE_FILE": ("none", "/override"),
    "OPENFEATURE_PROVIDER": ("none", "package.module:make"),
    "JOURNAL_FILE": ("none", "/journal"),
    "LOG_REQUESTS": ("true", "false"),
    "SECRETS_DIR": ("none", "of the test"),
    "VERTEX__BASE_URL": ("from the location in the path", "http://h"),
    "VERTEX__CREDENTIALS": ("adc", "static"),
    "VERTEX__TOKEN": ("none", "t"),
    "VERTEX__PROJECT": ("none", "p"),
    "VERTEX__LOCATION": ("none", "us-central1"),
    "VERTEX__MODEL": ("none", "codestral-2"),
    "CLAUDE__API_KEY": ("ANTHROPIC_API_KEY", "k"),
    "CLAUDE__BASE_URL": ("https://api.anthropic.com", "http://h"),
    "CLAUDE__MODEL": ("claude-haiku-5-5", "claude-sonnet-5-5"),
    "CLAUDE__MAX_CONCURRENCY": ("200", "7"),
    "TIMEOUTS__CONNECT_SECONDS": ("1", "1.7"),
    "TIMEOUTS__FIRST_BYTE_SECONDS": ("2.5", "1.7"),
    "TIMEOUTS__STREAM_IDLE_SECONDS": ("2", "7"),
    "TIMEOUTS__TOTAL_SECONDS": ("30", "7"),
    "BREAKER__WINDOW_SECONDS": ("10", "7"),
    "BREAKER__WINDOW_CALLS": ("0", "70"),
    "BREAKER__MINIMUM_CALLS": ("10", "7"),
    "BREAKER__FAILURE_RATE_THRESHOLD": ("0.5", "0.7"),
    "BREAKER__SLOW_CALL_SECONDS": ("1.5", "7"),
    "BREAKER__SLOW_RATE_THRESHOLD": ("0.5", "0.7"),
    "BREAKER__CONSECUTIVE_FAILURES": ("5", "7"),
    "BREAKER__OPEN_SECONDS": ("5", "7"),
    "BREAKER__OPEN_MULTIPLIER": ("2", "7"),
    "BREAKER__MAX_OPEN_SECONDS": ("60", "7"),
    "BREAKER__TRIAL_CALLS": ("5", "7"),
    "BREAKER__RAMP_SECONDS": ("10", "7"),
    "BREAKER__OBSERVE_ONLY": ("false", "true"),
    "PROBES__TARGETS": ("empty", "p/l/mistralai/m"),
    "PROBES__INTERVAL_SECONDS": ("10", "7"),
    "PROBES__TIMEOUT_SECONDS": ("3", "7"),
    "PROBES__FALL": ("3", "7"),
    "PROBES__RISE": ("2", "7"),
    "PROBES__DAILY_BUDGET": ("20000", "1440"),
    "STREAM_MODE": ("live", "atomic"),
    "MAX_BODY_BYTES": ("4194304", "7"),
    "DRAIN_SECONDS": ("25", "7"),
}


def load(config: Path | None = None, /, **settings: str) -> Settings:
    return load_settings(config, KEY | {f"COMPLETION_PROXY_{name}": value for name, value in settings.items()})


def problems(config: Path | None = None, /, key: Mapping[str, str] = KEY, **settings: str) -> list[str]:
    environ = dict(key) | {f"COMPLETION_PROXY_{name}": value for name, value in settings.items()}
    with pytest.raises(SettingsError) as caught:
        load_settings(config, environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def value_of(settings: Settings, name: str) -> object:
    group, _, inner = name.lower().rpartition("__")
    return getattr(getattr(settings, group) if group else settings, inner)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "proxy.toml"


def test_defaults_that_differ_from_the_documented_ones() -> None:
    assert {row.variable.removeprefix("COMPLETION_PROXY_"): row.default for row in describe()} == {
        name: default for name, (default, _) in DOCUMENTED.items()
    }
    settings = load()
    for name, (default, _) in DOCUMENTED.items():
        if default not in ("none", "empty", "ANTHROPIC_API_KEY", "from the location in the path"):
            value = value_of(settings, name)
            assert (f"{value:g}" if isinstance(value, float) else str(value).lower()) == default


def test_a_setting_without_a_word_of_documentation() -> None:
    assert [row.variable for row in describe() if not row.text] == []


def test_a_documented_variable_that_nothing_reads(tmp_path: Path) -> None:
    settings = load(**{name: other for name, (_, other) in DOCUMENTED.items()} | {"SECRETS_DIR": str(tmp_path)})
    for name in DOCUMENTED:
        assert value_of(settings, name) != value_of(Settings(), name), name


def test_the_file_winning_over_the_environment(toml: Path) -> None:
    toml.write_text('port = 1\nhost = "::1"\n[claude]\nmodel = "claude-sonnet-5-5"\napi_key = "sk-file"\n')
    settings = load(toml, PORT="2")
    assert (settings.port, settings.host, settings.claude.model) == (2, "::1", "claude-sonnet-5-5")
    assert settings.claude.api_key.get_secret_value() == "sk-file"  # the fallback of the environment is a fallback
    assert load(toml, CLAUDE__API_KEY="sk-env").claude.api_key.get_secret_value() == "sk-env"


def test_half_a_group_in_each_place_losing_the_other_half(toml: Path) -> None:
    toml.write_text('[vertex]\ncredentials = "static"\n')
    settings = load(toml, VERTEX__TOKEN="ya29.t")
    assert settings.vertex.credentials is CredentialsKind.STATIC
    assert settings.vertex.token is not None


def test_only_the_first_error_being_shown(toml: Path) -> None:
    toml.write_text(
        "prot = 1\nadmin_port = true\n[vertex]\ntoken = 5\n[breaker]\nwindow_seconds = 1.5\n[nonsense]\nx = 1\n"
    )
    found = problems(
        toml,
        key={},
        PORT="eighty",
        HOST="0.0.0.0",
        ADMIN_HOST="0.0.0.0",
        VERTEX_BASE_URL="http://x",
        CLAUDE__BASE_URL="api.anthropic.com",
        TIMEOUTS__TOTAL_SECONDS="2",
        PROBES__TARGETS="p/l/mistralai/m,p/l/google/m",
    )
    for expected in (
        f"COMPLETION_PROXY_PROT (prot in {toml}): there is no such setting; did you mean port?",
        f"COMPLETION_PROXY_ADMIN_PORT (in {toml}): must not be true or false",
        f"COMPLETION_PROXY_VERTEX__TOKEN (in {toml}): ",
        f"COMPLETION_PROXY_BREAKER__WINDOW_SECONDS (in {toml}): ",
        f"COMPLETION_PROXY_NONSENSE__X (nonsense.x in {toml}): there is no such setting",
        "COMPLETION_PROXY_PORT: Input should be a valid integer",
        "COMPLETION_PROXY_CLIENT_TOKENS: required, since COMPLETION_PROXY_HOST is not a loopback address",
        "COMPLETION_PROXY_ADMIN_TOKEN: required, since COMPLETION_PROXY_ADMIN_HOST is not a loopback address",
        "COMPLETION_PROXY_VERTEX_BASE_URL: there is no such setting; did you mean COMPLETION_PROXY_VERTEX__BASE_URL?",
        "COMPLETION_PROXY_CLAUDE__BASE_URL: must be a URL",
        "COMPLETION_PROXY_CLAUDE__API_KEY or ANTHROPIC_API_KEY: required",
        "COMPLETION_PROXY_TIMEOUTS__FIRST_BYTE_SECONDS: must be less than COMPLETION_PROXY_TIMEOUTS__TOTAL_SECONDS",
        "COMPLETION_PROXY_PROBES__TARGETS: item 2: only models of the publisher mistralai",
    ):
        assert len([problem for problem in found if problem.startswith(expected)]) == 1, (expected, found)
    assert len(found) == 13


def test_an_error_repeated_as_the_breach_of_a_rule() -> None:
    assert len(problems(HOST="0.0.0.0", CLIENT_TOKENS="a b")) == 1
    assert len(problems(VERTEX__CREDENTIALS="statik", VERTEX__TOKEN="t")) == 1


SECRET = "SECRET-5f2c"


@pytest.mark.parametrize(
    "settings",
    [
        {"CLIENT_TOKENS": f"ok,{SECRET} x"},
        {"ADMIN_TOKEN": f"{SECRET}\x07"},
        {"VERTEX__TOKEN": SECRET},
        {"VERTEX__TOKEN": f"é{SECRET}", "VERTEX__CREDENTIALS": "static"},
        {"CLAUDE__API_KEY": f"{SECRET} {SECRET}"},
        {"VERTEX__CREDENTIALS": SECRET},
        {"CLAUDE__BASE_URL": f"https://user:{SECRET}@host"},
        {"VERTEX__BASE_URL": f"https://host/?key={SECRET}"},
        {"TLS_KEY": f"-----BEGIN PRIVATE KEY-----\n{SECRET}"},
        {"TLS_KEY": SECRET * 500},
        {"PORT": SECRET},
    ],
)
def test_a_secret_in_an_error(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**settings)
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    "content", [f'a = "{SECRET}', f'a = "{SECRET}"\n[a]\nb = "{SECRET}"', f"{SECRET}", b"\xff" + SECRET.encode()]
)
def test_a_secret_of_a_broken_file_in_an_error(content: str | bytes, toml: Path) -> None:
    toml.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = problems(toml, key={})
    assert len(found) == 1  # not that the key is missing: it may well stand in the file
    assert found[0].startswith(f"{toml}: is not valid TOML: ")
    assert SECRET not in found[0]


def test_a_secret_in_a_repr() -> None:
    settings = load(
        CLIENT_TOKENS=SECRET,
        ADMIN_TOKEN=SECRET,
        CLAUDE__API_KEY=SECRET,
        VERTEX__TOKEN=SECRET,
        VERTEX__CREDENTIALS="static",
    )
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_a_file_that_is_not_there_being_passed_over(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == [f"{tmp_path}/none.toml: cannot be read: No such file or directory"]
    assert "cannot be read" in problems(tmp_path)[0]


def test_a_table_where_a_value_belongs_crashing(toml: Path) -> None:
    toml.write_text("vertex = 5\n[port]\na = 1\n[client_tokens]\nb = 2\n[claude.model]\nc = 3\n")
    assert len(problems(toml)) == 4


def test_a_lower_case_variable_silently_ignored() -> None:
    assert "did you mean COMPLETION_PROXY_PORT?" in problems(port="1")[0]
    assert "did you mean" not in problems(XYZZY="1")[0]


def test_a_service_named_completion_proxy_keeping_its_own_pods_from_starting() -> None:
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP_PROTO": "tcp",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_ADDR": "10.0.0.1",
        "ADMIN_SERVICE_HOST": "10.0.0.2",
        "ADMIN_PORT": "tcp://10.0.0.2:8081",
    }
    assert load(**links) == load()


def test_an_empty_value_taken_for_a_value(toml: Path) -> None:
    toml.write_text('admin_token = ""\nport = 9\n')
    settings = load(toml, PORT="", VERTEX__TOKEN=" ", OVERRIDE_FILE="")
    assert (settings.port, settings.admin_token, settings.vertex.token, settings.override_file) == (9, None, None, None)


def test_the_newline_of_a_mounted_secret_reaching_a_header() -> None:
    settings = load(CLAUDE__API_KEY=" sk-1\n", CLIENT_TOKENS="a , b,\n")
    assert settings.claude.api_key.get_secret_value() == "sk-1"
    assert [token.get_secret_value() for token in settings.client_tokens] == ["a", "b"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "proxy.internal", "fe80::1"])
def test_an_open_proxy_by_default(host: str) -> None:
    assert len(problems(HOST=host)) == 1
    assert len(problems(ADMIN_HOST=host)) == 1
    assert load(HOST=host, CLIENT_TOKENS="t").host == host
    assert load(HOST=host, ALLOW_ANONYMOUS="true").allow_anonymous
    assert load(ADMIN_HOST=host, ADMIN_TOKEN="t").admin_host == host
    assert len(problems(HOST=host, CLIENT_TOKENS=",")) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_a_loopback_address_asking_for_tokens(host: str) -> None:
    load(HOST=host, ADMIN_HOST=host)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "http://x", "a b", "[::1]:80"])
def test_a_host_that_cannot_be_listened_on(host: str) -> None:
    assert "must be an address or a host name" in problems(HOST=host, CLIENT_TOKENS="t")[0]


def test_both_listeners_on_one_port() -> None:
    assert "is the data listener's" in problems(PORT="8081")[0]
    assert load(PORT="0", ADMIN_PORT="0").port == 0


def test_tls_with_half_of_what_it_needs(tmp_path: Path) -> None:
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.touch()
    assert "COMPLETION_PROXY_TLS_KEY: required together with" in problems(TLS_CERTIFICATE=str(there))[0]
    assert "COMPLETION_PROXY_TLS_CERTIFICATE: required together with" in problems(TLS_KEY=str(there))[0]
    assert "no file can be read" in problems(TLS_KEY=str(there), TLS_CERTIFICATE=str(missing))[0]
    assert load(TLS_KEY=str(there), TLS_CERTIFICATE=str(there)).tls_key == there


def test_credentials_that_cannot_work() -> None:
    assert "COMPLETION_PROXY_VERTEX__TOKEN: required" in problems(VERTEX__CREDENTIALS="static")[0]
    assert "only allowed with" in problems(VERTEX__TOKEN="t")[0]
    assert "only allowed with" in problems(VERTEX__TOKEN="t", VERTEX__CREDENTIALS="passthrough")[0]
    target = "p/l/mistralai/m"
    assert "no credential of its own" in problems(PROBES__TARGETS=target, VERTEX__CREDENTIALS="passthrough")[0]


def test_a_missing_key_naming_one_of_its_two_variables_only() -> None:
    assert problems(key={}) == ["COMPLETION_PROXY_CLAUDE__API_KEY or ANTHROPIC_API_KEY: required, and neither is set"]
    assert problems(key={"ANTHROPIC_API_KEY": "a b"})[0].startswith(
        "COMPLETION_PROXY_CLAUDE__API_KEY or ANTHROPIC_API_KEY: must be"
    )


@pytest.mark.parametrize("url", ["https://host", "http://127.0.0.1:9/", "https://[::1]:8443"])
def test_a_base_url_that_doubles_the_slash(url: str) -> None:
    assert load(VERTEX__BASE_URL=url).vertex.base_url == url.removesuffix("/")


@pytest.mark.parametrize(
    "url",
    [
        "host:80",
        "ftp://host",
        "https://",
        "https://host/v1",
        "https://host?x",
        "https://host#",
        "https://u@h",
        "https://h:99999",
        "https://[::1",
        "https://h\u00e9",
    ],
)
def test_a_base_url_that_cannot_be_called(url: str) -> None:
    assert problems(CLAUDE__BASE_URL=url)[0].startswith("COMPLETION_PROXY_CLAUDE__BASE_URL: must ")


def test_probe_targets_misread(toml: Path) -> None:
    target = ProbeTarget("example.com:my-project", "europe-west4", "mistralai", "codestral@2405")
    text = "example.com:my-project/europe-west4/mistralai/codestral@2405"
    assert load(PROBES__TARGETS=f" {text} ,{text},").probes.targets == (target,)
    toml.write_text(f'[probes]\ntargets = ["{text}"]\n')
    assert load(toml).probes.targets == (target,)


@pytest.mark.parametrize(
    "target", ["codestral-2", "p/l/codestral-2", "p/L/mistralai/m", "p/l/mistralai/m:rawPredict", "p/l/mistralai/"]
)
def test_probe_targets_that_cannot_be_probed(target: str) -> None:
    assert "item 1: must be project/location/publisher/model" in problems(PROBES__TARGETS=target)[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PORT", ["-1", "65536", "", "8080.5", "x"]),
        ("MAX_BODY_BYTES", ["0", "-1"]),
        ("DRAIN_SECONDS", ["-1", "inf", "nan"]),
        ("TIMEOUTS__CONNECT_SECONDS", ["0", "-1", "nan", "31"]),
        ("TIMEOUTS__FIRST_BYTE_SECONDS", ["0", "30"]),
        ("BREAKER__FAILURE_RATE_THRESHOLD", ["0", "1.1", "50", "nan"]),
        ("BREAKER__SLOW_RATE_THRESHOLD", ["0", "1.1"]),
        ("BREAKER__OPEN_MULTIPLIER", ["0.9", "nan"]),
        ("BREAKER__OPEN_SECONDS", ["0", "61"]),
        ("BREAKER__WINDOW_SECONDS", ["0", "1.5"]),
        ("BREAKER__WINDOW_CALLS", ["-1", "9"]),
        ("BREAKER__TRIAL_CALLS", ["0", "1001"]),
        ("PROBES__DAILY_BUDGET", ["1439"]),
        ("BREAKER__RAMP_SECONDS", ["-1"]),
        ("CLAUDE__MAX_CONCURRENCY", ["0"]),
        ("CLAUDE__MODEL", ["a b"]),
        ("PROBES__FALL", ["0"]),
        ("PROBES__TIMEOUT_SECONDS", ["0"]),
        ("OVERRIDE", ["off"]),
        ("STREAM_MODE", ["dead", "1"]),
        ("ALLOW_ANONYMOUS", ["perhaps"]),
    ],
)
def test_a_value_out_of_its_range(name: str, values: list[str]) -> None:
    for value in filter(None, values):
        found = problems(None, KEY, **{name: value})
        assert len(found) == 1, (value, found)
        assert found[0].startswith(f"COMPLETION_PROXY_{name}: "), (value, found)


def test_zero_where_it_switches_off() -> None:
    load(PROBES__INTERVAL_SECONDS="0", DRAIN_SECONDS="0", BREAKER__RAMP_SECONDS="0")


def test_settings_that_change_while_running() -> None:
    settings = load(OVERRIDE="Claude")
    assert settings.override is OverrideMode.CLAUDE
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        settings.vertex.base_url = "https://x"


def test_a_dot_env_file_or_the_process_environment_leaking_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("COMPLETION_PROXY_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPLETION_PROXY_PORT", "2")
    assert load().port == 8080
    assert Settings().port == 8080
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert load_settings().port == 2
