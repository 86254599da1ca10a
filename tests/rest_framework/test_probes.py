"""Probes of somebody who is not, or no longer, the caller of a record: never its answer, nor a hint of it."""

from __future__ import annotations

import random
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from rest_framework.permissions import BasePermission
from rest_framework.throttling import BaseThrottle, UserRateThrottle

from django_idempotency.models import IdempotencyRecord
from example_project.shop.api import OrderViewSet
from example_project.shop.models import Order
from tests.factories import ProductFactory, TokenFactory

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("atomic_requests"),
    pytest.mark.processes,
]

SECRET = "only Alice reads this"
GUESSED = ["1", "order-1", "test", "00000000-0000-0000-0000-000000000000"]


class Caller:
    """Somebody with a token, or without one."""

    def __init__(self, token: Any = None) -> None:
        self.token = token
        self.user = token.user if token else None

    def order(self, key: str, note: str = SECRET) -> Any:
        headers = {"Idempotency-Key": key} | (
            {"Authorization": f"Token {self.token.key}"} if self.token else {}
        )
        body = {"product": Caller.product, "note": note}
        return Client(headers=headers).post("/api/orders/", body, content_type="application/json")

    product = 0


@pytest.fixture
def alice() -> Caller:
    Caller.product = ProductFactory(stock=100_000).pk
    return Caller(TokenFactory())


@pytest.fixture
def bob() -> Caller:
    return Caller(TokenFactory())


def untouched(alice: Caller, key: str, first: Any) -> None:
    """Assert that Alice's record still answers, and is the only one of its key that is hers."""
    retry = alice.order(key)
    assert (retry.status_code, retry.content) == (201, first.content)
    assert retry.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("key", [*GUESSED, "8e03978e-40d5-43dd-bc93-6894a57f9324"])
def test_key_of_another_user_looks_unused(alice: Caller, bob: Caller, key: str) -> None:
    first = alice.order(key)
    probe, unused = bob.order(key, "mine"), bob.order("never-used", "mine")
    assert probe.status_code == unused.status_code == 201
    assert set(probe.headers) == set(unused.headers)
    assert probe.json().keys() == unused.json().keys()
    assert probe.json()["note"] == "mine"
    assert Order.objects.filter(user=alice.user).count() == 1
    untouched(alice, key, first)


def test_same_request_with_the_same_key_is_another_users_own(alice: Caller, bob: Caller) -> None:
    first, probe = alice.order("k"), bob.order("k")
    assert probe.json()["id"] != first.json()["id"]
    assert "Idempotent-Replayed" not in probe.headers
    untouched(alice, "k", first)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_gets_the_same_refusal_for_a_used_and_an_unused_key(alice: Caller, token: str | None) -> None:
    first = alice.order("k")
    nobody = Caller(TokenFactory.build(key=token) if token else None)
    probe, unused = nobody.order("k"), nobody.order("never-used")
    assert probe.status_code == unused.status_code == 401
    assert probe.content == unused.content
    assert SECRET.encode() not in probe.content
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
    alice.order("k")
    before = IdempotencyRecord.objects.values().get()
    lose(alice, monkeypatch)
    probe, unused = alice.order("k"), alice.order("never-used")
    assert probe.status_code == unused.status_code == status
    assert SECRET.encode() not in probe.content
    assert "Idempotent-Replayed" not in probe.headers
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
    assert [alice.order("k").status_code for _ in range(5)] == [201, 201, 201, 429, 429]


def test_number_of_keys_is_bounded_by_the_throttle(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, clean_cache: None
) -> None:
    monkeypatch.setattr(OrderViewSet, "throttle_classes", [ThreeADay])
    for number in range(6):
        alice.order(f"flood-{number}")
    assert IdempotencyRecord.objects.count() == 3


PROBES = 150


def shown_by_time(used: list[float], unused: list[float]) -> float:
    """Return how often a probe of a used key took longer than one of an unused key: 0.5 tells nothing, 0 or 1 all."""
    ordered = sorted(unused)
    longer = sum((bisect_left(ordered, one) + bisect_right(ordered, one)) / 2 for one in used)
    return longer / (len(used) * len(unused))


def test_time_does_not_tell_a_key_that_another_used_from_an_unused_one(
    alice: Caller, bob: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(PROBES):
        alice.order(f"used-{number}")
    probes = [f"{kind}-{number}" for number in range(PROBES) for kind in ("used", "none")]
    random.shuffle(probes)
    took: dict[str, list[float]] = {"used": [], "none": [], "warm": []}
    for key in [*(f"warm-{number}" for number in range(20)), *probes]:
        started = time.perf_counter()
        assert bob.order(key).status_code == 201
        took[key.partition("-")[0]].append(time.perf_counter() - started)
    told = shown_by_time(took["used"], took["none"])
    middle = {kind: statistics.median(times) * 1000 for kind, times in took.items()}
    with capsys.disabled():
        print(
            f"\n{PROBES} probes each: used key {middle['used']:.2f} ms, unused {middle['none']:.2f} ms (medians); "
            f"a used one took longer in {told:.0%} of all pairs"
        )
    assert 0.35 < told < 0.65  # chance alone: 0.5 with a standard error of 0.033
