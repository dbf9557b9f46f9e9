"""Settings from a directory of secrets: named by what would go wrong where they are mounted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from proxy.settings import SettingsError, load_settings
from proxy.settings_sources import LARGEST_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.settings import Settings

SECRET = "SECRET-5f2c"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    return directory


def load(mount: Path, config: Path | None = None, /, **environ: str) -> Settings:
    return load_settings(config, {"COMPLETION_PROXY_SECRETS_DIR": str(mount), **environ})


def problems(mount: Path, config: Path | None = None, /, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(mount, config, **environ)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    return caught.value.problems


def fill(mount: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        (mount / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def key_of(settings: Settings) -> str:
    return settings.claude.api_key.get_secret_value()


@pytest.mark.parametrize(
    "name",
    [
        "claude__api_key",
        "CLAUDE__API_KEY",
        "Claude__Api_Key",
        "COMPLETION_PROXY_CLAUDE__API_KEY",
        "completion_proxy_claude__api_key",
        "anthropic_api_key",
        "ANTHROPIC_API_KEY",
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_spelling_of_a_name_being_passed_over(name: str, mark: str, mount: Path) -> None:
    fill(mount, {name: f"{mark}sk-mounted\n"})
    assert key_of(load(mount)) == "sk-mounted"


def test_a_setting_of_another_kind_left_out(mount: Path) -> None:
    fill(
        mount, {"anthropic_api_key": "k", "port": "8\n", "client_tokens": "a,b\r\n", "journal_file": "/tmp/a journal\n"}
    )
    settings = load(mount)
    assert (settings.port, len(settings.client_tokens), settings.journal_file) == (8, 2, Path("/tmp/a journal"))


def test_a_weaker_place_winning_over_a_stronger_one(mount: Path, tmp_path: Path) -> None:
    (toml := tmp_path / "proxy.toml").write_text('port = 1\nadmin_port = 1\nhost = "::1"\n')
    fill(mount, {"port": "2", "admin_port": "2", "anthropic_api_key": "k"})
    settings = load(mount, toml, COMPLETION_PROXY_PORT="3")
    assert (settings.port, settings.admin_port, settings.host) == (3, 2, "::1")


def test_a_fallback_winning_over_the_setting_itself(mount: Path, tmp_path: Path) -> None:
    (toml := tmp_path / "proxy.toml").write_text('[claude]\napi_key = "of-the-toml"\n')
    fill(mount, {"anthropic_api_key": "of-the-fallback"})
    assert key_of(load(mount, toml)) == "of-the-toml"
    assert key_of(load(mount, ANTHROPIC_API_KEY="of-the-environment")) == "of-the-environment"
    fill(mount, {"claude__api_key": "of-the-secret"})
    assert key_of(load(mount, toml, ANTHROPIC_API_KEY="of-the-environment")) == "of-the-secret"


def test_half_a_group_in_each_place_losing_the_other_half(mount: Path, tmp_path: Path) -> None:
    (toml := tmp_path / "proxy.toml").write_text('[vertex]\ncredentials = "static"\n')
    fill(mount, {"vertex__token": "ya29.t\n", "anthropic_api_key": "k"})
    settings = load(mount, toml)
    assert settings.vertex.token is not None


def test_a_directory_that_only_the_toml_file_names_not_being_read(mount: Path, tmp_path: Path) -> None:
    (toml := tmp_path / "proxy.toml").write_text(f'secrets_dir = "{mount}"\n')
    fill(mount, {"anthropic_api_key": "k"})
    assert key_of(load_settings(toml, {})) == "k"
    toml.write_text(f'secrets_dir = "{tmp_path / "none"}"\n')
    assert key_of(load(mount, toml)) == "k"  # the environment names another
    with pytest.raises(SettingsError) as caught:
        load_settings(toml, {})
    assert caught.value.problems == [
        f"COMPLETION_PROXY_SECRETS_DIR (in {toml}): is no directory that can be read: No such file or directory"
    ]


def test_a_secret_as_kubernetes_mounts_it_not_being_read_or_not_changing(mount: Path) -> None:
    for version, key in (("..2026_11_24_1", "old"), ("..2026_11_24_2", "new")):
        (mount / version).mkdir()
        (mount / version / "claude__api_key").write_text(f"{key}\n")
    (mount / "..data").symlink_to("..2026_11_24_1")
    (mount / "claude__api_key").symlink_to("..data/claude__api_key")
    assert key_of(load(mount)) == "old"
    (mount / "..data_tmp").symlink_to("..2026_11_24_2")
    (mount / "..data_tmp").replace(mount / "..data")
    assert key_of(load(mount)) == "new"


def test_what_stands_beside_the_secrets_keeping_the_proxy_from_starting(mount: Path) -> None:
    fill(mount, {"anthropic_api_key": "k", ".gitkeep": "", "vertex__token": " \n"})
    (mount / "kubernetes.io").mkdir()
    assert load(mount).vertex.token is None


def test_a_typo_passing(mount: Path) -> None:
    fill(mount, {"claude__api_kee": SECRET, "COMPLETION_PROXY_ADMIN_TOKN": SECRET, "xyzzy": SECRET, "secrets_dir": "/"})
    assert problems(mount) == [
        f"{mount}/COMPLETION_PROXY_ADMIN_TOKN: names no setting that can stand here; "
        "did you mean COMPLETION_PROXY_ADMIN_TOKEN?",
        f"{mount}/claude__api_kee: names no setting that can stand here; "
        "did you mean COMPLETION_PROXY_CLAUDE__API_KEY?",
        f"{mount}/secrets_dir: names no setting that can stand here",
        f"{mount}/xyzzy: names no setting that can stand here",
        "COMPLETION_PROXY_CLAUDE__API_KEY or ANTHROPIC_API_KEY: required, and neither is set",
    ]


def test_one_of_two_files_winning_by_chance(mount: Path) -> None:
    fill(mount, {"claude__api_key": SECRET, "CLAUDE__API_KEY": SECRET, "COMPLETION_PROXY_CLAUDE__API_KEY": SECRET})
    first, second = problems(mount)
    assert first.startswith(
        f"COMPLETION_PROXY_CLAUDE__API_KEY (in {mount}/COMPLETION_PROXY_CLAUDE__API_KEY): stands in "
    )
    assert second.endswith(f"stands in {mount}/CLAUDE__API_KEY, too")


def test_a_file_that_cannot_be_a_value_hanging_or_showing_itself(mount: Path) -> None:
    """And no second error for each: whatever is wrong between settings waits until they can be read."""
    os.mkfifo(mount / "admin_token")
    (mount / "claude__api_key").symlink_to("nowhere")
    (mount / "anthropic_api_key").symlink_to("anthropic_api_key")
    (mount / "override").symlink_to("/dev/zero")
    exactly = b"p" * LARGEST_SECRET
    fill(mount, {"client_tokens": SECRET.encode() + b"\xff", "vertex__token": f"{SECRET}\0", "override_file": exactly})
    fill(mount, {"tls_key": exactly + b"\n", "port": SECRET})
    found = problems(mount, COMPLETION_PROXY_HOST="0.0.0.0", COMPLETION_PROXY_ADMIN_HOST="0.0.0.0")
    assert found == [
        f"COMPLETION_PROXY_ADMIN_TOKEN (in {mount}/admin_token): is no regular file",
        f"ANTHROPIC_API_KEY (in {mount}/anthropic_api_key): cannot be read: Too many levels of symbolic links",
        f"COMPLETION_PROXY_CLAUDE__API_KEY (in {mount}/claude__api_key): cannot be read: No such file or directory",
        f"COMPLETION_PROXY_CLIENT_TOKENS (in {mount}/client_tokens): is not UTF-8 text",
        f"COMPLETION_PROXY_OVERRIDE (in {mount}/override): is no regular file",
        f"COMPLETION_PROXY_TLS_KEY (in {mount}/tls_key): is larger than 65536 bytes",
        f"COMPLETION_PROXY_VERTEX__TOKEN (in {mount}/vertex__token): is not text",
        f"COMPLETION_PROXY_PORT (in {mount}/port): Input should be a valid integer, "
        "unable to parse string as an integer",
    ]


def test_a_directory_that_is_not_there_passed_over(mount: Path, tmp_path: Path) -> None:
    why = "COMPLETION_PROXY_SECRETS_DIR: is no directory that can be read"
    (file := tmp_path / SECRET).touch()
    # Not that the key is missing, too: it may well stand in the directory.
    assert problems(tmp_path / "none") == [f"{why}: No such file or directory"]
    assert problems(file) == [f"{why}: Not a directory"]


def test_an_error_that_names_only_the_variable_where_a_file_is_wrong(mount: Path) -> None:
    fill(mount, {"anthropic_api_key": f"{SECRET} {SECRET}", "vertex__token": SECRET, "admin_port": "8080\n"})
    key, port, token = problems(mount)
    assert key.startswith(f"ANTHROPIC_API_KEY (in {mount}/anthropic_api_key): must be visible ASCII")
    assert port.startswith(f"COMPLETION_PROXY_ADMIN_PORT (in {mount}/admin_port): is the data listener's")
    assert token.startswith(f"COMPLETION_PROXY_VERTEX__TOKEN (in {mount}/vertex__token): only allowed with")
    # The environment's value is the one that is wrong here, not the file's.
    assert problems(mount, COMPLETION_PROXY_ADMIN_PORT="x")[0].startswith("COMPLETION_PROXY_ADMIN_PORT: Input")


HIDDEN = {"admin_token", "claude__api_key", "anthropic_api_key", "client_tokens", "vertex__token"}
_NAMES = st.sampled_from(
    ["admin_token", "claude__api_key", "anthropic_api_key", "client_tokens", "vertex__token", "port", "override",
     "tls_key", "vertex__base_url", "probes__targets", "openfeature_provider", "log_requests", "claude__model", "typo"]
)  # fmt: skip
_WRAPPINGS = st.tuples(
    st.sampled_from(["", "\ufeff", "a ", "https://user:", "-----BEGIN KEY-----\n", "a,", "\x07"]),
    st.sampled_from(["", "\n", " b", "@host", "/x", ":y", "\0", "\udcff", "x" * LARGEST_SECRET]),
)


@examples(max_examples=200, deadline=None)
@given(st.dictionaries(_NAMES, _WRAPPINGS, min_size=1))
def test_a_secret_in_an_error_or_a_repr(files: dict[str, tuple[str, str]]) -> None:
    shown = files.keys() - HIDDEN  # what is no secret may be shown once it is taken
    with tempfile.TemporaryDirectory() as directory:
        for name, (before, after) in files.items():
            content = f"{before}{SECRET}{after}".encode("utf-8", "surrogateescape")
            (Path(directory) / name).write_bytes(content)
        try:
            said = repr(load(Path(directory)))
        except SettingsError as error:
            said, shown = f"{error!r} {error} {error.__cause__!r} {error.__context__!r}", set()
    assert SECRET not in said or shown
