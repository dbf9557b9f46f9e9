"""Which of Vertex's paths the proxy serves, and what they name. Pure.

The raw path decides and is never rewritten: what is recognised here goes to Vertex exactly as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

# Segments are matched as narrowly as Google names things: the location becomes part of a host name, and nothing that
# a server could read as another path ("..", "%2f", ";") fits in.
_MODEL_PATH = re.compile(
    r"/(?P<version>v1|v1beta1)"
    r"/projects/(?P<project>[A-Za-z0-9](?:[A-Za-z0-9._:-]|%3[Aa])*)"
    r"/locations/(?P<location>[a-z]+(?:-[a-z0-9]+)*)"
    r"/publishers/(?P<publisher>mistralai)"
    r"/models/(?P<model>[A-Za-z0-9][A-Za-z0-9._-]*(?:(?:@|%40)[A-Za-z0-9._-]+)?)"
    r"(?::|%3[Aa])(?P<method>rawPredict|streamRawPredict)",
    re.ASCII,
)
_LONGEST_LOCATION = 40
_LONGEST_MODEL = 100


@dataclass(frozen=True, slots=True)
class Route:
    """What a path names. `model` is unescaped: `codestral@2405` however it was spelled."""

    location: str
    model: str
    streaming_method: bool


def parse(raw_target: str) -> Route | None:
    """The route that a raw request target (path and query) names, or None if it is none of the served ones."""
    found = _MODEL_PATH.fullmatch(raw_target.partition("?")[0])
    if found is None or len(found["location"]) > _LONGEST_LOCATION or len(found["model"]) > _LONGEST_MODEL:
        return None
    return Route(found["location"], unquote(found["model"]), found["method"] == "streamRawPredict")


def model_path(project: str, location: str, publisher: str, model: str) -> str:
    """The path of one whole completion by a model, as the probes ask for it."""
    return f"/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}:rawPredict"
