"""Probes of somebody who is not, or no longer, the caller of a record: never its answer, nor a hint of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.permissions import BasePermission
from rest_framework.throttling import BaseThrottle, UserRateThrottle

from django_idempotency.models import IdempotencyRecord
from example_project.shop.api import OrderViewSet
from example_project.shop.models import Order
from tests.factories import ProductFactory, TokenFactory
from tests.probes import GUESSED, Caller, looks_unused, refused_alike, same_request_is_ones_own, untouched

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("atomic_requests"),
    pytest.mark.processes,
]

ORDERS = "/api/orders/"


@pytest.fixture
def product() -> int:
    return ProductFactory(stock=100_000).pk


@pytest.fixture
def alice(product: int) -> Caller:
    return Caller(ORDERS, TokenFactory(), product=product)


@pytest.fixture
def bob(product: int) -> Caller:
    return Caller(ORDERS, TokenFactory(), product=product)


@pytest.mark.parametrize("key", [*GUESSED, "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_key_of_another_user_looks_unused(alice: Caller, bob: Caller, key: str) -> None:
    looks_unused(alice, bob, key)
    assert Order.objects.filter(user=alice.user).count() == 1


def test_same_request_with_the_same_key_is_another_users_own(alice: Caller, bob: Caller) -> None:
    same_request_is_ones_own(alice, bob, "k")


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_gets_the_same_refusal_for_a_used_and_an_unused_key(alice: Caller, token: str | None) -> None:
    first = alice.send("k")
    refused_alike(Caller(ORDERS, TokenFactory.build(key=token) if token else None), "k", 401)
    assert IdempotencyRecord.objects.count() == 1
    untouched(alice, "k", first)


def deactivate(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    caller.user.is_active = False
    caller.user.save()


def delete(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    caller.user.delete()


def log_out(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    caller.token.delete()


def revoke(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            return False

    monkeypatch.setattr(OrderViewSet, "permission_classes", [Nobody])


def throttle(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            return False

    monkeypatch.setattr(OrderViewSet, "throttle_classes", [Never])


LOST: dict[str, tuple[Callable[[Caller, pytest.MonkeyPatch], None], int]] = {
    "deactivated": (deactivate, 401),
    "deleted": (delete, 401),
    "logged out": (log_out, 401),
    "permission revoked": (revoke, 403),
    "throttled": (throttle, 429),
}


@pytest.mark.parametrize("how", LOST)
def test_caller_who_has_lost_access_gets_no_replay(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    lose, status = LOST[how]
    alice.send("k")
    before = IdempotencyRecord.objects.values().get()
    lose(alice, monkeypatch)
    refused_alike(alice, "k", status)
    assert IdempotencyRecord.objects.values().get() == before


class ThreeADay(UserRateThrottle):
    rate = "3/day"


@pytest.fixture
def clean_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def test_replays_count_for_the_throttle(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, clean_cache: None
) -> None:
    monkeypatch.setattr(OrderViewSet, "throttle_classes", [ThreeADay])
    assert [alice.send("k").status_code for _ in range(5)] == [201, 201, 201, 429, 429]


def test_number_of_keys_is_bounded_by_the_throttle(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, clean_cache: None
) -> None:
    monkeypatch.setattr(OrderViewSet, "throttle_classes", [ThreeADay])
    for number in range(6):
        alice.send(f"flood-{number}")
    assert IdempotencyRecord.objects.count() == 3
