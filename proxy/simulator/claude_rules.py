"""What the Messages API refuses in a request, and what it understands of one that it takes.

Pure. Strict on purpose: a wrong body is a 400 exactly when the backup is needed, and must be one in a test before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import model
from .claude_blocks import Block, Turn, blocks, check_mark, count_marks, follow, read_of, text_of
from .claude_errors import not_found, refused
from .claude_models import Capabilities
from .claude_tools import Tool, used_tool
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
COUNTED = frozenset(
    {"cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"}
)
"""The fields of a request to count tokens."""
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
    tool: Tool | None
    """What must be used in place of an answer."""
    input_tokens: int


def understand(body: Any, version: str, models: Mapping[str, Capabilities]) -> Ask:
    """What a body asks for under an API version. Raises Rejected."""
    if not isinstance(body, dict):
        raise refused("The request body is not a JSON object")
    for name in body:
        if name not in FIELDS:
            raise refused(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            raise refused(f"{name}: Field required")
    max_tokens = _max_tokens(body["max_tokens"])
    stops = _stops(body.get("stop_sequences"))
    turns = _turns(body["messages"])
    system = [] if body.get("system") is None else blocks("system", body["system"], "system")
    _plain_fields(body)
    tool = used_tool(body)
    _uses_of_tools(body, turns)
    _marks(body, system, turns)
    if not isinstance(body["model"], str) or not body["model"]:
        raise refused("model: Input should be a valid string")
    if body["model"] not in models:
        raise Rejected(not_found(f"model: {body['model']}"))
    can = models[body["model"]]
    _suits(body, can, version, turns[-1])
    read = [text_of(system), *(read_of(content) for _, content in turns)]
    if body.get("tools"):
        read.append(json.dumps(body["tools"]))
    return Ask(
        model=body["model"],
        max_tokens=max_tokens,
        stops=stops,
        stream=body.get("stream") or False,
        thinks=can.thinks((body.get("thinking") or {}).get("type")),
        text=[text_of(content) for role, content in turns if role == "user"][-1],
        prefill=text_of(turns[-1][1]) if turns[-1][0] == "assistant" else "",
        tool=tool,
        input_tokens=sum(map(model.tokens, read)),
    )


def count(body: Any, version: str, models: Mapping[str, Capabilities]) -> int:
    """How many tokens the model reads of a request without `max_tokens`. Raises Rejected."""
    if not isinstance(body, dict):
        raise refused("The request body is not a JSON object")
    for name in body:
        if name not in COUNTED:
            raise refused(f"{name}: Extra inputs are not permitted")
    can = models.get(str(body.get("model")))
    return understand({**body, "max_tokens": can.max_output if can else 1}, version, models).input_tokens


def _max_tokens(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise refused("max_tokens: Input should be a valid integer")
    if value < 1:
        raise refused("max_tokens: Input should be greater than or equal to 1")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
        raise refused("stop_sequences: Input should be a valid list of strings")
    if not all(stop.strip() for stop in value):
        raise refused("stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(value)


def _turns(value: Any) -> list[Turn]:
    if not isinstance(value, list):
        raise refused("messages: Input should be a valid list")
    if not value:
        raise refused("messages: at least one message is required")
    turns = [_turn(f"messages.{index}", message) for index, message in enumerate(value)]
    if turns[0][0] != "user":
        raise refused('messages: first message must use the "user" role')
    return turns


def _turn(where: str, message: Any) -> Turn:
    if not isinstance(message, dict):
        raise refused(f"{where}: Input should be an object")
    for name in message:
        if name not in ("role", "content"):
            raise refused(f"{where}.{name}: Extra inputs are not permitted")
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise refused(f'messages: Unexpected role "{role}". The allowed roles are "user" or "assistant".')
    return role, blocks(f"{where}.content", message.get("content"), role)


def _uses_of_tools(body: dict[str, Any], turns: list[Turn]) -> None:
    kinds = {block["type"] for _, content in turns for block in content}
    if kinds & {"tool_use", "tool_result"} and not body.get("tools"):
        raise refused("Requests which include `tool_use` or `tool_result` blocks must define tools")
    follow(turns)


def _marks(body: dict[str, Any], system: list[Block], turns: list[Turn]) -> None:
    check_mark("body", body.get("cache_control"))
    count_marks([body, *system, *(body.get("tools") or ()), *(block for _, content in turns for block in content)])


def _plain_fields(body: dict[str, Any]) -> None:
    if not isinstance(body.get("stream", False), bool):
        raise refused("stream: Input should be a valid boolean")
    metadata = body.get("metadata", {})
    if not isinstance(metadata, dict) or not metadata.keys() <= {"user_id"}:
        raise refused("metadata: Extra inputs are not permitted")
    for name in ("temperature", "top_p"):
        value = body.get(name, 1)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
            raise refused(f"{name}: Input should be a number from 0 to 1")
    top_k = body.get("top_k", 1)
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0:
        raise refused("top_k: Input should be an integer that is not negative")


def _suits(body: dict[str, Any], can: Capabilities, version: str, last: Turn) -> None:
    """Whether this model takes it. Raises Rejected."""
    if body["max_tokens"] > can.max_output:
        raise refused(
            f"max_tokens: {body['max_tokens']} > {can.max_output}, which is the maximum allowed number of output "
            f"tokens for {body['model']}"
        )
    if last[0] == "assistant":
        _prefill(can, text_of(last[1]))
    _sampling(body, can, version)
    _thinking(body, can)
    _output(body.get("output_config"), can)


def _prefill(can: Capabilities, text: str) -> None:
    if not can.prefill:
        raise refused(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if text != text.rstrip():
        raise refused("messages: final assistant content cannot end with trailing whitespace")


def _sampling(body: dict[str, Any], can: Capabilities, version: str) -> None:
    for name in SAMPLING:
        if name not in body:
            continue
        if version == VERSION_WITHOUT_SAMPLING:
            raise refused(f"{name}: Extra inputs are not permitted in version {version}")
        if can.sampling == "none":
            raise refused(f"`{name}` is not supported by this model.")
    if "temperature" in body and "top_p" in body:
        raise refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def _thinking(body: dict[str, Any], can: Capabilities) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    if not isinstance(thinking, dict) or not thinking.keys() <= {"type", "budget_tokens", "display"}:
        raise refused("thinking: Input should be an object with a type")
    kind = thinking.get("type")
    if kind not in can.thinking:
        raise refused(
            f'thinking.type: "{kind}" is not supported by this model; it takes {", ".join(sorted(can.thinking))}'
        )
    budget = thinking.get("budget_tokens")
    if kind != "enabled":
        if budget is not None:
            raise refused(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
        return
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < model.THINKING_TOKENS:
        raise refused(
            f"thinking.enabled.budget_tokens: Input should be greater than or equal to {model.THINKING_TOKENS}"
        )
    if budget >= body["max_tokens"]:
        raise refused("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _output(config: Any, can: Capabilities) -> None:
    if config is None:
        return
    if not isinstance(config, dict) or not config.keys() <= {"effort", "format"}:
        raise refused("output_config: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is None:
        return
    if not can.effort:
        raise refused("This model does not support the effort parameter.")
    if effort not in EFFORTS:
        raise refused(f"output_config.effort: Input should be one of {', '.join(sorted(EFFORTS))}")
