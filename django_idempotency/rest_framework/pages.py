"""What comes from a page of the browsable API, and goes back to one."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request

from django_idempotency.conf import FORM_FIELD
from django_idempotency.http import is_form


class PageRenderer:
    """Marks the renderers whose pages give each form a key."""


def is_for_a_page(request: Request) -> bool:
    """Tell whether the answer is shown on such a page: then a person waits for it."""
    return isinstance(getattr(request, "accepted_renderer", None), PageRenderer)


def may_come_from_a_page(request: HttpRequest) -> bool:
    """Tell whether a request is a form whose sender takes a page, before DRF has looked at either."""
    return is_form(request) and "text/html" in request.META.get("HTTP_ACCEPT", "")


def page_key(request: Request) -> str | None:
    """Return the key that such a page put into its HTML form, or None; no program sends its keys so.

    It goes before the header: a browser may add one of its own, and then each click on the button has another.
    """
    if not (is_for_a_page(request) and is_form(request._request) and _parses_fields(request)):
        return None
    fields = request.data
    return fields.get(FORM_FIELD) if isinstance(fields, dict) else None


def _parses_fields(request: Any) -> bool:
    """Tell whether the view takes forms apart: a parser for ``*/*`` would leave nothing of the body to digest."""
    parser = request.negotiator.select_parser(request, request.parsers)
    return isinstance(parser, (FormParser, MultiPartParser))
