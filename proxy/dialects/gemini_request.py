"""A request to Gemini, understood. Pure.

Google's front ends read JSON into protobuf messages: each field in snake_case or in lowerCamelCase, a number as a text,
an enum by its number, and one value where a list is wanted (https://protobuf.dev/programming-guides/json). Errors name
a field as the request spells it, with the way to it: `contents[0].parts[1].inlineData`.
"""

from __future__ import annotations

from typing import Any

from proxy.dialects.base import Chat, Completion, InvalidRequest, Message
from proxy.dialects.requests import JSON_ONLY, MOST_CHOICES, count, encode, json_object, number, stops, typed

_ENUM_ONLY = "Answer with exactly one of the values that the JSON schema allows, without quotes, and with nothing else."
_SCHEMA_TYPES = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
"""The names of google.cloud.aiplatform.v1.Type, by their numbers."""
_ROLES = {"": "user", "user": "user", "model": "assistant"}
_ABOUT_TEXT = frozenset({"text", "thought", "thoughtSignature", "thought_signature"})
"""What a part may hold that is no data of another kind."""
_NO_CALLS = ("NONE", 3)
"""The mode of function calling in which none may be called, by name and by number."""


def completion(body: bytes, *, model: str, stream: bool) -> Completion:
    """What a body of `generateContent` asks for; what it tunes or labels otherwise is passed over.

    Raises InvalidRequest that names the field.
    """
    request = _Fields(json_object(body))
    request.refuse("cachedContent")
    _refuse_tools(request)
    config = request.inner("generationConfig")
    for name in ("responseLogprobs", "logprobs"):
        config.refuse(name)
    _refuse_modalities(config)
    instructions = [_instruction(config), _system_text(request)]
    system = tuple(Message("system", text) for text in instructions if text.strip())
    turns = tuple(message for message in _turns(request) if message.text.strip())
    if not turns:
        raise InvalidRequest("contents", "there is no content with text")
    asked = Completion(
        task=Chat(system + turns),
        model=model,
        stream=stream,
        max_tokens=count(*config.numeric("maxOutputTokens")),
        temperature=number(*config.numeric("temperature")),
        top_p=number(*config.numeric("topP"), at_most=1),
        stops=stops(*config.named("stopSequences")),
    )
    return asked.times(_candidates(config, stream=stream))


class _Fields:
    """An object of the request, its fields by their names in lowerCamelCase, however the request spells them."""

    def __init__(self, values: dict[str, Any], where: str = "") -> None:
        """`where` is the way to the object, with the dot behind it."""
        self._values = {where + name: value for name, value in values.items()}
        self._where = where

    def named(self, name: str) -> tuple[dict[str, Any], str]:
        """All values by the way to them, and the way to this one."""
        spellings = [self._where + name, self._where + _snake(name)]
        given = (spelling for spelling in spellings if self._values.get(spelling) is not None)
        return self._values, next(given, spellings[0])

    def numeric(self, name: str) -> tuple[dict[str, Any], str]:
        """As `named`, where a number may be given as a text."""
        values, field = self.named(name)
        value = values.get(field)
        if isinstance(value, str):
            try:
                return {field: float(value)}, field
            except ValueError:
                pass
        return values, field

    def get(self, name: str) -> Any:
        """The value; None where there is none."""
        values, field = self.named(name)
        return values.get(field)

    def inner(self, name: str) -> _Fields:
        """The object that this field holds; an empty one where it is missing."""
        values, field = self.named(name)
        return _Fields(typed(values, field, dict, "an object") or {}, f"{field}.")

    def each(self, name: str) -> list[tuple[Any, str]]:
        """The values of a list, and the way to each; one value stands for a list of it."""
        values, field = self.named(name)
        value = values.get(field)
        given = [] if value is None else value if isinstance(value, list) else [value]
        return [(each, f"{field}[{at}]") for at, each in enumerate(given)]

    def refuse(self, name: str) -> None:
        """Raise InvalidRequest where the field holds anything."""
        values, field = self.named(name)
        if values.get(field):
            raise InvalidRequest(field, f"{field} cannot be answered by the backup")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _refuse_tools(request: _Fields) -> None:
    mode = request.inner("toolConfig").inner("functionCallingConfig").get("mode")
    for tool, where in request.each("tools"):
        if tool and mode not in _NO_CALLS:
            raise InvalidRequest(where.partition("[")[0], "tools cannot be answered by the backup")


