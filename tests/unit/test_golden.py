"""The golden files: named by what would reach Claude, or a caller, otherwise than written there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParams, MessageCreateParamsBase
from google.api.httpbody_pb2 import HttpBody
from google.cloud import aiplatform_v1
from google.genai.types import GenerateContentResponse
from google.protobuf.json_format import Parse
from mistralai.client.models import ChatCompletionResponse, CompletionChunk
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from proxy import sse
from proxy.dialects.base import Framing
from tests import golden_files

if TYPE_CHECKING:
    from pathlib import Path

FILES = golden_files.files()
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def _gemini(answer: Any) -> None:
    GenerateContentResponse.model_validate(answer)
    aiplatform_v1.GenerateContentResponse.from_json(json.dumps(answer))


def _gecko(answer: Any) -> None:
    aiplatform_v1.PredictResponse.from_json(json.dumps(answer))


def _codestral(answer: Any) -> None:
    (CompletionChunk if answer["object"].endswith("chunk") else ChatCompletionResponse).model_validate(answer)


def _openai(answer: Any) -> None:
    (ChatCompletionChunk if answer["object"].endswith("chunk") else ChatCompletion).model_validate(answer, strict=True)


def _anthropic(answer: Any) -> None:
    if answer["type"] == "message":
        Message.model_validate(answer)
    elif answer["type"] != "ping":
        _EVENT.validate_python(answer)


def _envelope(answer: Any) -> None:
    within = Parse(json.dumps(answer), HttpBody())
    text = within.data.decode()
    whole = within.content_type == "application/json"
    for each in [json.loads(text)] if whole else _chunks(text, Framing.EVENTS):
        (_anthropic if "type" in each else _codestral)(each)


_CLIENT_MODELS: dict[str, Callable[[Any], None]] = {
    "anthropic": _anthropic,
    "codestral": _codestral,
    "envelope": _envelope,
    "gecko": _gecko,
    "gemini": _gemini,
    "openai": _openai,
}
"""By the dialect's name, how a client reads an answer or one chunk; raises what the client would."""


def _all_of(value: Any) -> None:
    """Read on in what is validated only when it is read."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            _all_of(each)


def _chunks(stream: str, framing: Framing) -> Iterator[Any]:
    if framing is Framing.ARRAY:
        yield from json.loads(stream)
        return
    for event in sse.SSEReader().feed(stream.encode()):
        if event.data != b"[DONE]":
            yield json.loads(event.data)


@EACH
def test_a_dialect_has_changed_unseen(path: Path) -> None:
    golden = golden_files.load(path)
    assert golden_files.made(golden) == golden, "python -m tests.golden_files renews the files"


@EACH
def test_anthropics_types_refuse_a_request(path: Path) -> None:
    requests = golden_files.load(path).get("anthropic_request", [])
    for request in requests if isinstance(requests, list) else [requests]:
        _all_of(_REQUEST.validate_python(request))
        assert request.keys() <= get_type_hints(MessageCreateParamsBase).keys() | {"stream"}


@EACH
def test_anthropic_never_answers_like_that(path: Path) -> None:
    given = golden_files.load(path).get("anthropic_answer", [])
    if isinstance(given, list):
        for event in given:
            if event["type"] != "ping":
                _EVENT.validate_python(event)
    else:
        for body in given.get("bodies", [given]):
            Message.model_validate(body)


@EACH
def test_a_clients_model_refuses_an_answer(path: Path) -> None:
    golden = golden_files.load(path)
    answer = golden["answer"]
    if "refused" in golden:
        error = answer[0] if isinstance(answer, list) else answer
        assert error["error"]["status"] == "INVALID_ARGUMENT"
        return
    framing = golden_files.dialect(golden).framing
    for chunk in _chunks(answer, framing) if isinstance(answer, str) else [answer]:
        _CLIENT_MODELS[golden["dialect"]](chunk)


def test_a_folder_is_passed_over() -> None:
    folders = {path.name for path in golden_files.FOLDER.iterdir()}
    assert folders == {path.parent.name for path in FILES} == _CLIENT_MODELS.keys()
    assert all(golden_files.load(path)["dialect"] == path.parent.name for path in FILES)
