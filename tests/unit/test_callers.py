"""Who comes in, and who spends the Claude key: named by the bill or the breach."""

from __future__ import annotations

import hmac

import pytest
from multidict import CIMultiDict

from proxy import callers
from proxy.callers import Caller, Callers, NotAdmitted
from proxy.settings import load_settings

HOUR = 3600.0
OPEN = {"HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}
PASSTHROUGH = {"VERTEX__CREDENTIALS": "passthrough"}
STATIC = {"VERTEX__CREDENTIALS": "static", "VERTEX__TOKEN": "ya29.own"}


class Door:
    """The rules under some settings, at a time that the test sets."""

    def __init__(self, **settings: str) -> None:
        self.now = 0.0
        environ = {f"COMPLETION_PROXY_{name}": value for name, value in settings.items()}
        self.callers = Callers(load_settings(None, environ | {"ANTHROPIC_API_KEY": "k"}), clock=lambda: self.now)

    def admit(self, authorization: str | None = None, **headers: str) -> Caller:
        given = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
        if authorization is not None:
            given["authorization"] = authorization
        return self.callers.admit(given)

    def refuses(self, authorization: str | None = None, **headers: str) -> str:
        with pytest.raises(NotAdmitted) as caught:
            self.admit(authorization, **headers)
        return str(caught.value)


@pytest.mark.parametrize("kind", [{}, STATIC])
def test_a_stranger_spending_the_proxy_s_credentials(kind: dict[str, str]) -> None:
    door = Door(**kind, HOST="0.0.0.0", CLIENT_TOKENS="one,two,three")
    for token in ("one", "two", "three"):
        assert door.admit(f"Bearer {token}").may_use_claude
    for authorization in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "one",
        "Basic one",
        "Bearer four",
        "Bearer one,two",
        "Bearer on",
        "Bearer ONE",
    ):
        door.refuses(authorization)
    door.refuses(x_completion_proxy_token="one")


@pytest.mark.parametrize("authorization", ["bearer one", "BEARER one", "Bearer  one", " Bearer one "])
def test_a_known_caller_refused_for_a_spelling(authorization: str) -> None:
    Door(CLIENT_TOKENS="one").admit(authorization)


@pytest.mark.parametrize("token", ["\udcff", "ä", "x" * 100_000])
def test_a_strange_token_crashing(token: str) -> None:
    assert "not known" in Door(CLIENT_TOKENS="one").refuses(f"Bearer {token}")


def test_a_refusal_that_does_not_say_where_the_token_goes_or_repeats_it() -> None:
    assert "Authorization" in Door(CLIENT_TOKENS="one").refuses()
    door = Door(**PASSTHROUGH, CLIENT_TOKENS="one")
    assert "x-completion-proxy-token" in door.refuses("Bearer google")
    assert "secret" not in door.refuses("Bearer google", x_completion_proxy_token="secret")


def test_all_tokens_compared_no_matter_which_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return bool(real(one, other))

    monkeypatch.setattr(hmac, "compare_digest", compare)
    door = Door(CLIENT_TOKENS="one,two,three-that-is-longer")
    door.admit("Bearer one")
    door.refuses("Bearer x")
    assert compared == [(32, 32)] * 6


def test_a_loopback_proxy_asking_for_tokens_that_nobody_set() -> None:
    assert Door().admit().may_use_claude
    assert Door(**OPEN).admit().may_use_claude  # the operator said so


def test_a_passed_through_caller_whose_own_token_is_taken_for_a_client_token() -> None:
    door = Door(**PASSTHROUGH, HOST="0.0.0.0", CLIENT_TOKENS="one")
    assert door.admit("Bearer google", x_completion_proxy_token="one").may_use_claude
    door.refuses("Bearer one")


@pytest.mark.parametrize("settings", [{}, {"CLIENT_TOKENS": "one"}, OPEN])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer  ", "Basic dTpw"])
def test_a_caller_without_authorization_reaching_claude(settings: dict[str, str], authorization: str | None) -> None:
    door = Door(**PASSTHROUGH, **settings)
    caller = door.admit(authorization, x_completion_proxy_token="one")
    door.callers.accepted(caller, 0)
    assert not door.admit(authorization, x_completion_proxy_token="one").may_use_claude


def test_anybody_with_a_made_up_token_spending_the_claude_key_while_vertex_is_down() -> None:
    door = Door(**PASSTHROUGH, **OPEN)
    known = door.admit("Bearer known")
    assert not known.may_use_claude
    door.callers.accepted(known, door.now)
    assert door.admit("Bearer known").may_use_claude
    assert door.admit("bearer   known").may_use_claude
    assert not door.admit("Bearer made-up").may_use_claude


def test_a_caller_known_for_ever_or_forgotten_too_soon() -> None:
    door = Door(**PASSTHROUGH, **OPEN)
    door.callers.accepted(door.admit("Bearer known"), 0)
    door.now = HOUR
    caller = door.admit("Bearer known")
    assert caller.may_use_claude
    door.now += 1
    assert not door.admit("Bearer known").may_use_claude
    door.callers.accepted(caller, door.now)
    door.now += HOUR
    assert door.admit("Bearer known").may_use_claude


def test_a_memory_without_bound() -> None:
    door = Door(**PASSTHROUGH, **OPEN)
    for number in range(callers.REMEMBERED_CALLERS):
        door.callers.accepted(door.admit(f"Bearer {number}"), 0)
    door.callers.accepted(door.admit("Bearer 0"), 1)
    door.callers.accepted(door.admit("Bearer one-more"), 2)
    assert door.admit("Bearer 0").may_use_claude  # accepted last but one
    assert door.admit("Bearer one-more").may_use_claude
    assert not door.admit("Bearer 1").may_use_claude  # the longest ago
    assert door.admit("Bearer 2").may_use_claude


def test_a_memory_of_tokens_that_another_process_could_look_up() -> None:
    one, other = (Door(**PASSTHROUGH, **OPEN).admit("Bearer token") for _ in range(2))
    assert one.credential is not None
    assert one.credential != other.credential
    assert "token" not in repr(one)
    assert one.credential.hex() not in repr(one)


def test_where_the_caller_is_known_otherwise_nothing_is_remembered() -> None:
    assert Door(**PASSTHROUGH).admit("Bearer token").credential is None
    assert Door(**OPEN).admit("Bearer token").credential is None


def test_a_caller_who_wanders_in_and_out_of_a_share() -> None:
    one, other = Door(CLIENT_TOKENS="one,two"), Door(CLIENT_TOKENS="one,two")
    assert one.admit("Bearer one").key == other.admit("Bearer one").key  # on every replica
    assert one.admit("Bearer one").key != one.admit("Bearer two").key
    assert (
        one.admit("Bearer one", x_completion_proxy_actor="ann").key
        == other.admit("Bearer two", x_completion_proxy_actor="ann").key
    )
    assert one.admit("Bearer one", x_completion_proxy_actor="bob").key != one.admit("Bearer one").key
    door = Door(**PASSTHROUGH, CLIENT_TOKENS="one")
    assert (
        door.admit("Bearer a", x_completion_proxy_token="one").key
        == door.admit("Bearer b", x_completion_proxy_token="one").key
    )
    assert Door(**PASSTHROUGH).admit("Bearer a").key == Door(**PASSTHROUGH).admit("Bearer a").key


def test_all_callers_without_a_name_falling_into_one_share() -> None:
    door = Door()
    assert len({door.admit().key for _ in range(50)}) == 50
