"""Providers of flags that tests name in COMPLETION_PROXY_OPENFEATURE_PROVIDER: well, and in every way not."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.provider.metadata import Metadata

FLAG = "completion_proxy_upstream"
contexts: list[EvaluationContext] = []
let_go = threading.Event()
ended = threading.Event()
cancelled = threading.Event()


def _for_ann(flag: InMemoryFlag[str], context: EvaluationContext) -> FlagResolutionDetails[str]:
    contexts.append(context)
    attributes = context.attributes
    to_claude = attributes.get("actor") == "ann" and attributes.get("model") == "codestral-2"
    return FlagResolutionDetails(value=flag.variants["claude" if to_claude else "auto"])


def in_memory() -> InMemoryProvider:
    """Ann's completions of codestral-2 go to Claude."""
    variants = {mode: mode for mode in ("auto", "vertex", "claude")}
    return InMemoryProvider({FLAG: InMemoryFlag("auto", variants, context_evaluator=_for_ann)})


def always(value: str) -> InMemoryProvider:
    """The same for everybody."""
    return InMemoryProvider({FLAG: InMemoryFlag("only", {"only": value})})


def to_claude() -> InMemoryProvider:
    """Everybody to Claude."""
    return always("claude")


def invalid() -> InMemoryProvider:
    """A value that is none."""
    return always("gemini")


def without_the_flag() -> InMemoryProvider:
    """Nobody has made the flag yet."""
    return InMemoryProvider({})


class _Provider(AbstractProvider):
    def get_metadata(self) -> Metadata:
        return Metadata("test")

    def _no(self, *_: Any) -> Any:
        raise NotImplementedError

    resolve_boolean_details = resolve_integer_details = resolve_float_details = resolve_object_details = _no  # type: ignore[assignment]


class Synchronous(_Provider):
    """Has no async methods of its own; says claude."""

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return FlagResolutionDetails("claude")

    def shutdown(self) -> None:
        ended.set()


class Failing(Synchronous):
    """Raises."""

    def resolve_string_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[str]:
        raise RuntimeError("the flags' service is down")


class Hanging(Synchronous):
    """Blocks its thread until it is let go."""

    def resolve_string_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[str]:
        let_go.wait(20)
        return FlagResolutionDetails("claude")


class SlowOnTheLoop(Synchronous):
    """Async, and takes a second."""

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return FlagResolutionDetails("claude")


class NeverReady(Synchronous):
    """Its initialization does not end until it is let go."""

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        let_go.wait(20)


def stuck() -> InMemoryProvider:
    """Is not made until it is let go."""
    let_go.wait(20)
    return to_claude()


def stuck_and_broken() -> Any:
    """Nor can it be."""
    let_go.wait(20)
    raise RuntimeError("no configuration")


def broken() -> Any:
    """Cannot be made."""
    raise RuntimeError("no configuration")


def nothing() -> object:
    """Is no provider."""
    return object()
