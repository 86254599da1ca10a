"""``{% load idempotency %}``: the key of an HTML form."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_idempotency.conf import FORM_FIELD
from django_idempotency.http import new_form_key

register = template.Library()


@register.simple_tag
def idempotency_key() -> SafeString:
    """Return a hidden field with a new key: whatever becomes of the page, what it submits takes effect once.

    A page that is rendered again has another key, so a corrected form is a new action.
    """
    return format_html('<input type="hidden" name="{}" value="{}">', FORM_FIELD, new_form_key())
