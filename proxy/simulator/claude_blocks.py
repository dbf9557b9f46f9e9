"""What the Messages API takes for the content of a message: its blocks, and which of them must follow which.

Pure.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from .claude_errors import refused

Block = dict[str, Any]
Turn = tuple[str, list[Block]]
"""A role, and the blocks of the message; a text alone is one block."""

MARKS = 4
"""The most blocks with a `cache_control`."""

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_FIELDS: dict[str, frozenset[str]] = {
    "text": frozenset({"text", "citations"}),
    "image": frozenset({"source"}),
    "document": frozenset({"source", "title", "context", "citations"}),
    "tool_use": frozenset({"id", "name", "input", "caller"}),
    "tool_result": frozenset({"tool_use_id", "content", "is_error"}),
    "thinking": frozenset({"thinking", "signature"}),
    "redacted_thinking": frozenset({"data"}),
}
_OF_ROLE = {
    "user": frozenset({"text", "image", "document", "tool_result"}),
    "assistant": frozenset({"text", "tool_use", "thinking", "redacted_thinking"}),
    "system": frozenset({"text"}),
    "tool_result": frozenset({"text", "image", "document"}),
}
_UNMARKED = frozenset({"thinking", "redacted_thinking"})
"""The blocks that take no `cache_control`."""


def blocks(where: str, value: Any, role: str) -> list[Block]:
    """The content of what has this `role`. Raises Rejected."""
    if isinstance(value, str):
        _text(where, {"text": value})
        return [{"type": "text", "text": value}]
    if not isinstance(value, list) or not value:
        raise refused(f"{where}: Input should be a valid string or a list that is not empty")
    for index, block in enumerate(value):
        _block(f"{where}.{index}", block, role)
    return value


def text_of(content: list[Block]) -> str:
    """The text of it, without what tools said."""
    return "".join(block["text"] for block in content if block["type"] == "text")


def read_of(content: list[Block]) -> str:
    """All that is read of it as text: that of the blocks and what tools said."""
    results = [block.get("content") or "" for block in content if block["type"] == "tool_result"]
    told = "".join(result if isinstance(result, str) else read_of(result) for result in results)
    return text_of(content) + told


def follow(turns: list[Turn]) -> None:
    """Whether each use of a tool is answered at once, and nothing else. Raises Rejected."""
    merged = [
        (role, [block for _, content in each for block in content])
        for role, each in itertools.groupby(turns, key=lambda turn: turn[0])
    ]
    asked: list[str] = []
    # After the last message nothing is answered any more.
    for index, (_, content) in enumerate([*merged, ("user", [])]):
        results = _leading_results(content)
        missing = [each for each in asked if each not in results]
        if missing:
            raise refused(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        for position, block in enumerate(content):
            if block["type"] == "tool_result" and block["tool_use_id"] not in asked:
                raise refused(
                    f"messages.{index}.content.{position}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block in "
                    "the previous message."
                )
        asked = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked):
            raise refused("messages: `tool_use` ids must be unique")


def count_marks(marked: Iterable[Block]) -> None:
    """Whether not too much is marked for the cache. Raises Rejected."""
    count = sum(block.get("cache_control") is not None for block in marked)
    if count > MARKS:
        raise refused(f"A maximum of {MARKS} blocks with cache_control may be provided. Found {count}.")


def check_mark(where: str, value: Any) -> None:
    """Whether `value` is a `cache_control`. Raises Rejected."""
    good = isinstance(value, dict) and value.keys() <= {"type", "ttl"} and value.get("type") == "ephemeral"
    if value is not None and (not good or value.get("ttl", "5m") not in ("5m", "1h")):
        raise refused(f"{where}.cache_control: Input should be ephemeral, with a ttl of 5m or 1h if any")


def _leading_results(content: list[Block]) -> list[str]:
    leading = itertools.takewhile(lambda block: block["type"] == "tool_result", content)
    return [block["tool_use_id"] for block in leading]


def _block(where: str, block: Any, role: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind not in _OF_ROLE[role]:
        raise refused(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    for name in block:
        if name not in _FIELDS[kind] | {"type"} and (name != "cache_control" or kind in _UNMARKED):
            raise refused(f"{where}.{kind}.{name}: Extra inputs are not permitted")
    check_mark(f"{where}.{kind}", block.get("cache_control"))
    _CHECKS[kind](where, block)


def _text(where: str, block: Block) -> None:
    if not isinstance(block.get("text"), str):
        raise refused(f"{where}.text.text: Input should be a valid string")
    if not block["text"].strip():
        raise refused(f"{where}: text content blocks must contain non-whitespace text")


def _image(where: str, block: Block) -> None:
    source = _source(f"{where}.image", block)
    if source["type"] == "base64":
        if source.get("media_type") not in _IMAGES:
            raise refused(
                f"{where}.image.source.base64.media_type: Input should be one of {', '.join(sorted(_IMAGES))}"
            )
        _encoded(f"{where}.image", source)
    elif source["type"] != "url":
        raise refused(f"{where}.image.source: Input tag '{source['type']}' does not match any of the expected tags")


def _document(where: str, block: Block) -> None:
    source = _source(f"{where}.document", block)
    match source["type"], source.get("media_type"):
        case "base64", "application/pdf":
            _encoded(f"{where}.document", source)
        case "text", "text/plain":
            _required(f"{where}.document.source.text", source, "data")
        case "content", None:
            blocks(f"{where}.document.source.content.content", source.get("content"), "tool_result")
        case "url", None:
            pass
        case kind, media_type:
            raise refused(f"{where}.document.source: {kind} of {media_type} does not match any of the expected tags")


def _source(where: str, block: Block) -> Block:
    source = block.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise refused(f"{where}.source: Field required")
    wanted = {"url": {"url"}, "content": {"content"}}.get(source["type"], {"media_type", "data"})
    for name in source:
        if name not in wanted | {"type"}:
            raise refused(f"{where}.source.{source['type']}.{name}: Extra inputs are not permitted")
    if source["type"] == "url" and not str(source.get("url")).startswith(("https://", "http://")):
        raise refused(f"{where}.source.url.url: Input should be a valid URL")
    return source


def _encoded(where: str, source: Block) -> None:
    try:
        data = base64.b64decode(source.get("data") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        data = b""
    if not data:
        raise refused(f"{where}.source.base64.data: Input should be valid base64 that is not empty")


def _tool_use(where: str, block: Block) -> None:
    for name in ("id", "name"):
        _required(f"{where}.tool_use", block, name)
    if not isinstance(block.get("input"), dict):
        raise refused(f"{where}.tool_use.input: Input should be a valid dictionary")


def _tool_result(where: str, block: Block) -> None:
    _required(f"{where}.tool_result", block, "tool_use_id")
    if not isinstance(block.get("is_error", False), bool):
        raise refused(f"{where}.tool_result.is_error: Input should be a valid boolean")
    content = block.get("content")
    # What a tool says may be empty, unlike a text of the user.
    if content and not isinstance(content, str):
        blocks(f"{where}.tool_result.content", content, "tool_result")


def _thinking(where: str, block: Block) -> None:
    if not isinstance(block.get("thinking"), str):
        raise refused(f"{where}.thinking.thinking: Field required")
    _required(f"{where}.thinking", block, "signature")


def _redacted(where: str, block: Block) -> None:
    _required(f"{where}.redacted_thinking", block, "data")


def _required(where: str, block: Block, name: str) -> None:
    if not isinstance(block.get(name), str) or not block[name]:
        raise refused(f"{where}.{name}: Field required")


_CHECKS: dict[str, Callable[[str, Block], None]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
}
