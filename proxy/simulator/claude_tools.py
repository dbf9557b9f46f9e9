"""What the Messages API takes for `tools` and `tool_choice`, and which tool the model then uses.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .claude_blocks import check_mark
from .claude_errors import refused

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_CUSTOM = frozenset(
    {
        "type",
        "name",
        "description",
        "input_schema",
        "cache_control",
        "strict",
        "input_examples",
        "defer_loading",
        "allowed_callers",
        "eager_input_streaming",
    }
)
_SERVER = re.compile(r"[a-z_]+_20\d{6}")
"""The types of the tools that Anthropic defines, as web_search_20250305; they have fields of their own."""
_CHOICES = {
    "auto": frozenset({"type", "disable_parallel_tool_use"}),
    "any": frozenset({"type", "disable_parallel_tool_use"}),
    "tool": frozenset({"type", "name", "disable_parallel_tool_use"}),
    "none": frozenset({"type"}),
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may use."""

    name: str
    parameters: Mapping[str, Any]
    """Its JSON Schema."""


def used_tool(body: dict[str, Any]) -> Tool | None:
    """The tool that must be used by the request's `tool_choice`, if any must. Raises Rejected."""
    tools = _tools(body.get("tools"))
    choice = body.get("tool_choice")
    if choice is None:
        return None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise refused("tool_choice: Input tag must be one of 'auto', 'any', 'tool', 'none'")
    for name in choice:
        if name not in _CHOICES[kind]:
            raise refused(f"tool_choice.{kind}.{name}: Extra inputs are not permitted")
    if not isinstance(choice.get("disable_parallel_tool_use", False), bool):
        raise refused(f"tool_choice.{kind}.disable_parallel_tool_use: Input should be a valid boolean")
    if not tools:
        raise refused("tool_choice may only be specified while providing tools.")
    forces = kind in ("any", "tool")
    if forces and (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        raise refused("Thinking may not be enabled when tool_choice forces tool use.")
    if kind == "tool":
        return _named(choice.get("name"), tools)
    return tools[0] if forces else None


def _named(name: Any, tools: list[Tool]) -> Tool:
    if not isinstance(name, str):
        raise refused("tool_choice.tool.name: Field required")
    for tool in tools:
        if tool.name == name:
            return tool
    raise refused(f"Tool '{name}' not found in provided tools")


def _tools(value: Any) -> list[Tool]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise refused("tools: Input should be a valid list")
    tools = [_tool(f"tools.{index}", each) for index, each in enumerate(value)]
    if len({tool.name for tool in tools}) < len(tools):
        raise refused("tools: Tool names must be unique.")
    return tools


def _tool(where: str, value: Any) -> Tool:
    if not isinstance(value, dict):
        raise refused(f"{where}: Input should be an object")
    kind, name = value.get("type", "custom"), value.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refused(f"{where}.{kind}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if isinstance(kind, str) and _SERVER.fullmatch(kind):
        return Tool(name, {})
    if kind != "custom":
        raise refused(f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    for field in value:
        if field not in _CUSTOM:
            raise refused(f"{where}.custom.{field}: Extra inputs are not permitted")
    check_mark(f"{where}.custom", value.get("cache_control"))
    if not isinstance(value.get("description", ""), str):
        raise refused(f"{where}.custom.description: Input should be a valid string")
    if "input_schema" not in value:
        raise refused(f"{where}.custom.input_schema: Field required")
    schema = value["input_schema"]
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise refused(f"{where}.custom.input_schema.type: Input should be 'object'")
    return Tool(name, schema)
