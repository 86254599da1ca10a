"""DRF's browsable API for views that ask for a key: its forms send one."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html
from rest_framework.renderers import BrowsableAPIRenderer as _BrowsableAPIRenderer

from django_idempotency.class_views import handler_options
from django_idempotency.conf import FORM_FIELD
from django_idempotency.http import header_names, new_form_key, raw_key
from django_idempotency.options import EXEMPT
from django_idempotency.rest_framework.hooks import IdempotencyHooks
from django_idempotency.rest_framework.pages import PageRenderer, page_key


class BrowsableAPIRenderer(PageRenderer, _BrowsableAPIRenderer):
    """DRF's renderer of the same name, with a new key in each page for the forms of guarded views.

    The HTML form sends it as a hidden field, the others as the header, by a script of the app's own. So a double
    click has one effect, and ``REQUIRED`` locks nobody out; programs are asked for the header as before. A page that
    answers a keyed request shows the key and what became of it. The template extends ``rest_framework/api.html``.
    """

    template = "django_idempotency/rest_framework/api.html"

    def get_context(self, data: Any, accepted_media_type: Any, renderer_context: Any) -> dict[str, Any]:
        """Add key and state to DRF's context, and the hidden field to its HTML form."""
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        guarded = [method for method in _WITH_FORMS if _is_guarded(context["view"], method)]
        key = _next_key(context["request"], context["response"])
        if "POST" in guarded and context["post_form"]:
            field = '<input type="hidden" name="{}" value="{}">{}'
            context["post_form"] = format_html(field, FORM_FIELD, key, context["post_form"])
        context["idempotency"] = {"header": header_names()[0], "key": key, "methods": guarded}
        context["idempotency_state"] = _state(context["request"], context["response"])
        return context


_WITH_FORMS = ("POST", "PUT", "PATCH", "DELETE")


def _is_guarded(view: Any, method: str) -> bool:
    handler = getattr(view, method.lower(), None)
    if handler is None or getattr(handler, EXEMPT, False):
        return False
    return isinstance(view, IdempotencyHooks) or handler_options(handler) is not None


def _sent_key(request: Any) -> str | None:
    return page_key(request) or raw_key(request._request)


def _next_key(request: Any, response: Any) -> str:
    """Return a new key; the one that was sent, where the request is to be sent again with the same key."""
    problem = getattr(response, "idempotency_problem", None)
    again = _sent_key(request) if problem and problem.retry_after is not None else None
    return again or new_form_key()


def _state(request: Any, response: Any) -> tuple[str, str] | None:
    """Return the key of the request and what became of it, or None if no key counted."""
    problem = getattr(response, "idempotency_problem", None)
    if problem is not None:
        return _sent_key(request) or "", problem.members["code"]
    claim = getattr(request, "idempotency", None)
    return None if claim is None else (claim.key, "answered")
