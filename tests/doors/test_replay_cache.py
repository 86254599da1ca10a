"""Every door with the replay cache on: a hit, another payload, another caller, and one who may no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as project
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponseForbidden
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.views import APIView

from tests import servers
from tests.caching import use
from tests.doors.conftest import MIDDLEWARE, Door, replayed
from tests.views import effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

DRF = {
    "mixin", "drf-handler", "drf-as-view", "above-api-view", "below-api-view", "action-below", "action-above",
    "mixin-and-action", "mixin-and-decorator", "site-drf", "site-viewset", "site-api-view", "site-mixin",
}  # fmt: skip


def deny(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Turn away whom the site has locked out."""

    def middleware(request: HttpRequest) -> Any:
        return HttpResponseForbidden() if "X-Locked-Out" in request.headers else get_response(request)

    return middleware


def refuse(view: APIView, request: Any) -> None:
    """Do what DRF's permissions do for a caller who lost one."""
    if "X-Revoked" in request.headers:
        raise PermissionDenied


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with servers.redis() as path:
        yield path


@pytest.fixture(autouse=True)
def cached(doors: None, place: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MIDDLEWARE = [*project.MIDDLEWARE[:-1], f"{__name__}.deny", MIDDLEWARE]
    use(settings, place, SCOPE=lambda request: request.headers["X-Caller"])
    monkeypatch.setattr(APIView, "check_permissions", refuse)


def send(door: Door, payload: Any = 1, caller: str = "alice", **headers: str) -> tuple[Any, int]:
    """Return the answer, and how many statements the database got."""
    headers |= {"Idempotency-Key": door.name, "X-Caller": caller}
    path = reverse(door.name, args=["201"])
    with CaptureQueriesContext(connection) as captured:
        answer = Client().post(path, json.dumps(payload), "application/json", headers=headers)
    return answer, len(captured)


def test_hit_costs_no_statement_and_is_for_whoever_may_have_it(door: Door) -> None:
    first, _ = send(door)
    retry, statements = send(door)
    assert (first.status_code, replayed(first), effects()) == (201, False, 1)
    assert (retry.status_code, retry.content, replayed(retry), statements) == (201, first.content, True, 0)
    assert send(door, payload=2)[0].status_code == 422
    revoked, _ = send(door, **{"X-Revoked" if door.name in DRF else "X-Locked-Out": "1"})
    assert (revoked.status_code, first.content in revoked.content) == (403, False)
    other, _ = send(door, caller="bob")
    assert (other.status_code, replayed(other), other.content != first.content) == (201, False, True)
    assert effects() == 2
