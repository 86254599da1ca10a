"""Probes of another's key through every door but the shop's, which has its own in tests/rest_framework."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from django_idempotency.execution import execute_once
from django_idempotency.models import IdempotencyRecord
from tests.doors import probe_urls
from tests.factories import TokenFactory, UserFactory
from tests.probes import (
    GUESSED,
    Caller,
    looks_unused,
    refused_alike,
    replayed,
    same_request_is_ones_own,
    time_tells_nothing,
)
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.doors.probe_urls")]

PLAIN = [
    "/doors/function/201/",
    "/doors/async-function/201/",
    "/doors/handler/201/",
    "/doors/method-decorator/201/",
    "/doors/as-view/201/",
    "/doors/async-as-view/201/",
    "/doors/async-handler/201/",
    "/site/site-function/201/",
    "/site/site-async-function/201/",
    "/site/site-class/201/",
    "/site/site-async-class/201/",
]
FRAMEWORKS = [
    *(f"/doors/{name}/" for name in probe_urls.DOORS),
    *(f"/site/{name}/" for name in probe_urls.UNDER_MIDDLEWARE),
    "/ninja/sync/",
    "/ninja/async/",
]


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"]}
    probe_urls.CLOSED.clear()


def somebody(path: str) -> Caller:
    """Give a caller of their own, with whatever the door knows callers by."""
    return Caller(path, user=UserFactory()) if path in PLAIN else Caller(path, TokenFactory())


@pytest.mark.parametrize("path", [*PLAIN, *FRAMEWORKS])
def test_another_users_key_looks_unused_however_easily_it_is_guessed(path: str) -> None:
    alice, bob = somebody(path), somebody(path)
    for key in GUESSED:
        looks_unused(alice, bob, key)
    same_request_is_ones_own(alice, bob, "k")


@pytest.mark.parametrize("path", PLAIN)
def test_nobody_and_the_deleted_are_strangers_to_the_record(path: str) -> None:
    alice = somebody(path)
    same_request_is_ones_own(alice, Caller(path), "k")
    first = alice.send("k")
    alice.user.delete()
    assert alice.send("k").json()["id"] != first.json()["id"]


def deactivate(caller: Caller) -> None:
    caller.user.is_active = False
    caller.user.save()


LOST: dict[str, tuple[Callable[[Caller], object], int]] = {
    "throttled": (lambda caller: probe_urls.CLOSED.add("throttle"), 429),
    "permission revoked": (lambda caller: probe_urls.CLOSED.add("permission"), 403),
    "deactivated": (deactivate, 401),
    "logged out": (lambda caller: caller.token.delete(), 401),
    "deleted": (lambda caller: caller.user.delete(), 401),
}


@pytest.mark.parametrize("path", FRAMEWORKS)
def test_whoever_has_no_access_or_has_lost_it_is_refused_as_with_an_unused_key(path: str) -> None:
    for lose, status in LOST.values():
        alice = somebody(path)
        alice.send("k")
        lose(alice)
        refused_alike(alice, "k", status)
        probe_urls.CLOSED.clear()
    refused_alike(Caller(path), "k", 401)
    refused_alike(Caller(path, TokenFactory.build(key="wrong")), "k", 401)
    assert effects() == IdempotencyRecord.objects.completed().count() == len(LOST)


def test_another_scopes_key_looks_unused_to_code_outside_http() -> None:
    for key in GUESSED:
        first = execute_once(effect, key=key, scope="customer:1")
        other = execute_once(effect, key=key, scope="customer:2", fingerprint="another")
        assert other != first == execute_once(effect, key=key, scope="customer:1")


# Time

KINDS = {
    "IdempotencyMixin": "/doors/mixin/",
    "@idempotent on a plain view": "/doors/function/201/",
    "@idempotent on a DRF method": "/doors/drf-handler/",
    "@idempotent on an @action": "/doors/action-below/",
    "@idempotent below @api_view": "/doors/below-api-view/",
    "middleware over a plain view": "/site/site-function/201/",
    "middleware over a DRF view": "/site/drf/",
    "Django Ninja": "/ninja/sync/",
}


def sent(caller: Caller, key: str) -> None:
    answer = caller.send(key)
    assert (answer.status_code, replayed(answer)) == (201, False)


@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_time_does_not_tell_a_key_that_another_used_from_an_unused_one(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = somebody(KINDS[kind]), somebody(KINDS[kind])
    time_tells_nothing(kind, partial(sent, alice), partial(sent, bob), capsys)


def called(scope: str, key: str) -> None:
    execute_once(effect, key=key, scope=scope)


@pytest.mark.processes
def test_time_does_not_tell_a_key_of_another_scope(capsys: pytest.CaptureFixture[str]) -> None:
    own, probe = partial(called, "customer:1"), partial(called, "customer:2")
    time_tells_nothing("execute_once", own, probe, capsys)
