"""A form for people, and what the tests watch and hold up on the server's side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.views.decorators.http import require_safe

from example_project.shop.models import Product
from tests.rest_framework.page_urls import Products

FORM = """<!doctype html>
{% load idempotency %}
<title>Shop</title>
<h1>Your order</h1>
<form method="post"{% if action %} action="{{ action }}"{% endif %} novalidate>
{% csrf_token %}{% idempotency_key %}{{ form }}<button>Order</button>
</form>
"""
WAIT_SECONDS = 20


class Pause:
    """Counts the submissions that arrive, and holds up the view until there are as many as it is told."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reset()

    def reset(self) -> None:
        self.arrived, self.wanted = 0, 0

    def arrive(self) -> None:
        with self.changed:
            self.arrived += 1
            self.changed.notify_all()

    def until(self, count: int) -> None:
        """Wait until ``count`` submissions have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.arrived >= count, WAIT_SECONDS), "too few submissions"

    def end(self) -> None:
        """Hold up nobody any longer, so that the server can stop."""
        with self.changed:
            self.arrived = self.wanted
            self.changed.notify_all()


PAUSE = Pause()


def count_arrivals(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Tell of each POST before any other middleware sees it."""

    def middleware(request: HttpRequest) -> Any:
        if request.method == "POST":
            PAUSE.arrive()
        return get_response(request)

    return middleware


def strict_csp(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Forbid scripts and inline styles, but in the admin; DRF's pages need their own scripts, and inline styles."""

    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        if request.path.startswith("/drf/"):
            response.headers["Content-Security-Policy"] = (
                "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
                "font-src 'self'; style-src 'self' 'unsafe-inline'"
            )
        elif not request.path.startswith("/admin/"):
            response.headers["Content-Security-Policy"] = (
                "default-src 'none'; style-src 'self'; img-src 'self'"
            )
        return response

    return middleware


class SlowProducts(Products):
    def perform_create(self, serializer: Any) -> None:
        PAUSE.until(PAUSE.wanted)
        super().perform_create(serializer)


class OrderForm(forms.Form):
    name = forms.CharField()


def order(request: HttpRequest, answer: str, action: str = "") -> HttpResponse:
    """Take one order, and show it: on a page, or behind a redirect."""
    form = OrderForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form, action)
    PAUSE.until(PAUSE.wanted)
    product = Product.objects.create(name=form.cleaned_data["name"], price="1.00", stock=1)
    if answer == "redirect":
        return redirect("done", product.pk)
    return _done(product.pk)


@require_safe
def done(request: HttpRequest, pk: int) -> HttpResponse:
    return _done(pk)


def _done(pk: int) -> HttpResponse:
    return HttpResponse(f"<!doctype html><title>Shop</title><h1>Order {pk}</h1>")


def _page(request: HttpRequest, form: OrderForm, action: str) -> HttpResponse:
    template: Any = engines["django"].from_string(FORM)
    return HttpResponse(template.render({"form": form, "action": action}, request))
