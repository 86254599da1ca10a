"""Probes of another user's key through the doors for Django's own views."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.doors.urls")]

DOORS = [
    "doors/function",
    "doors/async-function",
    "doors/handler",
    "doors/method-decorator",
    "doors/as-view",
    "doors/async-as-view",
    "doors/async-handler",
    "site/site-function",
    "site/site-async-function",
    "site/site-class",
    "site/site-async-class",
]


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"]}


def sent(client: Client, door: str) -> Any:
    return client.post(f"/{door}/201/", {"a": 1}, headers={"Idempotency-Key": "order-1"})


@pytest.mark.parametrize("door", DOORS)
def test_key_of_another_user_is_never_answered_with_the_first_ones_body(door: str) -> None:
    alice, bob, nobody = Client(), Client(), Client()
    owner = UserFactory()
    alice.force_login(owner)
    bob.force_login(UserFactory())
    first = sent(alice, door)
    for other in (bob, nobody):
        probe = sent(other, door)
        assert probe.status_code == 201
        assert "Idempotent-Replayed" not in probe.headers
        assert probe.json() != first.json()
    assert sent(alice, door).content == first.content
    owner.delete()
    deleted = sent(alice, door)
    assert deleted.json() != first.json()
