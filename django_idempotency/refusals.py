"""A refusal as a response of Django's own: problem details for programs, a page for people."""

from __future__ import annotations

import json

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from django_idempotency.conf import conf
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.http import Problem, problem_of

TEMPLATE = "django_idempotency/refused.html"
STYLESHEET = "django_idempotency/refused.css"
_JSON = ("application/problem+json", "application/json")


def refusal(request: HttpRequest, error: IdempotencyError) -> HttpResponse:
    """Return what a refusal says over HTTP: problem details (RFC 9457), or a page where a person is waiting.

    The page is the template ``django_idempotency/refused.html``, which a project can replace; its context is the
    members of the problem, ``retry``, which tells whether to submit again, ``form_url``, the page that the form was
    on, or None, and ``stylesheet``, the URL of the app's own, or None where static files are not set up.
    """
    problem = problem_of(error)
    response = _page(request, problem) if _wants_page(request) else _details(problem)
    patch_vary_headers(response, ["Accept"])
    for name, value in problem.headers.items():
        response.headers[name] = value
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def _wants_page(request: HttpRequest) -> bool:
    return request.get_preferred_type([*_JSON, "text/html"]) == "text/html"


def _page(request: HttpRequest, problem: Problem) -> HttpResponse:
    context = {
        **problem.members,
        "retry": problem.retry_after is not None,
        "form_url": _form_url(request),
        "stylesheet": _stylesheet(),
    }
    try:
        return HttpResponse(render_to_string(TEMPLATE, context, request), status=problem.status)
    # A project without APP_DIRS, or without templates at all; or a context processor that asks the store, too.
    except (TemplateDoesNotExist, Error):
        return _details(problem)


def _form_url(request: HttpRequest) -> str | None:
    """Return the page that sent the form, if it is one of this site's."""
    url = request.META.get("HTTP_REFERER")
    is_own = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if is_own else None


def _stylesheet() -> str | None:
    try:
        return static(STYLESHEET)
    except (ValueError, ImproperlyConfigured):  # not collected into the manifest, or no STATIC_URL
        return None


def _details(problem: Problem) -> HttpResponse:
    media_type = _JSON[0] if conf.ERROR_FORMAT == "problem" else _JSON[1]
    return HttpResponse(json.dumps(problem.members), content_type=media_type, status=problem.status)
