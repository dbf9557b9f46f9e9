"""Which dialect a request speaks: by its path, and for Google's envelope by how its body begins. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from proxy.dialects.anthropic_vertex import AnthropicVertex
from proxy.dialects.base import Framing
from proxy.dialects.codestral import Codestral
from proxy.dialects.envelope import Envelope, is_enveloped
from proxy.dialects.gecko import Gecko
from proxy.dialects.gemini import Gemini
from proxy.dialects.opaque import Opaque
from proxy.dialects.openai import OpenAI
from proxy.paths import Wire

if TYPE_CHECKING:
    from proxy.dialects.base import Dialect
    from proxy.paths import Route

_LONGEST_MODEL = 100
UNNAMED_MODEL = "openapi"
"""The model of a request whose body names none that can be read."""

_DIALECTS: dict[Wire, Dialect] = {
    Wire.CODESTRAL: Codestral(),
    Wire.GECKO: Gecko(),
    Wire.GEMINI: Gemini(Framing.ARRAY),
    Wire.ANTHROPIC: AnthropicVertex(),
    Wire.OPENAI: OpenAI(),
    Wire.OPAQUE: Opaque(),
}
_GEMINI_EVENTS = Gemini(Framing.EVENTS)
_ENVELOPED: dict[Wire, Dialect] = {wire: Envelope(_DIALECTS[wire]) for wire in (Wire.CODESTRAL, Wire.ANTHROPIC)}


def dialect_of(route: Route, body: bytes = b"") -> Dialect:
    """The dialect of a request; one object for all requests of a kind."""
    if route.wire in _ENVELOPED and is_enveloped(body):
        return _ENVELOPED[route.wire]
    return _GEMINI_EVENTS if route.events and route.wire is Wire.GEMINI else _DIALECTS[route.wire]


def model_in(body: bytes) -> str:
    """The model that a body names, for a path that names none."""
    try:
        model = json.loads(body)["model"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return UNNAMED_MODEL
    fits = isinstance(model, str) and 0 < len(model) <= _LONGEST_MODEL and model.isascii() and model.isprintable()
    return model if fits else UNNAMED_MODEL
