"""The handler is looked at before it is called: nobody may see that something stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as project
from django.test import Client, override_settings
from django.urls import path
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.doors.conftest import MIDDLEWARE
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

SEEN: list[Any] = []


def needs(role: str) -> Callable[[Any], Any]:
    def mark(handler: Any) -> Any:
        handler.role = role
        return handler

    return mark


class RoleOfHandler(BasePermission):
    """Lets everybody in where the handler names no role."""

    def has_permission(self, request: Request, view: Any) -> bool:
        handler = getattr(view, (request.method or "").lower())
        SEEN.append(handler)
        role = getattr(handler, "role", None)
        return role is None or request.headers.get("X-Role") == role


class Roles(APIView):
    authentication_classes = ()
    permission_classes = (RoleOfHandler,)

    @needs("admin")
    def post(self, request: Request) -> Response:
        """Has an effect."""
        return Response({"id": effect()}, status=201)


class Guarded(IdempotencyMixin, Roles):
    pass


class Tuned(Roles):
    @needs("admin")
    @idempotent
    def post(self, request: Request) -> Response:
        return super().post(request)


class Actions(IdempotencyMixin, ViewSet):
    authentication_classes = ()
    permission_classes = (RoleOfHandler,)

    @needs("admin")
    @action(detail=True, methods=["post"], url_path="paid")
    def pay(self, request: Request) -> Response:
        return Response({"id": effect()}, status=201)


urlpatterns = [
    path("mixin/", Guarded.as_view()),
    path("as-view/", idempotent(Roles.as_view())),
    path("handler/", Tuned.as_view()),
    path("action/", Actions.as_view({"post": "pay"})),
    path("middleware/", Roles.as_view()),
]


@pytest.fixture(autouse=True)
def _site() -> Any:
    SEEN.clear()
    settings = {"MIDDLEWARE": [*project.MIDDLEWARE, MIDDLEWARE], "IDEMPOTENCY": {"MIDDLEWARE_PATHS": ["/"]}}
    with override_settings(**settings):
        yield


def send(door: str, key: str | None = "k", **headers: str) -> Any:
    keyed = {} if key is None else {"Idempotency-Key": key}
    return Client().post(f"/{door}/", headers={**keyed, **headers})


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("door", ["mixin", "as-view", "handler", "action", "middleware"])
def test_permission_reads_what_a_decorator_left_on_the_handler(door: str, key: str | None) -> None:
    assert (send(door, key).status_code, effects()) == (403, 0)
    assert (send(door, key, **{"X-Role": "admin"}).status_code, effects()) == (201, 1)


def test_stand_in_looks_like_the_method_that_it_stands_for() -> None:
    send("mixin")
    (handler,) = SEEN
    assert (handler.__name__, handler.__qualname__) == ("post", "Roles.post")
    assert (handler.__module__, handler.__doc__) == (__name__, "Has an effect.")
    assert handler.__func__ is Roles.post
    assert handler.__wrapped__ == handler.__self__.__class__.post.__get__(handler.__self__)
    assert not hasattr(handler, "no_such_attribute")


def test_stand_in_has_what_action_left() -> None:
    send("action")
    (handler,) = SEEN
    assert (handler.detail, handler.url_path, dict(handler.mapping)) == (True, "paid", {"post": "pay"})
