"""Doors of the frameworks, each behind a log-in, a permission and a throttle that a test can close."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.urls import include, path
from ninja import NinjaAPI, Schema, Status
from ninja.errors import HttpError
from ninja.security import APIKeyHeader
from ninja.throttling import BaseThrottle as NinjaThrottle
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import (
    action,
    api_view,
    authentication_classes,
    permission_classes,
    throttle_classes,
)
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.contrib.ninja import idempotent as ninja_idempotent
from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Product
from tests.views import effect

CLOSED: set[str] = set()


class Permitted(IsAuthenticated):
    def has_permission(self, request: Any, view: Any) -> bool:
        return "permission" not in CLOSED and super().has_permission(request, view)


class Seldom(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return "throttle" not in CLOSED


def told(request: Request) -> Response:
    return Response({"id": effect(), "note": request.data["note"]}, status=201)


class Gated(APIView):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (Permitted,)
    throttle_classes = (Seldom,)

    def post(self, request: Request) -> Response:
        return told(request)


class Mixed(IdempotencyMixin, Gated):
    pass


class Handler(Gated):
    @idempotent
    def post(self, request: Request) -> Response:
        return told(request)


class GatedSet(ViewSet):
    authentication_classes = Gated.authentication_classes
    permission_classes = Gated.permission_classes
    throttle_classes = Gated.throttle_classes

    def create(self, request: Request) -> Response:
        return told(request)

    @action(detail=False, methods=["post"])
    @idempotent
    def below(self, request: Request) -> Response:
        return told(request)

    @idempotent
    @action(detail=False, methods=["post"])
    def above(self, request: Request) -> Response:
        return told(request)


def function(decorate: Callable[[Any], Any]) -> Any:
    @api_view(["POST"])
    @authentication_classes(Gated.authentication_classes)
    @permission_classes(Gated.permission_classes)
    @throttle_classes(Gated.throttle_classes)
    @decorate
    def view(request: Request) -> Response:
        return told(request)

    return view


class ByToken(APIKeyHeader):
    """DRF's tokens, in the header that DRF reads them from."""

    param_name = "Authorization"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        number = (key or "").removeprefix("Token ")
        found = Token.objects.filter(key=number, user__is_active=True).select_related("user").first()
        return found and found.user


class NinjaSeldom(NinjaThrottle):
    def allow_request(self, request: HttpRequest) -> bool:
        return "throttle" not in CLOSED

    def wait(self) -> float:
        return 1.0


def permitted(operation: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(operation)
    def check(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "permission" in CLOSED:
            raise HttpError(403, "refused")
        return operation(request, *args, **kwargs)

    return check


class Sent(Schema):
    note: str


class Told(Sent):
    id: int


ninja = NinjaAPI(urls_namespace="probes", auth=ByToken(), throttle=NinjaSeldom())


@ninja.post("/sync/", response={201: Told})
@permitted
@ninja_idempotent
def operation(request: HttpRequest, sent: Sent) -> Any:
    return Status(201, {"id": effect(), "note": sent.note})


@ninja.post("/async/", response={201: Told})
@permitted
@ninja_idempotent
async def async_operation(request: HttpRequest, sent: Sent) -> Any:
    product = await Product.objects.acreate(name="effect", price="1.00", stock=1)
    return Status(201, {"id": product.pk, "note": sent.note})


DOORS = {
    "mixin": Mixed.as_view(),
    "drf-handler": Handler.as_view(),
    "drf-as-view": idempotent(Gated.as_view()),
    "above-api-view": idempotent(function(lambda view: view)),
    "below-api-view": function(idempotent),
    "action-below": GatedSet.as_view({"post": "below"}),
    "action-above": GatedSet.as_view({"post": "above"}),
}
UNDER_MIDDLEWARE = {
    "drf": Gated.as_view(),
    "viewset": GatedSet.as_view({"post": "create"}),
    "api-view": function(lambda view: view),
}

urlpatterns = [
    *(path(f"doors/{name}/", view) for name, view in DOORS.items()),
    *(path(f"site/{name}/", view) for name, view in UNDER_MIDDLEWARE.items()),
    path("ninja/", ninja.urls),
    path("", include("tests.doors.urls")),
]
