"""Gemini on Vertex AI: `generateContent`, `streamGenerateContent` and `countTokens`.

A stream is a JSON array that grows, or with `alt=sse` a stream of events without an end of its own.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from . import model
from .gemini_rules import GeminiAsk, GeminiModel, counted, understand
from .reply import ARRAY, Kind, Part, Reply
from .vertex_errors import ERRORS, JSON, error_object, google, pretty

_NUMBERS = {
    "STOP": 1,
    "MAX_TOKENS": 2,
    "PROHIBITED_CONTENT": 4,  # As a reason to block; it is 7 as one to finish.
    "ON_DEMAND": 1,
    "TEXT": 1,
}
"""The numbers of the enums' values that occur in answers."""
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS"}
_LIKELIHOOD = -0.125

_Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """In what form an answer is wanted, by the query: `alt` or `$alt`, whose value may have parameters of its own."""

    sse: bool
    numbers: bool
    """Enums as numbers, which google-cloud-aiplatform asks for."""

    @classmethod
    def of(cls, raw_path: str) -> Wire:
        """By the query of a request target."""
        alternatives = [value for name, value in parse_qsl(raw_path.partition("?")[2]) if name in ("alt", "$alt")]
        media, *parameters = (alternatives or ["json"])[-1].split(";")
        return cls(media == "sse", "enum-encoding=int" in parameters)

    def enum(self, name: str) -> str | int:
        """The value of an enum."""
        return _NUMBERS[name] if self.numbers else name


@dataclass(frozen=True, slots=True)
class _Writer:
    """What the documents of one answer have in common."""

    ask: GeminiAsk
    wire: Wire
    identity: Mapping[str, str]

    def document(self, candidates: Sequence[_Document], usage: _Document) -> _Document:
        return {"candidates": list(candidates), "usageMetadata": usage, **self.identity}

    def candidate(self, index: int, parts: Sequence[_Document], finish: str | None = None) -> _Document:
        content: _Document = {"role": "model", **({"parts": list(parts)} if parts else {})}
        text = "".join(part.get("text", "") for part in parts)
        return {
            "index": index,
            "content": content,
            **({} if finish is None else {"finishReason": self.wire.enum(finish)}),
            **({} if self.ask.logprobs is None else _log_probabilities(text, self.ask.logprobs)),
        }

    def usage(self, written: Sequence[str]) -> _Document:
        read, wrote = model.tokens(self.ask.question), sum(map(model.tokens, written))
        return {
            "promptTokenCount": read,
            "candidatesTokenCount": wrote,
            "totalTokenCount": read + wrote,
            "trafficType": self.wire.enum("ON_DEMAND"),
            "promptTokensDetails": [{"modality": self.wire.enum("TEXT"), "tokenCount": read}],
        }

    def blocked(self) -> _Document:
        read = model.tokens(self.ask.question)
        feedback = {
            "blockReason": self.wire.enum("PROHIBITED_CONTENT"),
            "blockReasonMessage": "The prompt is blocked due to prohibited contents.",
        }
        usage = {"promptTokenCount": read, "totalTokenCount": read}
        return {"promptFeedback": feedback, "usageMetadata": usage, **self.identity}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemini:
    """One model as it is served."""

    name: str
    can: GeminiModel
    author: model.Author
    blocks: bool
    """Whether it answers no prompt."""

    def generate(self, body: _Document, wire: Wire, answer_id: str) -> Reply:
        """The whole answer. Raises Rejected."""
        ask = understand(body, self.can, streams=False)
        writer = self._writer(ask, wire, answer_id)
        if self.blocks:
            return google(writer.blocked())
        if (call := _call(ask)) is not None:
            candidates = [writer.candidate(index, [call], "STOP") for index in range(ask.candidates)]
            return google(writer.document(candidates, writer.usage([json.dumps(call)] * ask.candidates)))
        generations = [self._generation(ask, index) for index in range(ask.candidates)]
        candidates = [
            writer.candidate(index, _texts(each.text), _FINISH[each.finish]) for index, each in enumerate(generations)
        ]
        return google(writer.document(candidates, writer.usage([each.text for each in generations])))

    def stream(self, body: _Document, wire: Wire, answer_id: str) -> Reply:
        """The answer in pieces; the last one has the finish reason and the usage. Raises Rejected."""
        ask = understand(body, self.can, streams=True)
        writer = self._writer(ask, wire, answer_id)
        framed = _events if wire.sse else _array
        if self.blocks:
            return framed([], writer.blocked())
        generation, call = self._generation(ask, 0), _call(ask)
        if call is None:
            pieces = [_texts(chunk) for chunk in model.chunks(generation.text)]
            written, finish = generation.text, _FINISH[generation.finish]
        else:
            pieces, written, finish = [[call]], json.dumps(call), "STOP"
        traffic = {"trafficType": wire.enum("ON_DEMAND")}
        last = writer.document([writer.candidate(0, [{"text": ""}], finish)], writer.usage([written]))
        return framed([writer.document([writer.candidate(0, parts)], traffic) for parts in pieces], last)

    def _writer(self, ask: GeminiAsk, wire: Wire, answer_id: str) -> _Writer:
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        return _Writer(ask, wire, {"modelVersion": self.name, "createTime": now, "responseId": answer_id})

    def _generation(self, ask: GeminiAsk, index: int) -> model.Generation:
        return model.generate(model.alternative(self.author.chat(ask.text), index), ask.stops, ask.max_tokens)


def count(body: _Document) -> Reply:
    """How many tokens a request has. Raises Rejected."""
    text = counted(body)
    return google({"totalTokens": model.tokens(text), "totalBillableCharacters": len("".join(text.split()))})


def _texts(text: str) -> list[_Document]:
    return [{"text": text}] if text else []


def _call(ask: GeminiAsk) -> _Document | None:
    if ask.function is None:
        return None
    arguments = model.arguments(ask.function.parameters, ask.text)
    return {"functionCall": {"name": ask.function.name, "args": arguments}}


def _log_probabilities(text: str, top: int) -> _Document:
    chosen: list[_Document] = [
        {"token": token, "tokenId": index, "logProbability": _LIKELIHOOD}
        for index, token in enumerate(model.chunks(text, model.CHARACTERS_PER_TOKEN))
    ]
    alternatives = [
        {
            "candidates": [
                {**token, "token": model.alternative(token["token"], rank), "logProbability": _LIKELIHOOD * (rank + 1)}
                for rank in range(top)
            ]
        }
        for token in chosen
    ]
    return {
        "avgLogprobs": _LIKELIHOOD,
        "logprobsResult": {"chosenCandidates": chosen, "topCandidates": alternatives},
    }


def _events(documents: Sequence[_Document], last: _Document) -> Reply:
    def event(document: _Document) -> bytes:
        return b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\r\n\r\n"

    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": "text/event-stream"},
        parts=(*(Part(event(each)) for each in documents), Part(event(last), Kind.TAIL)),
        stream=True,
        error_event=event(error_object(ERRORS["unavailable"])),
        malformed_event=b'data: {"candidates": [{"content": {"ro\r\n\r\n',
    )


def _array(documents: Sequence[_Document], last: _Document) -> Reply:
    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": JSON},
        parts=(*(Part(pretty(each)) for each in documents), Part(pretty(last), Kind.TAIL)),
        stream=True,
        framing=ARRAY,
        error_event=pretty(error_object(ERRORS["unavailable"])),
        malformed_event=b'{\n  "candidates": [\n    {\n      "content": {"ro',
    )
