"""One view in the forms that are compared; every one of them authenticates by a token, which is one SELECT."""

import uuid
from datetime import timedelta
from typing import Any

from django.db import connection
from django.http import HttpResponse
from django.urls import path
from django.utils import timezone
from rest_framework.generics import CreateAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from django_idempotency.claims.inserts import insert_if_absent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from example_project.shop.models import Order
from example_project.shop.serializers import OrderSerializer

ANSWER = (
    b'{"id":4711,"product":1,"quantity":1,"note":"benchmark","total":"9.99","paid_at":null,'
    b'"created_at":"2026-01-01T00:00:00.000000Z"}'
)
HEADERS = [["Content-Type", "application/json"], ["Vary", "Accept"], ["Allow", "POST, OPTIONS"]]
DAY = timedelta(days=1)


class Unprotected(CreateAPIView[Order]):
    """Place an order: one SELECT, a savepoint with an UPDATE and an INSERT, under ATOMIC_REQUESTS."""

    serializer_class = OrderSerializer

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        serializer.save(user=self.request.user)


class Protected(IdempotencyMixin, Unprotected):
    """The same, by this package."""


class Floor(Unprotected):
    """The same, and the bare INSERT of a record of the same size in the same transaction: nothing can do with less."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().create(request, *args, **kwargs)
        now, key = timezone.now(), request.META.get("HTTP_IDEMPOTENCY_KEY", "")
        record = IdempotencyRecord(
            id=uuid.uuid4(),
            scope=f"user:{request.user.pk} orders/protected/",
            key=key,
            method="POST",
            path="/orders/protected/",
            fingerprint="1:" + "0" * 64,
            request_payload=request._request.body,
            state="completed",
            response_status=201,
            response_headers=HEADERS,
            response_body=ANSWER,
            created_at=now,
            completed_at=now,
            expires_at=now + DAY,
            attempt=1,
        )
        if connection.vendor == "mysql":
            record.save(force_insert=True)
        else:
            insert_if_absent(record, connection.alias)
        return response


class Nothing(APIView):
    """Authenticate and answer constant bytes: no replay that authorises first can be faster."""

    def post(self, request: Request) -> HttpResponse:
        return HttpResponse(ANSWER, status=201, content_type="application/json")


urlpatterns = [
    path("orders/unprotected/", Unprotected.as_view()),
    path("orders/protected/", Protected.as_view()),
    path("orders/floor/", Floor.as_view()),
    path("orders/nothing/", Nothing.as_view()),
]
