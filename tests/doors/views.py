"""One view behind every door: it has its effect, and then does what the test asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Product
from tests.views import effect

SEEN: list[Any] = []


def answer(act: str) -> HttpResponseBase:
    """Have the effect, then answer as ``act`` says: a status, or an accident."""
    number = effect()
    if act == "crash":
        raise RuntimeError("accident")
    if act == "missing":
        raise Http404("nothing here")
    if act == "denied":
        raise PermissionDenied
    if act == "mark":
        transaction.set_rollback(True)
    if act == "nothing":
        return None  # type: ignore[return-value]
    if act == "template":
        return TemplateResponse(None, engines["django"].from_string(f"effect {number}"))  # type: ignore[arg-type]
    status = int(act) if act.isdecimal() else 201
    return JsonResponse({"id": number}, status=status)


async def async_answer(act: str) -> HttpResponseBase:
    """Do the same with async ORM calls."""
    product = await Product.objects.acreate(name="effect", price="1.00", stock=1)
    SEEN.append(await sync_to_async(threading.get_ident)())
    if act == "crash":
        raise RuntimeError("accident")
    if act == "missing":
        raise Http404("nothing here")
    return JsonResponse({"id": product.pk}, status=int(act) if act.isdecimal() else 201)


def plain(request: HttpRequest, act: str) -> HttpResponseBase:
    return answer(act)


async def aplain(request: HttpRequest, act: str) -> HttpResponseBase:
    return await async_answer(act)


class Plain(View):
    def post(self, request: HttpRequest, act: str) -> HttpResponseBase:
        return answer(act)


class Async(View):
    async def post(self, request: HttpRequest, act: str) -> HttpResponseBase:
        return await async_answer(act)


class Api(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)


class ApiSet(ViewSet):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def create(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)

    @action(detail=False, methods=["post"])
    @idempotent
    def below(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)

    @idempotent
    @action(detail=False, methods=["post"])
    def above(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)


class GuardedSet(IdempotencyMixin, ApiSet):
    """A mixin, and one action that is tuned alone."""

    @action(detail=False, methods=["post"])
    @idempotent(required=True, store=lambda response: response.status_code == 201)
    def tuned(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)


class Handler(View):
    @idempotent
    def post(self, request: HttpRequest, act: str) -> HttpResponseBase:
        return answer(act)


@method_decorator(idempotent, name="post")
class ByMethodDecorator(Plain):
    pass


class AsyncHandler(View):
    @idempotent
    async def post(self, request: HttpRequest, act: str) -> HttpResponseBase:
        return await async_answer(act)


class ApiHandler(Api):
    @idempotent
    def post(self, request: Request, act: str) -> HttpResponseBase:
        return answer(act)


def api_function(decorate: Callable[[Any], Any]) -> Any:
    @api_view(["POST"])
    @authentication_classes([])
    @permission_classes([AllowAny])
    @decorate
    def function(request: Request, act: str) -> HttpResponseBase:
        return answer(act)

    return function
