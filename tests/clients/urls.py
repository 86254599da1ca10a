"""Doors with the addresses, logins and bodies of two well-known APIs; the effect of each is an order or a receipt."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework.authentication import BasicAuthentication, TokenAuthentication
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop import faults
from example_project.shop.models import Order, Product, Receipt


class Bearer(TokenAuthentication):
    """The customer's token as a bearer token."""

    keyword = "Bearer"


class Basic(BasicAuthentication):
    """The customer's token as the password."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> Any:
        return TokenAuthentication().authenticate_credentials(password)


def place(request: Request, note: str) -> int:
    product = Product.objects.get()
    number = Order.place(user=request.user, product=product, note=note).pk
    faults.strike(request._request)
    return number


class PaymentIntents(IdempotencyMixin, APIView):
    """What ``StripeClient.v1.payment_intents.create()`` talks to."""

    authentication_classes = (Bearer,)
    parser_classes = (FormParser,)

    def post(self, request: Request) -> Response:
        number = place(request, request.data["description"])
        return Response({"id": f"pi_{number}", "object": "payment_intent"})


class PaymentOrders(IdempotencyMixin, APIView):
    """What ``ModernTreasury.payment_orders.create()`` talks to."""

    authentication_classes = (Basic,)
    parser_classes = (JSONParser,)
    idempotency_required = True

    def post(self, request: Request) -> Response:
        return Response({"id": str(place(request, request.data["description"]))}, status=201)


class Documents(IdempotencyMixin, APIView):
    """What ``ModernTreasury.documents.create()`` talks to."""

    authentication_classes = (Basic,)
    parser_classes = (MultiPartParser,)
    idempotency_required = True

    def post(self, request: Request) -> Response:
        receipt = Receipt.record(request.user, request.data["document_type"], request.FILES["file"])
        faults.strike(request._request)
        return Response({"id": str(receipt.pk)}, status=201)


urlpatterns = [
    path("v1/payment_intents", PaymentIntents.as_view()),
    path("api/payment_orders", PaymentOrders.as_view()),
    path("api/documents", Documents.as_view()),
    path("api/", include("example_project.shop.api")),
]
