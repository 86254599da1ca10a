"""The shop's door for programs: Django REST framework.

A view becomes retry-safe by one word, ``IdempotencyMixin``, in front of its other bases. POST and PATCH with
an ``Idempotency-Key`` then take effect once; GET, PUT and DELETE are as before: repeating them is harmless.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import include, path
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.generics import RetrieveAPIView
from rest_framework.mixins import CreateModelMixin, ListModelMixin
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop import faults
from example_project.shop.models import Order, Receipt, RefusedError, Wallet
from example_project.shop.serializers import (
    DepositSerializer,
    OrderSerializer,
    PaymentSerializer,
    ReceiptSerializer,
    WalletSerializer,
)


@contextmanager
def refusals_as_400() -> Iterator[None]:
    """Answer what the shop refuses with 400 and its reason."""
    try:
        yield
    except RefusedError as refusal:
        raise ValidationError({"detail": str(refusal)}) from refusal


class OrderViewSet(IdempotencyMixin, ModelViewSet[Order]):
    """The caller's orders: replaced as a whole (PUT), not in parts, and not once they are paid for."""

    serializer_class = OrderSerializer
    http_method_names = ["get", "post", "put", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[Order]:
        """Hide other customers' orders: they answer 404."""
        return Order.objects.filter(user=self.request.user.pk).select_related("product").order_by("pk")

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        """Place the order."""
        with refusals_as_400():
            serializer.save(user=self.request.user)
        faults.strike(self.request)

    def perform_update(self, serializer: BaseSerializer[Order]) -> None:
        """Change the order."""
        with refusals_as_400():
            serializer.save()

    def perform_destroy(self, instance: Order) -> None:
        """Cancel the order."""
        with refusals_as_400():
            instance.cancel()

    @action(detail=True, methods=["post"])
    def pay(self, request: Request, pk: str | None = None) -> Response:
        """Charge the caller's wallet: 200, or 402 when there is too little in it."""
        with refusals_as_400():
            payment = self.get_object().pay()
        faults.strike(request)
        answer = status.HTTP_200_OK if payment.accepted else status.HTTP_402_PAYMENT_REQUIRED
        return Response(PaymentSerializer(payment).data, status=answer)


class WalletView(IdempotencyMixin, RetrieveAPIView[Wallet]):
    """The caller's wallet: GET shows the balance, PATCH adds an amount to it."""

    serializer_class = WalletSerializer

    def get_object(self) -> Wallet:
        """Return the caller's own wallet; the address names no other."""
        return get_object_or_404(Wallet, user=self.request.user.pk)

    def patch(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Add ``amount`` to the balance and show it."""
        deposit = DepositSerializer(data=request.data)
        deposit.is_valid(raise_exception=True)
        wallet = self.get_object()
        wallet.deposit(deposit.validated_data["amount"])
        faults.strike(request)
        return Response(self.get_serializer(wallet).data)


class ReceiptViewSet(IdempotencyMixin, CreateModelMixin, ListModelMixin, GenericViewSet[Receipt]):
    """Files that the caller sent in."""

    serializer_class = ReceiptSerializer
    parser_classes = [MultiPartParser]

    def get_queryset(self) -> QuerySet[Receipt]:
        """Show the caller's own receipts only."""
        return Receipt.objects.filter(user=self.request.user.pk).order_by("pk")

    def perform_create(self, serializer: BaseSerializer[Receipt]) -> None:
        """Record the file."""
        serializer.save(user=self.request.user)
        faults.strike(self.request)


router = DefaultRouter()
router.register("orders", OrderViewSet, basename="order")
router.register("receipts", ReceiptViewSet, basename="receipt")

urlpatterns = [
    path("wallet/", WalletView.as_view(), name="wallet"),
    path("", include(router.urls)),
]
