"""Who may change something through the admin listener: named by who would get in."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr

from proxy.admin.gate import Gate

TOKEN = SecretStr("the-admin-token")
HERE = "127.0.0.1:8081"


def code(token: SecretStr | None = TOKEN, presented: str | None = None, /, **headers: str) -> int:
    """What a change is answered with; 200 where it is let in."""
    told: list[tuple[int, str]] = []
    gate = Gate(lambda: token, lambda number, why: told.append((number, why)))
    named = {name.replace("_", "-"): value for name, value in {"Host": HERE, **headers}.items()}
    refusal: web.Response | None = gate.refusal(make_mocked_request("PUT", "/override", headers=named), presented)
    assert [number for number, _ in told] == ([] if refusal is None else [refusal.status])
    return 200 if refusal is None else refusal.status


GOOD = {"Authorization": "Bearer the-admin-token"}


@pytest.mark.parametrize("authorization", ["Bearer the-admin-token", "bearer  the-admin-token "])
def test_the_token_is_refused(authorization: str) -> None:
    assert code(Authorization=authorization) == 200
    assert code(TOKEN, "the-admin-token") == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer the-admin-toke", "Bearer the-admin-token2", "Basic the-admin-token",
     "the-admin-token", "Bearer ü"],
)  # fmt: skip
def test_a_wrong_token_gets_in(authorization: str) -> None:
    assert code(Authorization=authorization) == 401


def test_a_form_without_the_token_gets_in_by_a_header() -> None:
    assert code(TOKEN, "", **GOOD) == 401


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1", "http://127.0.0.1:8081.evil.example",
     "http://evil.example@127.0.0.1:8081", "ftp://127.0.0.1:8081", "127.0.0.1:8081", "http://[", "", "http://127.0.0.1:x"],
)  # fmt: skip
def test_a_page_of_another_origin_gets_in(origin: str) -> None:
    assert code(Origin=origin, **GOOD) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_a_page_that_its_browser_calls_foreign_gets_in(site: str) -> None:
    assert code(Sec_Fetch_Site=site, **GOOD) == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [(HERE, f"http://{HERE}"), ("desk.example", "https://desk.example"), ("desk.example:443", "https://desk.example"),
     ("desk.example", "http://desk.example:80"), ("DESK.example", "https://desk.EXAMPLE"), ("[::1]:1", "http://[::1]:1")],
)  # fmt: skip
def test_the_listener_s_own_page_is_kept_out(host: str, origin: str) -> None:
    assert code(Host=host, Origin=origin, Sec_Fetch_Site="same-origin", **GOOD) == 200


@pytest.mark.parametrize("host", ["rebound.example:8081", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_a_name_that_was_made_to_point_here_gets_in_without_a_token(host: str) -> None:
    assert code(None, Host=host) == 403


@pytest.mark.parametrize("host", [HERE, "localhost:8081", "[::1]:8081", "127.1.2.3"])
def test_a_loopback_listener_without_a_token_lets_nobody_in(host: str) -> None:
    assert code(None, Host=host) == 200
    assert code(None, Host=host, Origin=f"http://{host}") == 200
    assert code(None, Host=host, Origin="http://localhost:1") == 403
