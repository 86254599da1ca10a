"""Refusals as APIExceptions, so that a project's own exception handler shapes them like all others."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.conf import conf
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.http import Problem, problem_of


class IdempotencyAPIException(APIException):
    """A refusal of this package inside DRF: ``status_code``, ``wait`` (seconds) and a stable code."""

    def __init__(self, error: IdempotencyError) -> None:
        super().__init__(error.detail, error.code)
        self.problem: Problem = problem_of(error)
        self.status_code = self.problem.status
        self.code = error.code
        if self.problem.retry_after is not None:
            self.wait = self.problem.retry_after
        # Set late: APIException's constructor would turn every member into a string, the status too.
        self.detail = dict(self.problem.members)

    def get_codes(self) -> str:
        return self.code

    def get_full_details(self) -> Any:
        return {"message": self.problem.members["detail"], "code": self.code}


def as_problem(exception: IdempotencyAPIException, response: Response, request: Request) -> Response:
    """Add hints and links to what the exception handler made of a refusal, and name its media type.

    It is ``application/problem+json`` only while the handler returned our members untouched and JSON is rendered.
    """
    for name, value in exception.problem.headers.items():
        response.headers[name] = value
    if exception.problem.retry_after is not None:
        response.headers.setdefault("Retry-After", str(exception.problem.retry_after))
    untouched = getattr(response, "data", None) == exception.problem.members
    if (
        conf.ERROR_FORMAT == "problem"
        and untouched
        and request.accepted_renderer.media_type == "application/json"
    ):
        response.content_type = "application/problem+json"
    return response
