"""Refusals through DRF's exception handler, a project's own, and drf-standardized-errors: nothing of them is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from django_idempotency.exceptions import (
    FingerprintMismatch,
    IdempotencyError,
    InProgress,
    KeyInvalid,
    KeyMissing,
    OutcomeUnknown,
    ResultExpired,
    StoreUnavailable,
)
from django_idempotency.http import problem_of
from django_idempotency.rest_framework import guard

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

URL = "https://example.com/idempotency"
Shape = Callable[[Any], "tuple[str, str]"]

# Handler → how its answer gives the code and the sentence.
HANDLERS: dict[str, Shape] = {
    "rest_framework.views.exception_handler": lambda body: (body["code"], body["detail"]),
    "tests.views.adding_handler": lambda body: (body["code"], body["detail"]),
    "tests.views.own_handler": lambda body: (body["error"]["code"], body["error"]["message"]),
    "drf_standardized_errors.handler.exception_handler": lambda body: (
        body["errors"][0]["code"],
        body["errors"][0]["detail"],
    ),
}
ERRORS = [
    KeyMissing,
    KeyInvalid,
    InProgress,
    FingerprintMismatch,
    StoreUnavailable,
    OutcomeUnknown,
    ResultExpired,
]


@pytest.fixture(params=HANDLERS)
def shape(request: pytest.FixtureRequest, settings: Any) -> Shape:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": request.param}
    settings.IDEMPOTENCY = {"DOCUMENTATION_URL": URL}
    return HANDLERS[request.param]


def refused(monkeypatch: pytest.MonkeyPatch, error: type[IdempotencyError]) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(guard, "execute", refuse)
    client = Client(headers={"Idempotency-Key": "k"}, raise_request_exception=False)
    return client.post("/probe/create/", b"{}", content_type="application/json")


@pytest.mark.parametrize("error", ERRORS)
def test_status_code_sentence_and_headers_pass_every_handler(
    monkeypatch: pytest.MonkeyPatch, shape: Shape, error: type[IdempotencyError]
) -> None:
    problem = problem_of(error())
    response = refused(monkeypatch, error)
    assert response.status_code == problem.status
    assert shape(response.json()) == (error.code, error.default_detail)
    for name, value in problem.headers.items():
        assert response.headers[name] == value
    assert response.headers["Link"] == f'<{URL}>; rel="describedby"'
    assert response.headers.get("Retry-After") == (str(problem.retry_after) if problem.retry_after else None)


@pytest.mark.parametrize("error", ERRORS)
def test_problem_details_are_named_so_only_when_they_are(
    monkeypatch: pytest.MonkeyPatch, shape: Shape, error: type[IdempotencyError]
) -> None:
    media_type = refused(monkeypatch, error).headers["Content-Type"]
    ours = shape is HANDLERS["rest_framework.views.exception_handler"]
    assert media_type == ("application/problem+json" if ours else "application/json")


def test_view_s_own_errors_pass_every_handler_and_are_replayed_as_they_were(shape: Shape) -> None:
    client = Client(headers={"Idempotency-Key": "k"})
    first, retry = (client.post("/probe/invalid/", b"{}", content_type="application/json") for _ in range(2))
    assert (retry.status_code, retry.content) == (400, first.content)
    assert retry.headers["Idempotent-Replayed"] == "true"
