"""Callers are told apart by what the authentication found, and a hook that tells nothing is an error, not a scope."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin
from tests.views import effect, effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


class ClientCredentials(BaseAuthentication):
    """Finds an application, which stands for no user."""

    def authenticate(self, request: Any) -> tuple[None, Any] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        kind, _, name = header.partition(" ")
        found = {"Plain": name, "Yes": True}.get(kind) or type("Application", (), {"name": name})()
        return (None, found) if name else None


class HasToken(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.auth is not None


class Applications(IdempotencyMixin, APIView):
    authentication_classes = (ClientCredentials,)
    permission_classes = (HasToken,)

    def post(self, request: Any) -> Response:
        return Response({"number": effect(), "caller": request.META["HTTP_AUTHORIZATION"]}, status=201)


class Anybody(IdempotencyMixin, APIView):
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Any) -> Response:
        return Response({"number": effect()}, status=201)


class OnlyYes(BaseAuthentication):
    def authenticate(self, request: Any) -> tuple[AnonymousUser, bool]:
        return AnonymousUser(), True


class Yes(Anybody):
    authentication_classes = (OnlyYes,)


class Silent(Anybody):
    """Says nothing where it should tell callers or payloads apart."""

    def get_idempotency_scope(self, request: Any) -> Any:
        return request.META.get("HTTP_X_SCOPE")

    def get_idempotency_fingerprint(self, request: Any) -> Any:
        return request.META.get("HTTP_X_FINGERPRINT")


urlpatterns = [
    path("applications/", Applications.as_view()),
    path("anybody/", Anybody.as_view()),
    path("yes/", Yes.as_view()),
    path("silent/", Silent.as_view()),
]


def send(url: str, **headers: str) -> Any:
    headers |= {"Idempotency-Key": "k"}
    return Client(headers=headers).post(url, b"{}", content_type="application/json")


@pytest.mark.parametrize("kind", ["Plain", "Object"])
def test_applications_without_a_user_are_told_apart_by_their_tokens(kind: str) -> None:
    first, second = (send("/applications/", Authorization=f"{kind} {name}").json() for name in "ab")
    assert (first["caller"], second["caller"], effects()) == (f"{kind} a", f"{kind} b", 2)
    again = send("/applications/", Authorization=f"{kind} a")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first, "true")


def test_authentication_that_only_says_yes_tells_nothing() -> None:
    for header in ("Yes a", "Yes b", "Yes a"):
        assert send("/applications/", Authorization=header).status_code == 201
    assert effects() == 2
    first, again = (send("/yes/") for _ in range(2))
    assert (again.headers["Idempotent-Replayed"], again.json()) == ("true", first.json())


def test_who_is_not_authenticated_is_told_apart_by_authorization() -> None:
    """As at a plain door: a permission may read a key there that no authentication knows."""
    for header in ("Api-Key a", "Api-Key b", "Api-Key a"):
        send("/anybody/", Authorization=header)
    assert effects() == 2


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"X-Scope": "s"}, "fingerprint"),
        ({"X-Fingerprint": "f"}, "scope"),
        ({"X-Scope": "", "X-Fingerprint": "f"}, "scope"),
    ],
)
def test_hook_that_returns_nothing_is_an_error(headers: dict[str, str], what: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"The {what}"):
        send("/silent/", **headers)
    assert effects() == 0
    assert send("/silent/", **{"X-Scope": "s", "X-Fingerprint": "f"}).status_code == 201


@pytest.mark.parametrize(("name", "what"), [("SCOPE", "scope"), ("FINGERPRINT", "fingerprint")])
@pytest.mark.parametrize("url", ["/anybody/", "/probe/create/"])
def test_setting_that_returns_nothing_is_an_error(name: str, what: str, url: str, settings: Any) -> None:
    settings.IDEMPOTENCY = {name: lambda request: request.META.get("HTTP_X_TENANT")}
    settings.ROOT_URLCONF = "tests.urls" if url.startswith("/probe/") else settings.ROOT_URLCONF
    with pytest.raises(ImproperlyConfigured, match=f"The {what}.*returned NoneType"):
        send(url)
    assert send(url, **{"X-Tenant": "t"}).status_code == 201
