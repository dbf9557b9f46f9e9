"""What Gemini refuses in a request that is well-formed, and what it understands of one that it takes.

Pure. As documented for the 2.0 and 2.5 models in November 2026, in the words of the service.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .gemini_schema import COUNT, GENERATE, PART_DATA
from .vertex_errors import invalid_argument
from .vertex_limits import Limits, within

MIME_TYPES = frozenset({"text/plain", "application/json", "text/x.enum"})
STOPS = 5
"""The most stop sequences."""

_LIMITS: Limits = {
    "temperature": (0, 2.0001),
    "topP": (0, 1.0001),
    "topK": (1, 65),
    "candidateCount": (1, 9),
    "logprobs": (1, 21),
    "presencePenalty": (-2, 2),
    "frequencyPenalty": (-2, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiModel:
    """What one model takes."""

    max_output: int
    budgets: tuple[int, int] | None
    """The least and the most of `thinkingBudget` where it is neither 0 nor -1; None where the model cannot think."""
    thinks_always: bool = False


MODELS: dict[str, GeminiModel] = {
    "gemini-2.0-flash": GeminiModel(max_output=8_192, budgets=None),
    "gemini-2.5-flash": GeminiModel(max_output=65_536, budgets=(1, 24_576)),
    "gemini-2.5-flash-lite": GeminiModel(max_output=65_536, budgets=(512, 24_576)),
    "gemini-2.5-pro": GeminiModel(max_output=65_536, budgets=(128, 32_768), thinks_always=True),
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call."""

    name: str
    parameters: Mapping[str, Any]
    """Its schema, Google's or JSON Schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiAsk:
    """A request that was understood."""

    text: str
    """Of the last message of the user."""
    question: str
    """All text of it."""
    stops: tuple[str, ...]
    max_tokens: int | None
    candidates: int
    function: Function | None
    """What is called in place of an answer."""
    logprobs: int | None
    """How many alternatives of each token are told; None for no log-probabilities at all."""


def understand(body: dict[str, Any], can: GeminiModel, *, streams: bool) -> GeminiAsk:
    """What the body of a `generateContent` asks for. Raises Rejected."""
    request = GENERATE(body, "")
    contents = _contents(request)
    config = request.get("generation_config", {})
    _configured(config, can)
    candidates = config.get("candidate_count", 1)
    if streams and candidates > 1:
        raise invalid_argument("Unable to submit request because streaming supports only one candidate.")
    return GeminiAsk(
        text=_text([content for content in contents if content.get("role") != "model"][-1:]),
        question=question(request),
        stops=tuple(config.get("stop_sequences", ())),
        max_tokens=config.get("max_output_tokens"),
        candidates=candidates,
        function=_function(request, contents),
        logprobs=config.get("logprobs", 0) if config.get("response_logprobs") else None,
    )


def counted(body: dict[str, Any]) -> str:
    """The text of which the tokens are counted, of the body of a `countTokens`. Raises Rejected."""
    request = COUNT(body, "")
    _contents(request)
    return question(request)


def question(request: dict[str, Any]) -> str:
    """All text that the model reads."""
    system = request.get("system_instruction")
    return _text(([system] if system else []) + request["contents"])


def _contents(request: dict[str, Any]) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = request.get("contents", [])
    if not contents:
        raise invalid_argument("Unable to submit request because at least one contents field is required.")
    for content in contents:
        # The role may be left out where there is but one turn.
        if content.get("role", "") not in ("user", "model") and (len(contents) > 1 or content.get("role")):
            raise invalid_argument("Please use a valid role: user, model.")
        _parts(content)
    system = request.get("system_instruction")
    if system is not None:
        _parts(system)
    _answered(contents)
    return contents


def _parts(content: dict[str, Any]) -> None:
    parts = content.get("parts", [])
    if not parts:
        raise invalid_argument(
            "Unable to submit request because it must include at least one parts field, which describes the prompt "
            "input."
        )
    for part in parts:
        if not part.keys() & PART_DATA:
            raise invalid_argument(
                "Unable to submit request because it must have a text parameter. Add a text parameter and try again."
            )
        if part.get("text") == "":
            raise invalid_argument(
                "Unable to submit request because it has an empty text parameter. Add a value to the parameter and "
                "try again."
            )


def _answered(contents: list[dict[str, Any]]) -> None:
    """Whether each function call of the model is answered in the next turn."""
    for content, following in itertools.pairwise(contents):
        calls = sum("function_call" in part for part in content["parts"])
        if calls and calls != sum("function_response" in part for part in following["parts"]):
            raise invalid_argument(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )


def _configured(config: dict[str, Any], can: GeminiModel) -> None:
    named = {name: config.get(_snake(name)) for name in _LIMITS}
    within(_LIMITS, named)
    within({"maxOutputTokens": (1, can.max_output + 1)}, {"maxOutputTokens": config.get("max_output_tokens")})
    if len(config.get("stop_sequences", ())) > STOPS:
        raise invalid_argument(
            f"Unable to submit request because it has {len(config['stop_sequences'])} stopSequences but at most "
            f"{STOPS} are supported."
        )
    if "logprobs" in config and not config.get("response_logprobs"):
        raise invalid_argument("Unable to submit request because logprobs is set and responseLogprobs is not.")
    mime_type = config.get("response_mime_type", "text/plain")
    if mime_type not in MIME_TYPES:
        raise invalid_argument(f"Unsupported response mime type: {mime_type}")
    if mime_type == "text/plain" and ("response_schema" in config or "response_json_schema" in config):
        raise invalid_argument("controlled generation is only supported with mime type: application/json, text/x.enum")
    _thinking(config.get("thinking_config", {}), can)


def _thinking(config: dict[str, Any], can: GeminiModel) -> None:
    budget = config.get("thinking_budget", -1)
    if config and can.budgets is None:
        raise invalid_argument("Unable to submit request because thinking is not supported by this model.")
    if budget == -1 or can.budgets is None or (budget == 0 and not can.thinks_always):
        return
    low, high = can.budgets
    if not low <= budget <= high:
        raise invalid_argument(
            f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}."
        )


def _function(request: dict[str, Any], contents: list[dict[str, Any]]) -> Function | None:
    """The first function that may be called, unless one was called already."""
    declared = [each for tool in request.get("tools", ()) for each in tool.get("function_declarations", ())]
    for each in declared:
        if not each.get("name"):
            raise invalid_argument("Unable to submit request because a function declaration has no name.")
    config = request.get("tool_config", {}).get("function_calling_config", {})
    allowed = config.get("allowed_function_names") or [each["name"] for each in declared]
    if any("function_response" in part for part in contents[-1]["parts"]) or config.get("mode") == "NONE":
        return None
    for each in declared:
        if each["name"] in allowed:
            return Function(each["name"], each.get("parameters") or each.get("parameters_json_schema") or {})
    return None


def _text(contents: Iterable[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for content in contents for part in content["parts"])


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
