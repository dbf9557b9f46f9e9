"""Anthropic's errors: whose fault each is."""

from __future__ import annotations

import json

import pytest

from health.outcome import FailureReason, OutcomeKind
from proxy.dialects import messages


def error(kind: str | None, message: str = "", code: str | None = None) -> bytes:
    inner = {"type": kind, "message": message, "details": {"error_code": code} if code else None}
    return json.dumps({"type": "error", "error": inner, "request_id": "r"}).encode()


class TestError:
    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (400, error("invalid_request_error"), FailureReason.REJECTED),
            (400, error("billing_error"), FailureReason.BILLING),
            (400, error("invalid_request_error", "Your credit balance is too low. […]"), FailureReason.BILLING),
            (400, error("invalid_request_error", "See Plans & Billing."), FailureReason.BILLING),
            (401, error("authentication_error"), FailureReason.UNAUTHORIZED),
            (402, error("billing_error"), FailureReason.BILLING),
            (403, error("permission_error"), FailureReason.FORBIDDEN),
            (404, error("not_found_error"), FailureReason.NOT_FOUND),
            (408, b"", FailureReason.SERVER_ERROR),
            (413, b"<html>", FailureReason.REJECTED),
            (422, b"", FailureReason.REJECTED),
            (429, error("rate_limit_error", "Limits: see your billing page."), FailureReason.THROTTLED),
            (429, error("rate_limit_error", code="enforced_spend_limit_reached"), FailureReason.BILLING),
            (429, error("rate_limit_error", code="ramp_limit_exceeded"), FailureReason.THROTTLED),
            (500, error("api_error"), FailureReason.SERVER_ERROR),
            (502, b"", FailureReason.SERVER_ERROR),
            (503, b"", FailureReason.SERVER_ERROR),
            (504, error("timeout_error"), FailureReason.SERVER_ERROR),
            (529, error("overloaded_error"), FailureReason.THROTTLED),
            (302, b"", FailureReason.SERVER_ERROR),
            (418, b"", FailureReason.SERVER_ERROR),
            (400, b'{"error": {"message": null, "details": {"error_code": []}}}', FailureReason.REJECTED),
            (429, b"\xff", FailureReason.THROTTLED),
        ],
    )
    def test_the_wrong_one_is_blamed(self, status: int, body: bytes, reason: FailureReason) -> None:
        assert messages.read_error(status, {}, body).reason is reason

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("3", 3.0), ("0.5", 0.5), ("soon", None), ("", None), ("-1", None), ("inf", None), ("nan", None)],
    )
    def test_the_wait_is_not_kept(self, value: str, seconds: float | None) -> None:
        for header in ("retry-after", "Retry-After"):
            outcome = messages.read_error(429, {header: value}, b"")
            assert (outcome.kind, outcome.retry_after) == (OutcomeKind.THROTTLED, seconds)

    def test_a_spent_budget_is_waited_for(self) -> None:
        outcome = messages.read_error(
            429, {"retry-after": "3"}, error("rate_limit_error", code="enforced_spend_limit_reached")
        )
        assert (outcome.kind, outcome.retry_after) == (OutcomeKind.MISCONFIGURED, None)

    @pytest.mark.parametrize(
        ("body", "kind"),
        [(error("api_error"), "api_error"), (b"x", None), (b'{"error": "x"}', None), (error(None), None)],
    )
    def test_the_operator_is_not_told_the_name(self, body: bytes, kind: str | None) -> None:
        assert messages.error_type(body) == kind
