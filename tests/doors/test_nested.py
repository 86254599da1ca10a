"""Doors inside doors: one operation and one record, and the transaction of whoever is outside."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as project
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views import View
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.conftest import ATOMIC_REQUESTS
from tests.doors.conftest import MIDDLEWARE
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


class Api(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        return Response({"id": effect()}, status=201)


class Mixed(IdempotencyMixin, Api):
    pass


class OuterMixin(IdempotencyMixin, Api):
    def post(self, request: Request) -> Any:
        effect()
        return Mixed.as_view()(request._request)


class Plain(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"id": effect()}, status=201)


plain = idempotent(Plain.as_view())


@idempotent
def outer_of_mixin(request: HttpRequest) -> Any:
    effect()
    return Mixed.as_view()(request)


@idempotent
def outer_of_class(request: HttpRequest) -> Any:
    effect()
    return plain(request)


def site_of_mixin(request: HttpRequest) -> Any:
    effect()
    return Mixed.as_view()(request)


@idempotent
def inner(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": effect()}, status=201)


free = transaction.non_atomic_requests(idempotent(Plain.as_view()))


class FailingAfterFree(IdempotencyMixin, Api):
    """Calls a view that wants no transaction of ATOMIC_REQUESTS, and has this one's all the same."""

    @idempotency_exempt
    def post(self, request: Request) -> Response:
        effect()
        free(request._request)
        raise RuntimeError("after the inner view")


class Failing(APIView):
    """Is not guarded, calls a guarded view, and fails."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @idempotency_exempt
    def post(self, request: Request) -> Response:
        effect()
        inner(request._request)
        raise RuntimeError("after the inner view")


class FailingMixin(IdempotencyMixin, Failing):
    pass


class FailingPlain(View):
    @idempotency_exempt
    def post(self, request: HttpRequest) -> HttpResponse:
        effect()
        inner(request)
        raise RuntimeError("after the inner view")


NESTED = {
    "mixin-of-mixin": OuterMixin.as_view(),
    "function-of-mixin": outer_of_mixin,
    "function-of-class": outer_of_class,
    "site-of-mixin": site_of_mixin,
}
OUTSIDE = {
    "unguarded": Failing.as_view(),
    "mixin": FailingMixin.as_view(),
    "mixin-of-free-class": FailingAfterFree.as_view(),
    "class": idempotent(FailingPlain.as_view()),
    "other-method": idempotent(methods=["PUT"])(Failing.as_view()),
}
urlpatterns = [path(f"{name}/", view) for name, view in {**NESTED, **OUTSIDE}.items()]


@pytest.fixture
def _atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, ATOMIC_REQUESTS, True)


def send(name: str, key: str | None = "k") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return Client(raise_request_exception=False).post(f"/{name}/", headers=headers)


@pytest.mark.parametrize("atomic_requests", [False, True])
@pytest.mark.parametrize("name", NESTED)
def test_doors_inside_a_door_are_one_operation(
    name: str, atomic_requests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, ATOMIC_REQUESTS, atomic_requests)
    middleware = [*project.MIDDLEWARE, MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware, IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/"]}):
        first, retry = send(name), send(name)
    assert (first.status_code, retry.status_code, retry.content) == (201, 201, first.content)
    assert (effects(), IdempotencyRecord.objects.count()) == (2, 1)


@pytest.mark.usefixtures("_atomic_requests")
@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", [None, "k"])
def test_door_inside_an_unguarded_view_is_undone_with_it(name: str, key: str | None) -> None:
    assert send(name, key).status_code == 500
    assert (effects(), IdempotencyRecord.objects.count()) == (0, 0)
