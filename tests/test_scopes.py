"""Who sent a key, and to which route."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from django.urls import resolve
from django.utils.functional import SimpleLazyObject

from django_idempotency.scopes import authorization_principal, found_principal, scope_of, user_principal
from example_project.shop.models import Wallet

pytestmark = pytest.mark.once


def request(path: str = "/probe/create/", **headers: str) -> Any:
    made = RequestFactory().post(path, headers=headers)
    made.resolver_match = resolve(path)
    return made


def test_scope_is_principal_and_route() -> None:
    assert scope_of("user:1", request()) == "user:1 probe/<str:act>/"
    assert scope_of("user:1", RequestFactory().post("/unresolved/")) == "user:1 /unresolved/"
    assert scope_of("user:1", request("/probe/other/")) == scope_of("user:1", request())


def test_route_at_the_root_is_its_path() -> None:
    made = request()
    made.resolver_match.route = ""
    assert scope_of("user:1", made) == "user:1 /probe/create/"
    made.path = "/\0/"
    assert scope_of("user:1", made) == "user:1 /%00/"


@pytest.mark.parametrize("principal", ["a b", "a\nb", "ключ", "a%20b", "\udcff"])
def test_any_principal_is_one_word(principal: str) -> None:
    scope = scope_of(principal, request())
    assert scope.split(" ", 1)[1] == "probe/<str:act>/"
    assert scope.isascii()


def test_distinct_principals_stay_distinct() -> None:
    principals = [
        "a b",
        "a%20b",
        "a+b",
        "a",
        "a\n",
        "a\nb",
        "a/b",
        "a probe/<str:act>/",
        "ä",
        "a\u0308",
        "?",
        "\ud800",
        "\ud801",
    ]
    assert len({scope_of(principal, request()) for principal in principals}) == len(principals)


@pytest.mark.parametrize("user", [None, SimpleNamespace(is_authenticated=False, pk=1), SimpleNamespace()])
def test_nobody_is_nobody(user: Any) -> None:
    assert user_principal(user, request()) is None


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}])
def test_without_authorization_there_is_no_principal(headers: dict[str, str]) -> None:
    assert authorization_principal(request(**headers)) is None


def test_user_by_primary_key() -> None:
    assert user_principal(User(pk=0), request()) == "user:0"
    assert user_principal(SimpleLazyObject(lambda: User(pk=7)), request()) == "user:7"


def test_users_of_different_kinds_with_one_number_stay_distinct() -> None:
    class Device:
        is_authenticated, pk = True, 1

    class Person(Device):
        pass

    buyer: Any = Wallet(pk=1)
    buyer.is_authenticated = True
    users = [User(pk=1), Device(), Person(), buyer]
    assert [user_principal(user, request()) for user in users] == [
        "user:1",
        f"{Device.__qualname__.lower()}:1",
        f"{Person.__qualname__.lower()}:1",
        "shop.wallet:1",
    ]


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "NoneType"), ("", "an empty str"), (7, "int"), (b"a", "bytes")]
)
def test_principal_that_tells_nothing_apart_is_an_error(value: Any, kind: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"scope of a request must be a str.*returned {kind}"):
        scope_of(value, request())


def test_user_without_a_primary_key_is_told_apart_by_authorization_or_not_at_all() -> None:
    service = SimpleNamespace(is_authenticated=True, pk=None)
    one, other = request(Authorization="Bearer one"), request(Authorization="Bearer other")
    assert user_principal(service, one) == authorization_principal(one) != user_principal(service, other)
    assert "one" not in str(user_principal(service, one)).partition(":")[2]
    with pytest.raises(ImproperlyConfigured, match="SCOPE"):
        user_principal(service, request())


def test_user_of_another_kind_that_is_called_user_is_not_django_s() -> None:
    """A project may make its own from a token."""
    user = type("User", (), {"is_authenticated": True, "pk": 1})()
    assert user_principal(user, request()) == f"{__name__}.user:1"


@pytest.mark.parametrize(
    "found",
    [
        (User(pk=1), "tenant"),
        {"who": [User(pk=1)]},
        {"scopes": {"read", "write"}},
        frozenset("ab"),
        True,
        object(),
    ],
    ids=["row", "nested-row", "set", "frozenset", "yes", "object"],
)
def test_what_may_look_alike_or_different_is_told_apart_by_authorization_or_not_at_all(found: Any) -> None:
    """Two rows may have one text, and a set has another order in each process."""
    one, other = request(Authorization="Bearer one"), request(Authorization="Bearer other")
    assert found_principal(found, one) == authorization_principal(one) != found_principal(found, other)
    with pytest.raises(ImproperlyConfigured, match="SCOPE"):
        found_principal(found, request())


class Shy(dict[str, Any]):
    """Claims that show nothing of themselves in a log."""

    def __repr__(self) -> str:
        return "<claims>"


def test_claims_are_told_apart_without_a_header() -> None:
    claims: list[Any] = [
        {"sub": 1, "aud": ["a", None, 1.5]},
        {"sub": 2, "aud": ["a", None, 1.5]},
        ("key", 1),
        b"key",
        "key",
    ]
    claims += [Shy(sub=1), Shy(sub=2)]
    assert len({found_principal(found, request()) for found in claims}) == len(claims)
