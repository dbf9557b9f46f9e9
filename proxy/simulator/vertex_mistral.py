"""Mistral's code models on Vertex AI: fill-in-the-middle and chat, as their own server answers."""

from __future__ import annotations

import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from . import model
from .mistral_schema import schema_problems
from .reply import Kind, Part, Reply, compact, whole
from .vertex_errors import ERRORS, error_object


def answer(
    body: dict[str, Any], names: Collection[str], author: model.Author, *, answer_id: str, streams: bool
) -> Reply:
    """What the model whose `names` are those answers; `streams` is what the method says where the body says nothing."""
    if problems := schema_problems(body, names):
        return whole(HTTPStatus.UNPROCESSABLE_ENTITY, compact({"detail": problems}), "application/json")
    stop = body.get("stop") or ()
    generation = model.generate(
        _text(author, body), (stop,) if isinstance(stop, str) else tuple(stop), body.get("max_tokens")
    )
    common = {"id": answer_id, "created": int(time.time()), "model": body["model"]}
    read, written = model.tokens(_question(body)), model.tokens(generation.text)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    asked = body.get("stream")
    if asked or (asked is None and streams):
        return _stream(common, generation, usage)
    message = {"role": "assistant", "content": generation.text, "tool_calls": None}
    choice = {"index": 0, "message": message, "finish_reason": generation.finish}
    document = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    return whole(HTTPStatus.OK, compact(document), "application/json")


def _text(author: model.Author, body: dict[str, Any]) -> str:
    """What the model writes when nothing stops it."""
    if "messages" not in body:
        return author.complete(body["prompt"], body.get("suffix") or "")
    asked = [message for message in body["messages"] if message["role"] == "user"]
    return author.chat(_content(asked[-1]) if asked else "")


def _question(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "".join(_content(message) for message in body["messages"])
    return str(body["prompt"]) + (body.get("suffix") or "")


def _content(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _stream(common: dict[str, Any], generation: model.Generation, usage: dict[str, int]) -> Reply:
    def event(kind: Kind, delta: dict[str, str], finish: str | None = None, **more: object) -> Part:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**common, "object": "chat.completion.chunk", "choices": [choice], **more}
        return Part(b"data: " + compact(chunk) + b"\n\n", kind)

    parts = (
        event(Kind.HEAD, {"role": "assistant", "content": ""}),
        *(event(Kind.CONTENT, {"content": text}) for text in model.chunks(generation.text)),
        event(Kind.TAIL, {"content": ""}, generation.finish, usage=usage),
        Part(b"data: [DONE]\n\n", Kind.TERMINATOR),
    )
    return Reply(
        status=HTTPStatus.OK,
        headers={"content-type": "text/event-stream", "cache-control": "no-cache"},
        parts=parts,
        stream=True,
        error_event=b"data: " + compact(error_object(ERRORS["unavailable"])) + b"\n\n",
        malformed_event=b'data: {"id": "' + str(common["id"]).encode() + b'", "choi\n\n',
    )
