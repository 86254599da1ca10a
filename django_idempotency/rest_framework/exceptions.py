"""Refusals as APIExceptions, so that a project's own exception handler shapes them like all others."""

from __future__ import annotations

from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.conf import conf
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.http import Problem, problem_of


class IdempotencyAPIException(APIException):
    """A refusal of this package inside DRF: ``status_code``, ``wait`` (seconds) and a stable code.

    ``detail`` is the sentence with its code, as in all of DRF's own: handlers of others take it apart.
    """

    def __init__(self, error: IdempotencyError) -> None:
        super().__init__(error.detail, error.code)
        self.problem: Problem = problem_of(error)
        self.status_code = self.problem.status
        if self.problem.retry_after is not None:
            self.wait = self.problem.retry_after


def as_problem(exception: IdempotencyAPIException, response: Response, request: Request) -> Response:
    """Add hints and links to what the exception handler made of a refusal, and complete the body if it is DRF's.

    A body with DRF's own ``detail`` gets the members of the problem details beside it. It is named
    ``application/problem+json`` only if nothing else is in it and JSON is rendered.
    """
    response.idempotency_problem = exception.problem  # type: ignore[attr-defined]
    for name, value in exception.problem.headers.items():
        response.headers[name] = value
    if exception.problem.retry_after is not None:
        response.headers.setdefault("Retry-After", str(exception.problem.retry_after))
    data = getattr(response, "data", None)
    if not isinstance(data, dict) or data.get("detail") != exception.detail:
        return response
    response.data = {**exception.problem.members, **data}
    untouched = len(data) == 1 and request.accepted_renderer.media_type == "application/json"
    if untouched and conf.ERROR_FORMAT == "problem":
        response.content_type = "application/problem+json"
    return response
