"""The messages of a request to Gemini, as google.cloud.aiplatform.v1 has them. Tables alone."""

from __future__ import annotations

from typing import Any

from .protobuf_json import (
    Message,
    Reader,
    anything,
    binary,
    enumeration,
    flag,
    integer,
    mapping,
    real,
    repeated,
    struct,
    text,
)

_BLOB = Message("Blob", {"mime_type": text, "data": binary, "display_name": text})
_FILE = Message("FileData", {"mime_type": text, "file_uri": text, "display_name": text})
_CALL = Message(
    "FunctionCall",
    {"id": text, "name": text, "args": struct, "partial_args": repeated(anything), "will_continue": flag},
)
_RESPONSE = Message("FunctionResponse", {"id": text, "name": text, "response": struct, "parts": repeated(anything)})
PART_DATA = frozenset(
    {
        "text",
        "inline_data",
        "file_data",
        "function_call",
        "function_response",
        "executable_code",
        "code_execution_result",
    }
)
_PART = Message(
    "Part",
    {
        "text": text,
        "inline_data": _BLOB,
        "file_data": _FILE,
        "function_call": _CALL,
        "function_response": _RESPONSE,
        "executable_code": struct,
        "code_execution_result": struct,
        "thought": flag,
        "thought_signature": binary,
        "video_metadata": struct,
        "media_resolution": anything,
    },
    PART_DATA,
)
CONTENT = Message("Content", {"role": text, "parts": repeated(_PART)})


def _schema(value: Any, where: str) -> dict[str, Any]:
    # Named in its own table: a schema holds schemas.
    return _SCHEMA(value, where)


_TYPE = enumeration("Type", "TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_SCHEMA = Message(
    "Schema",
    {
        "type": _TYPE,
        "format": text,
        "title": text,
        "description": text,
        "nullable": flag,
        "default": anything,
        "items": _schema,
        "min_items": integer,
        "max_items": integer,
        "enum": repeated(text),
        "properties": mapping(_schema),
        "property_ordering": repeated(text),
        "required": repeated(text),
        "min_properties": integer,
        "max_properties": integer,
        "minimum": real,
        "maximum": real,
        "min_length": integer,
        "max_length": integer,
        "pattern": text,
        "example": anything,
        "any_of": repeated(_schema),
        "additional_properties": anything,
        "ref": text,
        "defs": mapping(_schema),
    },
)
_THINKING = Message(
    "ThinkingConfig",
    {
        "include_thoughts": flag,
        "thinking_budget": integer,
        "thinking_level": enumeration(
            "ThinkingLevel", "THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL"
        ),
    },
)
GENERATION_CONFIG = Message(
    "GenerationConfig",
    {
        "temperature": real,
        "top_p": real,
        "top_k": real,
        "candidate_count": integer,
        "max_output_tokens": integer,
        "stop_sequences": repeated(text),
        "response_logprobs": flag,
        "logprobs": integer,
        "presence_penalty": real,
        "frequency_penalty": real,
        "seed": integer,
        "response_mime_type": text,
        "response_schema": _schema,
        "response_json_schema": anything,
        "routing_config": struct,
        "audio_timestamp": flag,
        "response_modalities": repeated(enumeration("Modality", "MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO")),
        "media_resolution": anything,
        "speech_config": struct,
        "thinking_config": _THINKING,
        "image_config": struct,
    },
)
_SAFETY = Message(
    "SafetySetting",
    {
        "category": enumeration(
            "HarmCategory",
            "HARM_CATEGORY_UNSPECIFIED",
            "HARM_CATEGORY_HATE_SPEECH",
            "HARM_CATEGORY_DANGEROUS_CONTENT",
            "HARM_CATEGORY_HARASSMENT",
            "HARM_CATEGORY_SEXUALLY_EXPLICIT",
            "HARM_CATEGORY_CIVIC_INTEGRITY",
            "HARM_CATEGORY_JAILBREAK",
        ),
        "threshold": enumeration(
            "HarmBlockThreshold",
            "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
            "BLOCK_LOW_AND_ABOVE",
            "BLOCK_MEDIUM_AND_ABOVE",
            "BLOCK_ONLY_HIGH",
            "BLOCK_NONE",
            "OFF",
        ),
        "method": enumeration("HarmBlockMethod", "HARM_BLOCK_METHOD_UNSPECIFIED", "SEVERITY", "PROBABILITY"),
    },
)
_FUNCTION = Message(
    "FunctionDeclaration",
    {
        "name": text,
        "description": text,
        "parameters": _schema,
        "parameters_json_schema": struct,
        "response": _schema,
        "response_json_schema": struct,
    },
)
_TOOL = Message(
    "Tool",
    {
        "function_declarations": repeated(_FUNCTION),
        "retrieval": struct,
        "google_search": struct,
        "google_search_retrieval": struct,
        "google_maps": struct,
        "enterprise_web_search": struct,
        "code_execution": struct,
        "url_context": struct,
        "computer_use": struct,
    },
)
_TOOL_CONFIG = Message(
    "ToolConfig",
    {
        "function_calling_config": Message(
            "FunctionCallingConfig",
            {
                "mode": enumeration("Mode", "MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"),
                "allowed_function_names": repeated(text),
                "stream_function_call_arguments": flag,
            },
        ),
        "retrieval_config": struct,
    },
)
_COMMON: dict[str, Reader] = {
    "contents": repeated(CONTENT),
    "system_instruction": CONTENT,
    "tools": repeated(_TOOL),
    "generation_config": GENERATION_CONFIG,
}

GENERATE = Message(
    "GenerateContentRequest",
    {
        **_COMMON,
        "model": text,
        "cached_content": text,
        "tool_config": _TOOL_CONFIG,
        "labels": mapping(text),
        "safety_settings": repeated(_SAFETY),
        "model_armor_config": struct,
    },
)
COUNT = Message("CountTokensRequest", {**_COMMON, "model": text, "instances": repeated(anything)})