def _candidates(config: _Fields, *, stream: bool) -> int:
    values, field = config.numeric("candidateCount")
    candidates = count(values, field) or 1
    if candidates > 1 and stream:
        raise InvalidRequest(field, "more than one candidate in a stream cannot be answered by the backup")
    if candidates > MOST_CHOICES:
        raise InvalidRequest(field, f"more than {MOST_CHOICES} candidates cannot be answered by the backup")
    return candidates


def _refuse_modalities(config: _Fields) -> None:
    # 0 and 1 are the numbers of the first two.
    for modality, where in config.each("responseModalities"):
        if modality not in ("MODALITY_UNSPECIFIED", "TEXT", 0, 1):
            raise InvalidRequest(where.partition("[")[0], f"{modality!r:.40} cannot be answered by the backup")


def _instruction(config: _Fields) -> str:
    """What is asked of the answer's form, in words; Claude is not told it otherwise."""
    values, field = config.named("responseMimeType")
    kind = typed(values, field, str, "a string") or "text/plain"
    schema = _schema(config, "responseSchema") or _schema(config, "responseJsonSchema")
    described = f" It fits this JSON schema:\n{schema}" if schema else ""
    if kind == "application/json":
        return JSON_ONLY + described
    if kind == "text/x.enum":
        return _ENUM_ONLY + described
    if kind != "text/plain":
        raise InvalidRequest(field, f"{kind!r:.40} cannot be answered by the backup")
    return ""


def _schema(config: _Fields, name: str) -> str:
    """A schema as JSON; "" for none."""
    values, field = config.named(name)
    if not values.get(field):
        return ""
    try:
        return encode(_named_types(values[field]))
    except RecursionError as error:
        raise InvalidRequest(field, f"{field} is nested too deeply") from error


def _named_types(schema: Any) -> Any:
    """The schema with its types by their names, which google-cloud-aiplatform sends as numbers."""
    if isinstance(schema, list):
        return [_named_types(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    named = {name: _named_types(value) for name, value in schema.items()}
    if type(number := named.get("type")) is int and 0 <= number < len(_SCHEMA_TYPES):
        named["type"] = _SCHEMA_TYPES[number]
    return named


def _system_text(request: _Fields) -> str:
    """The instruction's parts are paragraphs, as Content's documentation has it for this field."""
    return "\n\n".join(_texts(request.inner("systemInstruction")))


def _turns(request: _Fields) -> list[Message]:
    turns = []
    for content, where in request.each("contents"):
        if not isinstance(content, dict):
            raise InvalidRequest(where, f"{where} is not an object")
        fields = _Fields(content, f"{where}.")
        values, field = fields.named("role")
        role = typed(values, field, str, "a string") or ""
        if role not in _ROLES:
            raise InvalidRequest(field, f"the role {role!r:.40} is unknown")
        turns.append(Message(_ROLES[role], "".join(_texts(fields))))  # type: ignore[arg-type]
    return turns


def _texts(content: _Fields) -> list[str]:
    """The texts of a content's parts, without what a model only thought."""
    texts = []
    for part, where in content.each("parts"):
        if not isinstance(part, dict):
            raise InvalidRequest(where, f"{where} is not an object")
        text = part.get("text")
        if text is None:
            data = [name for name, value in part.items() if name not in _ABOUT_TEXT and value is not None]
            if data:
                raise InvalidRequest(f"{where}.{data[0]}", f"{data[0]:.40} cannot be answered by the backup")
            # The signature of a thought alone.
            continue
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}.text", f"{where}.text is not a string")
        if not part.get("thought"):
            texts.append(text)
    return texts
