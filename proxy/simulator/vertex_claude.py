"""Claude on Vertex AI: the Messages API without `model` in the body and with `anthropic_version` there.

What Google itself refuses it says in its own words (vertex.py); what is said here is the model's, in Anthropic's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import model
from .claude_errors import refused
from .claude_messages import compose, error_document, write
from .claude_models import MODELS, Capabilities
from .claude_rules import VERSION_WITHOUT_SAMPLING, count, understand
from .reply import ProviderError, Reply, compact, whole

COUNTER = "count-tokens"
"""The name in the URL that counts tokens in place of answering; the model's own is in the body."""
VERSIONS = ("vertex-2023-10-16", VERSION_WITHOUT_SAMPLING)

_DATED = re.compile(r"(?P<name>.+)-(?P<date>20\d{6})")


def on_vertex(name: str) -> str:
    """Anthropic's name of a model as Vertex spells it: with a date, it stands behind an `@`."""
    return _DATED.sub(r"\g<name>@\g<date>", name)


CLAUDE_MODELS: dict[str, Capabilities] = {
    on_vertex(name): can for name, can in MODELS.items() if _DATED.fullmatch(name) or "-4-5" not in name
}
"""What each model takes, by its name in the URL. Up to 4.5 there is none without a date."""


def answer(
    body: dict[str, Any],
    name: str,
    models: Mapping[str, Capabilities],
    author: model.Author,
    *,
    message_id: str,
    request_id: str,
) -> Reply:
    """What the model `name` of the URL answers; `stream` in the body decides how. Raises Rejected."""
    if "model" in body:
        raise refused("model: Extra inputs are not permitted")
    rest, version = _versioned(body)
    ask = understand({**rest, "model": name}, version, models)
    # The answer has Anthropic's name of the model.
    message = compose(replace(ask, model=name.replace("@", "-")), author, message_id=message_id)
    return write(message, {"request-id": request_id}, stream=ask.stream)


def count_tokens(body: dict[str, Any], models: Mapping[str, Capabilities], *, request_id: str) -> Reply:
    """How many tokens a request has whose model is named in the body, in either spelling. Raises Rejected."""
    rest, version = _versioned(body)
    name = rest.get("model")
    if isinstance(name, str):
        rest["model"] = on_vertex(name)
    document = {"input_tokens": count(rest, version, models)}
    return whole(200, compact(document), "application/json", {"request-id": request_id})


def refusal(error: ProviderError, request_id: str) -> Reply:
    """The model's own error, in Anthropic's shape."""
    document = error_document(error, request_id)
    return whole(error.status, compact(document), "application/json", {"request-id": request_id})


def _versioned(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The body without what only Vertex has in it, and the API's version. Raises Rejected."""
    if "anthropic_version" not in body:
        raise refused("anthropic_version: Field required")
    version = body["anthropic_version"]
    if version not in VERSIONS:
        raise refused(f"anthropic_version: Input should be one of {', '.join(map(repr, VERSIONS))}")
    betas = body.get("anthropic_beta") or []
    if not isinstance(betas, list) or not all(isinstance(beta, str) for beta in betas):
        raise refused("anthropic_beta: Input should be a valid list of strings")
    return {name: each for name, each in body.items() if name not in ("anthropic_version", "anthropic_beta")}, version
