"""Mistral's own paths: named by what an editor would not get."""

from __future__ import annotations

import json

import pytest

from proxy.dialects.base import InvalidRequest
from proxy.front import FRONT_DIALECT, MistralApi, MistralFront, is_front
from tests.unit.test_settings import KEY, load, problems

FRONT = MistralFront("p", "us-central1", "mistralai", "codestral@2405")


def test_a_front_without_a_model_behind_it() -> None:
    given = {"VERTEX__PROJECT": "p", "VERTEX__LOCATION": "us-central1", "VERTEX__MODEL": "codestral-2"}
    assert load(**given).vertex.front == ("p", "us-central1", "mistralai", "codestral-2")
    for name in given:
        (problem,) = problems(None, KEY, **{other: value for other, value in given.items() if other != name})
        assert problem.startswith(f"COMPLETION_PROXY_{name}: required together with")
    (problem,) = problems(None, KEY, **{**given, "VERTEX__LOCATION": "US"})
    assert "COMPLETION_PROXY_VERTEX__LOCATION" in problem


@pytest.mark.parametrize(
    ("body", "method", "stream"),
    [({}, "rawPredict", False), ({"stream": False}, "rawPredict", False), ({"stream": True}, "streamRawPredict", True)],
)
def test_a_stream_is_asked_for_at_the_wrong_method(body: dict[str, bool], method: str, stream: bool) -> None:
    asked = {"model": "codestral-latest", "prompt": "é", "stream_options": {"include_usage": True}, **body}
    target, sent = FRONT.rewrite(json.dumps(asked).encode())
    place = "/v1/projects/p/locations/us-central1/publishers/mistralai/models"
    assert target == f"{place}/codestral@2405:{method}"
    assert json.loads(sent) == {"model": "codestral", "prompt": "é", "stream": stream}


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_a_body_that_is_none_reaches_vertex(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        FRONT.rewrite(body)


def test_a_path_beside_mistrals_own_is_served() -> None:
    assert is_front("/v1/fim/completions?x=1")
    assert is_front("/v1/chat/completions")
    assert not any(map(is_front, ["/v1/fim/completions/", "/v1/models", "//v1/fim/completions", "/v2/fim/completions"]))


def test_googles_errors_reach_a_client_of_mistrals() -> None:
    assert isinstance(FRONT_DIALECT, MistralApi)
    google = b'{"error": {"code": 503, "message": "gone", "status": "UNAVAILABLE"}}'
    assert json.loads(FRONT_DIALECT.own_error(503, google)) == {
        "object": "error",
        "message": "gone",
        "type": "service_unavailable",
        "param": None,
        "code": "503",
    }
    own = b'{"detail": [{"loc": ["body", "prompt"], "msg": "x", "type": "missing"}]}'
    assert FRONT_DIALECT.own_error(422, own) == own
    assert json.loads(FRONT_DIALECT.error(400, "no", field="prompt"))["param"] == "prompt"
