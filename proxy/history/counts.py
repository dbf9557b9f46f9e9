"""What requests have come to, a model at a time: counted all the time, so that an incident need only subtract."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from health.circuits import OVERFLOW
from proxy import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.events import Event

_MODELS_KEPT = 64
"""Names of models are callers' words; those beyond it are counted together, as their circuits are."""


class Counts:
    """Told every event but losses."""

    def __init__(self, primary: str) -> None:
        self._primary = primary
        self._by_model: dict[str, Counter[str]] = {}

    def __call__(self, event: Event) -> None:
        """Count what an event says of a request."""
        match event:
            case events.RequestEnded(upstream=upstream, model=model):
                if upstream not in (self._primary, events.NO_UPSTREAM):
                    self._of(model)["served_by_backup"] += 1
            case events.FailedOver(model=model):
                self._of(model)["repaired"] += 1
            case events.TokensUsed(upstream=upstream, usage=usage, model=model) if upstream != self._primary:
                counter = self._of(model)
                counter["input_tokens"] += usage.input_tokens
                counter["output_tokens"] += usage.output_tokens

    def lost(self, model: str) -> None:
        """Count a request that nobody could serve: told apart, for an incident may begin with it."""
        self._of(model)["lost"] += 1

    def name(self, model: str) -> str:
        """The name under which `model` is counted."""
        return model if model in self._by_model or len(self._by_model) < _MODELS_KEPT else OVERFLOW

    def _of(self, model: str) -> Counter[str]:
        return self._by_model.setdefault(self.name(model), Counter())

    def until_now(self, model: str) -> Counter[str]:
        """What has been counted for `model`, to be taken for `before` one day."""
        return Counter(self._of(model))

    def since(self, before: Mapping[str, Counter[str]]) -> Counter[str]:
        """What has been counted for the models of `before` since it was taken, together."""
        total: Counter[str] = Counter()
        for model, counted in before.items():
            total += self._of(model) - counted
        return total
