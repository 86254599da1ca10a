"""ATOMIC_REQUESTS around a class that a door guards: what Django gives, as far as the claim allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as project
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views import View
from django.views.decorators.vary import vary_on_cookie
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Product
from tests.conftest import ATOMIC_REQUESTS
from tests.doors.conftest import MIDDLEWARE
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

non_atomic = transaction.non_atomic_requests
atomics: list[bool] = []


class Around:
    """A project's base class that locks and writes before the handler, and looks at the transaction after it."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)  # type: ignore[misc]
        atomics.append(connection.in_atomic_block)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if connection.in_atomic_block:
            list(Product.objects.select_for_update())
            Product.objects.create(name="dispatch", price="1.00", stock=1)
        if request.GET.get("swallow"):
            with suppress(IntegrityError):
                Product.objects.create(pk=Product.objects.latest("pk").pk, price="1.00", stock=1)
        if request.GET.get("deny"):
            raise RuntimeError("before the handler")
        answer = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        atomics.append(connection.in_atomic_block)
        return answer


class Plain(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(connection.in_atomic_block)

    def post(self, request: HttpRequest) -> HttpResponse:
        number = effect()
        if request.GET.get("crash"):
            raise RuntimeError("accident")
        return JsonResponse({"id": number}, status=201)


class Api(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        return Response(connection.in_atomic_block)

    def post(self, request: Request) -> Response:
        number = effect()
        if request.query_params.get("crash"):
            raise RuntimeError("accident")
        return Response({"id": number}, status=201)


class AroundPlain(Around, Plain):
    pass


class AroundApi(Around, Api):
    pass


class AroundMixin(Around, IdempotencyMixin, Api):
    pass


class Async(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(await sync_to_async(lambda: connection.in_atomic_block)())


def function(request: HttpRequest) -> HttpResponse:
    return HttpResponse(connection.in_atomic_block)


DOORS = {
    "mixin": AroundMixin.as_view(),
    "as-view": idempotent(AroundPlain.as_view()),
    "drf-as-view": idempotent(AroundApi.as_view()),
    "site-class": AroundPlain.as_view(),
    "site-drf": AroundApi.as_view(),
    "site-wrapped": vary_on_cookie(AroundPlain.as_view()),
}
NON_ATOMIC = {
    "free-mixin": non_atomic(AroundMixin.as_view()),
    "free-as-view": non_atomic(idempotent(AroundPlain.as_view())),
    "free-inner-as-view": idempotent(non_atomic(AroundPlain.as_view())),
    "free-drf": non_atomic(idempotent(AroundApi.as_view())),
    "free-site-class": non_atomic(AroundPlain.as_view()),
    "free-site-drf": non_atomic(AroundApi.as_view()),
    "free-site-wrapped": non_atomic(vary_on_cookie(AroundPlain.as_view())),
    "free-site-inner": vary_on_cookie(non_atomic(AroundPlain.as_view())),
    "free-function": non_atomic(idempotent(function)),
}
ASYNC = {
    "async": non_atomic(Async.as_view()),
    "async-as-view": non_atomic(idempotent(Async.as_view())),
    "async-inner": idempotent(non_atomic(Async.as_view())),
}
urlpatterns = [path(f"{name}/", view) for name, view in {**DOORS, **NON_ATOMIC, **ASYNC}.items()]


@pytest.fixture(autouse=True)
def _atomic_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(connection.settings_dict, ATOMIC_REQUESTS, True)
    atomics.clear()
    settings = {"MIDDLEWARE": [*project.MIDDLEWARE, MIDDLEWARE], "IDEMPOTENCY": {"MIDDLEWARE_PATHS": ["/"]}}
    with override_settings(**settings):
        yield
    assert not connection.in_atomic_block


def send(door: str, key: str | None = None, query: str = "", method: str = "post") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return getattr(Client(raise_request_exception=False), method)(f"/{door}/{query}", headers=headers)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("method", ["get", "post"])
def test_without_a_key_one_transaction_is_around_it_all(door: str, method: str) -> None:
    assert send(door, method=method).status_code in {200, 201}
    assert atomics == [True, True]
    assert effects() == (2 if method == "post" else 1)


@pytest.mark.parametrize("door", DOORS)
def test_without_a_key_all_goes_with_an_error(door: str) -> None:
    assert send(door, query="?crash=1").status_code == 500
    assert effects() == 0


@pytest.mark.parametrize("door", DOORS)
def test_with_a_key_dispatch_may_lock_and_its_writes_stay_like_those_of_a_decorator_above(door: str) -> None:
    assert send(door, "k").content == send(door, "k").content
    assert send(door, "c", "?crash=1").status_code == 500
    assert (Product.objects.filter(name="dispatch").count(), effects()) == (3, 4)


@pytest.mark.parametrize("door", DOORS)
def test_with_a_key_an_error_before_the_claim_undoes_what_dispatch_wrote(door: str) -> None:
    assert send(door, "k", "?deny=1").status_code == 500
    assert effects() == 0


@pytest.mark.parametrize("door", NON_ATOMIC)
def test_view_that_said_no_gets_no_transaction(door: str) -> None:
    assert send(door, method="get").content in {b"False", b"false"}
    assert not any(atomics)


@pytest.mark.parametrize("door", [name for name in NON_ATOMIC if name != "free-function"])
def test_view_that_said_no_is_guarded_all_the_same(door: str) -> None:
    assert send(door).status_code == 201
    assert send(door, "k").content == send(door, "k").content
    assert not any(atomics)
    assert effects() == 2


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", [None, "k"])
def test_error_that_dispatch_swallowed_loses_nothing_in_silence(door: str, key: str | None) -> None:
    """Django runs no query after it: the handler must not run in a new transaction, without what dispatch() wrote."""
    assert send(door, key, "?swallow=1").status_code == 500
    assert effects() == 0
    assert send(door, key).status_code == 201


@pytest.mark.parametrize("door", ASYNC)
def test_async_class_that_said_no_gets_no_transaction_either(door: str) -> None:
    assert send(door).content == b"False"
