"""Rows to start a test from."""

from datetime import timedelta
from typing import Any

import factory
from django.contrib.auth.models import User
from django.utils import timezone
from factory.django import DjangoModelFactory
from rest_framework.authtoken.models import Token

from django_idempotency.core.operations import operation_id
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Order, Product, Wallet


class UserFactory(DjangoModelFactory[User]):
    """A customer without a password: tests log in by token or ``force_login``."""

    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"customer-{n}")


class TokenFactory(DjangoModelFactory[Token]):
    """A customer's token for the API."""

    class Meta:
        model = Token

    user = factory.SubFactory(UserFactory)
    key = factory.LazyAttribute(lambda token: f"{token.user.username}-token")


class WalletFactory(DjangoModelFactory[Wallet]):
    """A wallet with 100.00 in it."""

    class Meta:
        model = Wallet

    user = factory.SubFactory(UserFactory)
    balance = "100.00"


class ProductFactory(DjangoModelFactory[Product]):
    """A product at 10.00, a hundred of it."""

    class Meta:
        model = Product

    name = factory.Sequence(lambda n: f"Product {n}")
    price = "10.00"
    stock = 100


class OrderFactory(DjangoModelFactory[Order]):
    """An unpaid order, written down without taking anything off the shelf."""

    class Meta:
        model = Order

    user = factory.SubFactory(UserFactory)
    product = factory.SubFactory(ProductFactory)
    quantity = 1


class IdempotencyRecordFactory(DjangoModelFactory[IdempotencyRecord]):
    """The record of an order in progress, unless ``completed=True`` or ``expired=True`` is given."""

    class Meta:
        model = IdempotencyRecord

    class Params:
        in_progress = factory.Trait(state=IdempotencyRecord.State.IN_PROGRESS)
        completed = factory.Trait(
            state=IdempotencyRecord.State.COMPLETED,
            response_status=201,
            response_headers=[["Content-Type", "application/json"]],
            response_body=b'{"id":1}',
            completed_at=factory.LazyAttribute(lambda record: record.created_at + timedelta(milliseconds=20)),
        )
        expired = factory.Trait(
            created_at=factory.LazyFunction(lambda: timezone.now() - timedelta(days=2)),
            expires_at=factory.LazyAttribute(lambda record: record.created_at + timedelta(days=1)),
        )

    id: Any = factory.LazyAttribute(lambda record: operation_id(record.scope, record.key))
    scope = "user:1 api/orders/"
    key = factory.Sequence(lambda n: f"key-{n}")
    method = "POST"
    path = "/api/orders/"
    fingerprint = "1:" + "0" * 64
    request_payload: bytes | None = b'{"product":1}'
    state = IdempotencyRecord.State.IN_PROGRESS
    response_status: int | None = None
    response_headers = factory.LazyFunction(list)
    response_body: bytes | None = None
    created_at = factory.LazyFunction(timezone.now)
    completed_at: Any = None
    expires_at = factory.LazyAttribute(lambda record: record.created_at + timedelta(days=1))
    attempt = 1
