"""Which of Vertex's paths the proxy serves, and what they name. Pure.

The raw path decides and is never rewritten: what is recognised here goes to Vertex exactly as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

# Segments are matched as narrowly as Google names things: the location becomes part of a host name, and nothing that
# a server could read as another path ("..", "%2f", ";") fits in.
_PROJECT = (
    r"/(?:v1|v1beta1)"
    r"/projects/[A-Za-z0-9](?:[A-Za-z0-9._:-]|%3[Aa])*"
    r"/locations/(?P<location>[a-z]+(?:-[a-z0-9]+)*)"
)
_MODEL_PATH = re.compile(
    _PROJECT + r"/publishers/(?P<publisher>mistralai|google|anthropic)"
    r"/models/(?P<model>[A-Za-z0-9][A-Za-z0-9._-]*(?:(?:@|%40)[A-Za-z0-9._-]+)?)"
    r"(?::|%3[Aa])(?P<method>[A-Za-z]{1,40})",
    re.ASCII,
)
_OPENAPI_PATH = re.compile(_PROJECT + r"/endpoints/openapi/chat/completions", re.ASCII)
_LONGEST_LOCATION = 40
_LONGEST_MODEL = 100


class Wire(StrEnum):
    """The formats that Vertex speaks, by the paths at which it speaks them."""

    CODESTRAL = "codestral"
    GECKO = "gecko"
    GEMINI = "gemini"
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    OPAQUE = "opaque"
    """What only Vertex can answer: embeddings, counts of tokens."""


_METHODS = {
    ("mistralai", "rawPredict"): Wire.CODESTRAL,
    ("mistralai", "streamRawPredict"): Wire.CODESTRAL,
    ("anthropic", "rawPredict"): Wire.ANTHROPIC,
    ("anthropic", "streamRawPredict"): Wire.ANTHROPIC,
    ("google", "predict"): Wire.OPAQUE,
    ("google", "generateContent"): Wire.GEMINI,
    ("google", "streamGenerateContent"): Wire.GEMINI,
    ("google", "countTokens"): Wire.OPAQUE,
    ("google", "computeTokens"): Wire.OPAQUE,
    ("google", "embedContent"): Wire.OPAQUE,
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path names. `model` is unescaped: `codestral@2405` however it was spelled; "" where the body names it."""

    location: str
    model: str
    wire: Wire
    streaming_method: bool
    events: bool = False
    """The query asks for server-sent events (`alt=sse`)."""


def parse(raw_target: str) -> Route | None:
    """The route that a raw request target (path and query) names, or None if it is none of the served ones."""
    path, _, query = raw_target.partition("?")
    if (found := _OPENAPI_PATH.fullmatch(path)) is not None:
        return Route(found["location"], "", Wire.OPENAI, streaming_method=False) if _fits(found["location"]) else None
    found = _MODEL_PATH.fullmatch(path)
    if found is None or not _fits(found["location"], found["model"]):
        return None
    wire = _METHODS.get((found["publisher"], found["method"]))
    if wire is None:
        return None
    model = unquote(found["model"])
    if model.startswith("code-gecko") and found["method"] == "predict":
        wire = Wire.GECKO
    elif wire is Wire.ANTHROPIC and model == "count-tokens":
        wire = Wire.OPAQUE
    streams = found["method"].startswith("stream")
    return Route(found["location"], model, wire, streams, events=streams and bool(query) and _asks_for_events(query))


def _fits(location: str, model: str = "") -> bool:
    return len(location) <= _LONGEST_LOCATION and len(model) <= _LONGEST_MODEL


def _asks_for_events(query: str) -> bool:
    """`alt=sse`, or `$alt`, whose value may have options (`json;enum-encoding=int`)."""
    return any(
        name.lstrip("$") == "alt" and value.partition(";")[0].lower() == "sse"
        for name, value in parse_qsl(query, keep_blank_values=True)
    )


def model_path(project: str, location: str, publisher: str, model: str, method: str = "rawPredict") -> str:
    """The path of a completion by a model."""
    return f"/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}:{method}"


_BODY_NAMES = {"codestral@2405": "codestral", "codestral-2405": "codestral"}


def body_name(model: str) -> str:
    """What a Mistral model of a path is called in the body: spellings of 2405 are versions of one name there."""
    return _BODY_NAMES.get(model, model)
