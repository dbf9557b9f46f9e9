"""What the Messages API refuses in a request, and what it understands of one that it takes.

Pure. Strict on purpose: a wrong body is a 400 exactly when the backup is needed, and must be one in a test before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import model
from .claude_errors import invalid, not_found
from .claude_models import Capabilities
from .reply import Rejected

FIELDS = frozenset(
    {
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
SAMPLING = ("temperature", "top_p", "top_k")
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
VERSION_WITHOUT_SAMPLING = "2026-10-21"
"""The version that takes no sampling parameters, and with which the key comes as a bearer token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that was understood."""

    model: str
    max_tokens: int
    stops: tuple[str, ...]
    stream: bool
    thinks: bool
    text: str
    """Of the last message of the user."""
    prefill: str
    """With what the answer has begun already, or nothing."""
    input_tokens: int


def understand(body: Any, version: str, models: Mapping[str, Capabilities]) -> Ask:
    """What a body asks for under an API version. Raises Rejected."""
    if not isinstance(body, dict):
        raise _refuse("The request body is not a JSON object")
    for name in body:
        if name not in FIELDS:
            raise _refuse(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            raise _refuse(f"{name}: Field required")
    max_tokens = _max_tokens(body["max_tokens"])
    stops = _stops(body.get("stop_sequences"))
    messages = _messages(body["messages"])
    system = _system(body.get("system"))
    _plain_fields(body)
    if not isinstance(body["model"], str) or not body["model"]:
        raise _refuse("model: Input should be a valid string")
    if body["model"] not in models:
        raise Rejected(not_found(f"model: {body['model']}"))
    can = models[body["model"]]
    _suits(body, can, version, messages)
    users = [text for role, text in messages if role == "user"]
    return Ask(
        model=body["model"],
        max_tokens=max_tokens,
        stops=stops,
        stream=body.get("stream") or False,
        thinks=can.thinks((body.get("thinking") or {}).get("type")),
        text=users[-1],
        prefill=messages[-1][1] if messages[-1][0] == "assistant" else "",
        input_tokens=model.tokens(system) + sum(model.tokens(text) for _, text in messages),
    )


def _refuse(message: str) -> Rejected:
    return Rejected(invalid(message))


def _max_tokens(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse("max_tokens: Input should be a valid integer")
    if value < 1:
        raise _refuse("max_tokens: Input should be greater than or equal to 1")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
        raise _refuse("stop_sequences: Input should be a valid list of strings")
    if not all(stop.strip() for stop in value):
        raise _refuse("stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(value)


def _messages(value: Any) -> list[tuple[str, str]]:
    """Role and text of each message."""
    if not isinstance(value, list):
        raise _refuse("messages: Input should be a valid list")
    if not value:
        raise _refuse("messages: at least one message is required")
    messages = [_message(index, message) for index, message in enumerate(value)]
    if messages[0][0] != "user":
        raise _refuse('messages: first message must use the "user" role')
    return messages


def _message(index: int, message: Any) -> tuple[str, str]:
    where = f"messages.{index}"
    if not isinstance(message, dict):
        raise _refuse(f"{where}: Input should be an object")
    for name in message:
        if name not in ("role", "content"):
            raise _refuse(f"{where}.{name}: Extra inputs are not permitted")
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise _refuse(f'messages: Unexpected role "{role}". The allowed roles are "user" or "assistant".')
    content = message.get("content")
    if isinstance(content, str):
        if not content.strip():
            raise _refuse(f"{where}: text content blocks must contain non-whitespace text")
        return role, content
    return role, _blocks(f"{where}.content", content)


def _blocks(where: str, blocks: Any) -> str:
    """The text of a list of text blocks; the simulated models read nothing else."""
    if not isinstance(blocks, list) or not blocks:
        raise _refuse(f"{where}: Input should be a valid string or a list that is not empty")
    for index, block in enumerate(blocks):
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise _refuse(f"{where}.{index}: Input should be a text block")
        if not block["text"].strip():
            raise _refuse(f"{where}.{index}: text content blocks must contain non-whitespace text")
        if not block.keys() <= {"type", "text", "cache_control", "citations"}:
            raise _refuse(f"{where}.{index}: Extra inputs are not permitted")
    return "".join(block["text"] for block in blocks)


def _system(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        if not value.strip():
            raise _refuse("system: text content blocks must contain non-whitespace text")
        return value
    return _blocks("system", value)


def _plain_fields(body: dict[str, Any]) -> None:
    if not isinstance(body.get("stream", False), bool):
        raise _refuse("stream: Input should be a valid boolean")
    metadata = body.get("metadata", {})
    if not isinstance(metadata, dict) or not metadata.keys() <= {"user_id"}:
        raise _refuse("metadata: Extra inputs are not permitted")
    for name in ("temperature", "top_p"):
        value = body.get(name, 1)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
            raise _refuse(f"{name}: Input should be a number from 0 to 1")
    top_k = body.get("top_k", 1)
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0:
        raise _refuse("top_k: Input should be an integer that is not negative")


def _suits(body: dict[str, Any], can: Capabilities, version: str, messages: list[tuple[str, str]]) -> None:
    """Whether this model takes it. Raises Rejected."""
    if body["max_tokens"] > can.max_output:
        raise _refuse(
            f"max_tokens: {body['max_tokens']} > {can.max_output}, which is the maximum allowed number of output "
            f"tokens for {body['model']}"
        )
    if messages[-1][0] == "assistant":
        _prefill(can, messages[-1][1])
    _sampling(body, can, version)
    _thinking(body, can)
    _output(body.get("output_config"), can)


def _prefill(can: Capabilities, text: str) -> None:
    if not can.prefill:
        raise _refuse(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if text != text.rstrip():
        raise _refuse("messages: final assistant content cannot end with trailing whitespace")


def _sampling(body: dict[str, Any], can: Capabilities, version: str) -> None:
    for name in SAMPLING:
        if name not in body:
            continue
        if version == VERSION_WITHOUT_SAMPLING:
            raise _refuse(f"{name}: Extra inputs are not permitted in version {version}")
        if can.sampling == "none":
            raise _refuse(f"`{name}` is not supported by this model.")
    if "temperature" in body and "top_p" in body:
        raise _refuse("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def _thinking(body: dict[str, Any], can: Capabilities) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    if not isinstance(thinking, dict) or not thinking.keys() <= {"type", "budget_tokens", "display"}:
        raise _refuse("thinking: Input should be an object with a type")
    kind = thinking.get("type")
    if kind not in can.thinking:
        raise _refuse(
            f'thinking.type: "{kind}" is not supported by this model; it takes {", ".join(sorted(can.thinking))}'
        )
    budget = thinking.get("budget_tokens")
    if kind != "enabled":
        if budget is not None:
            raise _refuse(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
        return
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < model.THINKING_TOKENS:
        raise _refuse(
            f"thinking.enabled.budget_tokens: Input should be greater than or equal to {model.THINKING_TOKENS}"
        )
    if budget >= body["max_tokens"]:
        raise _refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _output(config: Any, can: Capabilities) -> None:
    if config is None:
        return
    if not isinstance(config, dict) or not config.keys() <= {"effort", "format"}:
        raise _refuse("output_config: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is None:
        return
    if not can.effort:
        raise _refuse("This model does not support the effort parameter.")
    if effort not in EFFORTS:
        raise _refuse(f"output_config.effort: Input should be one of {', '.join(sorted(EFFORTS))}")
