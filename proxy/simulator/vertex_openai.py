"""Vertex AI's endpoint in OpenAI's format: `endpoints/openapi/chat/completions`, for Gemini and for others' models."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from . import model
from .openai_schema import Body, content_text
from .reply import Kind, Part, Reply, compact, whole
from .vertex_errors import ERRORS, JSON, error_object

OPENAI_MODELS = frozenset(
    {
        "meta/llama-3.3-70b-instruct-maas",
        "meta/llama-4-maverick-17b-128e-instruct-maas",
        "deepseek-ai/deepseek-v3.2-maas",
        "qwen/qwen3-coder-480b-a35b-instruct-maas",
    }
)
"""The models of others; Google's own are those of its publisher, as `google/gemini-2.5-flash`."""
_LIKELIHOOD = -0.125


@dataclass(frozen=True, slots=True)
class _Choice:
    """One answer of several before it is written."""

    index: int
    text: str
    calls: Sequence[Body]
    finish: str

    @property
    def written(self) -> str:
        """All that the model wrote."""
        return self.text + "".join(call["function"]["arguments"] for call in self.calls)


def answer(request: Body, author: model.Author, *, answer_id: str) -> Reply:
    """What the model of a request that was read answers."""
    choices = [_choice(request, author, index, answer_id) for index in range(request.get("n", 1))]
    common = {"id": answer_id, "created": int(time.time()), "model": request["model"], "system_fingerprint": ""}
    usage = _usage(request, choices)
    if request.get("stream"):
        return _stream(request, common, choices, usage)
    document = {
        **common,
        "object": "chat.completion",
        "choices": [_whole(request, choice) for choice in choices],
        "usage": usage,
    }
    return whole(HTTPStatus.OK, compact(document), JSON)


def _choice(request: Body, author: model.Author, index: int, answer_id: str) -> _Choice:
    asked = [message for message in request["messages"] if message["role"] == "user"]
    question = content_text(asked[-1].get("content")) if asked else ""
    if (function := _function(request)) is not None:
        arguments = json.dumps(model.arguments(function.get("parameters") or {}, question), ensure_ascii=False)
        call = {
            "id": f"function-call-{answer_id}-{index}",
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        }
        return _Choice(index, "", [call], "tool_calls")
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    text = model.alternative(author.chat(question), index)
    generation = model.generate(text, request.get("stop", ()), limit)
    return _Choice(index, generation.text, [], generation.finish)


def _function(request: Body) -> Body | None:
    """What is called in place of an answer: not when it was called already."""
    choice = request.get("tool_choice", "auto")
    if choice == "none" or request["messages"][-1]["role"] == "tool":
        return None
    functions: list[Body] = [tool["function"] for tool in request.get("tools", ())]
    if isinstance(choice, dict):
        functions = [function for function in functions if function["name"] == choice["function"]["name"]]
    return functions[0] if functions else None


def _usage(request: Body, choices: Sequence[_Choice]) -> Body:
    asked = sum(model.tokens(content_text(message.get("content"))) for message in request["messages"])
    wrote = sum(model.tokens(choice.written) for choice in choices)
    return {
        "prompt_tokens": asked,
        "completion_tokens": wrote,
        "total_tokens": asked + wrote,
        "extra_properties": {"google": {"traffic_type": "ON_DEMAND"}},
    }


def _whole(request: Body, choice: _Choice) -> Body:
    said = {"tool_calls": list(choice.calls)} if choice.calls else {"content": choice.text}
    return {
        "index": choice.index,
        "message": {"role": "assistant", **said},
        "finish_reason": choice.finish,
        "logprobs": _log_probabilities(request, choice.text),
    }


def _log_probabilities(request: Body, text: str) -> Body | None:
    if not request.get("logprobs"):
        return None
    tokens: list[Body] = [
        {"token": token, "logprob": _LIKELIHOOD, "bytes": list(token.encode("utf-8", "surrogatepass"))}
        for token in model.chunks(text, model.CHARACTERS_PER_TOKEN)
    ]
    top = request.get("top_logprobs", 0)
    return {"content": [{**token, "top_logprobs": _likeliest(token, top)} for token in tokens], "refusal": None}


def _likeliest(token: Body, top: int) -> list[Body]:
    """So many alternatives of a token, itself the first."""
    return [
        {**token, "token": model.alternative(token["token"], rank), "logprob": _LIKELIHOOD * (rank + 1)}
        for rank in range(top)
    ]


def _stream(request: Body, common: Body, choices: Sequence[_Choice], usage: Body) -> Reply:
    counts = bool(request.get("stream_options", {}).get("include_usage"))

    def event(kind: Kind, choices: Sequence[Body], counted: Body | None = None) -> Part:
        document = {**common, "object": "chat.completion.chunk", "choices": list(choices)}
        if counts:
            document["usage"] = counted
        return Part(b"data: " + compact(document) + b"\n\n", kind)

    def piece(kind: Kind, choice: _Choice, delta: Body, finish: str | None = None) -> Part:
        probabilities = _log_probabilities(request, delta.get("content", ""))
        body = {"index": choice.index, "delta": {"role": "assistant", **delta}, "finish_reason": finish}
        return event(kind, [{**body, "logprobs": probabilities}])

    parts = []
    for choice in choices:
        calls = [{"index": index, **call} for index, call in enumerate(choice.calls)]
        if calls:
            parts.append(piece(Kind.CONTENT, choice, {"tool_calls": calls}))
        parts += [piece(Kind.CONTENT, choice, {"content": chunk}) for chunk in model.chunks(choice.text)]
        parts.append(piece(Kind.TAIL, choice, {"content": ""}, choice.finish))
    if counts:
        parts.append(event(Kind.TAIL, [], usage))
    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": "text/event-stream", "cache-control": "no-cache"},
        parts=(*parts, Part(b"data: [DONE]\n\n", Kind.TERMINATOR)),
        stream=True,
        error_event=b"data: " + compact(error_object(ERRORS["unavailable"])) + b"\n\n",
        malformed_event=b'data: {"id": "' + str(common["id"]).encode() + b'", "choi\n\n',
    )
