"""Who may come in, whose credential goes where, and who may spend the proxy's key at Claude."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.settings import load_settings
from proxy.simulator import Fault
from proxy.upstreams.credentials import StaticCredentials
from tests.http.token_server import TokenServer
from tests.rig import CLAUDE_KEY, VERTEX_TOKEN, environment, expected, fim, rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rig import Rig

PASSTHROUGH = {"VERTEX__CREDENTIALS": "passthrough", "VERTEX__TOKEN": ""}


def _accept(proxy: Rig, *tokens: str) -> None:
    proxy.vertex.accepted_tokens = set(tokens)


@pytest.mark.virtual_time
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic c2VjcmV0", "Bearer ", "secret"])
async def test_a_caller_without_a_known_token_comes_in(authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {"Authorization": ""}
    async with rig(CLIENT_TOKENS="one,two") as proxy:
        answer = await proxy.ask(headers=headers)
        assert (answer.status, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert not proxy.vertex.calls
        assert proxy.metric("requests_total", upstream="none", code="401") == 1


@pytest.mark.virtual_time
async def test_a_client_token_goes_on_to_vertex() -> None:
    async with rig(CLIENT_TOKENS="one,two") as proxy:
        answer = await proxy.ask(headers={"Authorization": "Bearer two"})
        assert answer.status == 200
        assert dict(proxy.vertex.requests[0].headers)["Authorization"] == f"Bearer {VERTEX_TOKEN}"


@pytest.mark.virtual_time
async def test_the_callers_own_credential_is_replaced() -> None:
    async with rig(**PASSTHROUGH) as proxy:
        _accept(proxy, "of-the-caller")
        assert (await proxy.ask()).served_by == ("vertex", "primary")
        assert dict(proxy.vertex.requests[0].headers)["Authorization"] == "Bearer of-the-caller"


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "fault",
    [Fault(status=401), Fault(status=403), Fault(status=404), Fault(error="failed_precondition")],
    ids=["401", "403", "404", "failed precondition"],
)
async def test_a_callers_own_refusal_is_repaired_at_the_operators_cost(fault: Fault) -> None:
    async with rig(**PASSTHROUGH) as proxy:
        proxy.vertex.fault = fault
        for _ in range(10):
            answer = await proxy.ask()
            assert answer.served_by == ("vertex", "primary")
            assert answer.status in {400, 401, 403, 404}
        assert not proxy.claude.calls
        assert proxy.metric("breaker_state", upstream="vertex", model="codestral-2", state="closed") == 1


@pytest.mark.virtual_time
async def test_a_caller_without_a_credential_reaches_claude() -> None:
    async with rig(**PASSTHROUGH) as proxy:
        proxy.vertex.fault = Fault(status=503)
        answer = await proxy.ask(headers={"Authorization": ""})
        assert (answer.status, answer.served_by) == (503, ("vertex", "server_error"))
        await proxy.vertex.refuse()
        answer = await proxy.ask(headers={"Authorization": ""})
        assert (answer.status, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert not proxy.claude.calls
        assert (await proxy.ask()).served_by == ("claude", "connect")


@pytest.mark.virtual_time
async def test_a_stranger_spends_the_key_while_nobody_can_check_him() -> None:
    """Open to the network and without client tokens: only whom Vertex itself has let in lately."""
    async with rig(**PASSTHROUGH, HOST="0.0.0.0", ALLOW_ANONYMOUS="true") as proxy:
        proxy.app.address = proxy.app.address.replace("0.0.0.0", "127.0.0.1")
        _accept(proxy, "known")
        assert (await proxy.ask(headers={"Authorization": "Bearer known"})).status == 200
        assert (await proxy.ask(headers={"Authorization": "Bearer made-up"})).status == 401
        await proxy.vertex.refuse()
        assert (await proxy.ask(headers={"Authorization": "Bearer known"})).served_by[0] == "claude"
        answer = await proxy.ask(headers={"Authorization": "Bearer made-up"})
        assert (answer.status, answer.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert proxy.claude.calls == 1


@pytest.mark.virtual_time
async def test_whom_one_server_let_in_another_is_taken_to_know() -> None:
    given = {**PASSTHROUGH, "HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}
    async with rig(**given) as proxy:
        proxy.app.address = proxy.app.address.replace("0.0.0.0", "127.0.0.1")
        _accept(proxy, "known")
        known = {"Authorization": "Bearer known"}
        assert (await proxy.ask(headers=known)).status == 200
        await proxy.vertex.refuse()
        for changed, code in (
            ({"PROBES__INTERVAL_SECONDS": "9"}, 200),
            ({"VERTEX__BASE_URL": "http://127.0.0.1:9"}, 401),
        ):
            environ = environment(proxy.vertex.url, proxy.claude.url, **given, **changed)
            await proxy.app.reload(load_settings(environ=environ))
            assert (await proxy.ask(headers=known)).status == code


@pytest.mark.virtual_time
async def test_a_client_token_beside_a_passed_credential_is_sent_on() -> None:
    async with rig(**PASSTHROUGH, CLIENT_TOKENS="one") as proxy:
        _accept(proxy, "of-the-caller")
        assert (await proxy.ask()).status == 401
        answer = await proxy.ask(headers={"x-completion-proxy-token": "one"})
        assert answer.status == 200
        assert "x-completion-proxy-token" not in {name.lower() for name, _ in proxy.vertex.requests[0].headers}


async def test_the_default_credentials_are_not_obtained_and_kept_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real google-auth with a service account, against a token server on loopback."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    tokens = TokenServer()
    application = web.Application()
    application.router.add_post("/token", tokens.handle)
    async with TestServer(application) as server:
        account = {
            "type": "service_account",
            "client_email": "proxy@project.iam.gserviceaccount.com",
            "private_key": pem,
            "private_key_id": "1",
            "token_uri": str(server.make_url("/token")),
            "project_id": "project",
        }
        (file := tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        async with rig(VERTEX__CREDENTIALS="adc", VERTEX__TOKEN="") as proxy:
            proxy.vertex.accepted_tokens = None
            answer = await proxy.ask()
            assert answer.served_by == ("vertex", "primary")
            assert dict(proxy.vertex.requests[0].headers)["Authorization"] == "Bearer token-1"


async def test_a_token_server_that_is_down_costs_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "account.json").write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    async with rig(VERTEX__CREDENTIALS="adc", VERTEX__TOKEN="") as proxy:
        for _ in range(6):
            answer = await proxy.ask()
            assert answer.text == expected("claude")
        assert not proxy.vertex.calls
        assert answer.served_by == ("claude", "circuit_open")
        assert proxy.metric("upstream_failures_total", upstream="vertex", reason="credentials") == 5


@pytest.mark.virtual_time
async def test_a_refusal_of_the_proxys_own_credential_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(StaticCredentials, "rejected", lambda self: told.append(self))
    async with rig() as proxy:
        proxy.vertex.accepted_tokens = {"another"}
        answer = await proxy.ask(fim())
        assert answer.served_by == ("claude", "unauthorized")
        # So that a token which was revoked early is renewed.
        assert len(told) == 1
        assert CLAUDE_KEY not in f"{answer.headers}"


async def test_the_data_listener_answers_in_the_clear_where_tls_is_set(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    (pem := tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (key := tmp_path / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with rig(TLS_CERTIFICATE=str(pem), TLS_KEY=str(key)) as proxy:
        assert proxy.app.address.startswith("https://")
        for stream in (False, True):
            answer = await proxy.ask(fim(stream=stream), ssl=client)
            assert answer.text == expected("vertex")
