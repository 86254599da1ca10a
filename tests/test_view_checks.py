"""What a view says for itself is held to the rules of the settings, and nothing is said in vain."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.test import override_settings
from django.urls import path
from django.views import View
from rest_framework.decorators import action
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.rest_framework.hooks import IdempotencyHooks
from django_idempotency.view_checks import ATTRIBUTES, check_attributes

pytestmark = pytest.mark.once

WRONG: dict[str, list[Any]] = {
    "idempotency_required": ["yes", 1],
    "idempotency_methods": ["POST", ["post"], ["PSOT"]],
    "idempotency_retention": ["1d", 0, -1, True],
    "idempotency_wait_seconds": ["x", -1, True],
    "idempotency_ignore_fields": ["trace", [1]],
    "idempotency_store_body": ["no", 0],
}
RIGHT: dict[str, list[Any]] = {
    "idempotency_required": [True, None, property(lambda self: True)],
    "idempotency_methods": [["PUT"], ("POST",)],
    "idempotency_retention": [60, timedelta(days=7)],
    "idempotency_wait_seconds": [0, 2.5],
    "idempotency_ignore_fields": [[], ["trace"]],
    "idempotency_store_body": [False],
}


def told(*views: Any) -> list[CheckMessage]:
    """Return what the check says of a site that has these views."""
    patterns = [path(f"{number}/", view) for number, view in enumerate(views)]
    with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": patterns})):
        return check_attributes(None)


def view(**said: Any) -> Any:
    return type("Payments", (IdempotencyMixin, ViewSet), said)


def pay(self: Any, request: Any) -> None:
    """Do nothing, as an action of a ViewSet."""


def pairs(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name in values for value in values[name]]


def test_every_attribute_has_a_rule() -> None:
    own = {name for name in vars(IdempotencyHooks) if name.startswith("idempotency_")}
    assert own == set(ATTRIBUTES) == set(WRONG) == set(RIGHT)


@pytest.mark.parametrize(("name", "value"), pairs(WRONG))
def test_e008_attribute_of_the_wrong_kind_is_an_error(name: str, value: Any) -> None:
    (message,) = told(view(**{name: value}).as_view({"post": "create"}))
    assert (message.id, message.is_serious()) == ("django_idempotency.E008", True)
    assert f"Payments.{name} has a value that cannot be used: {value!r}" in message.msg
    assert "Set it to " in str(message.hint)


@pytest.mark.parametrize(("name", "value"), pairs(RIGHT))
def test_e008_attribute_of_the_right_kind_is_none(name: str, value: Any) -> None:
    assert told(view(**{name: value}).as_view({"post": "create"})) == []


def test_e008_says_one_thing_once_and_sees_what_as_view_is_given() -> None:
    made = view(idempotency_required="yes")
    assert len(told(*(made.as_view({"post": each}) for each in ("create", "pay")))) == 1
    (message,) = told(view().as_view({"post": "create"}, idempotency_retention="1d"))
    assert message.id == "django_idempotency.E008"
    router = SimpleRouter()
    router.register("x", view(pay=action(detail=False, idempotency_required="yes")(pay)), "x")
    with override_settings(ROOT_URLCONF=type("urls", (), {"urlpatterns": router.urls})):
        assert [each.id for each in check_attributes(None)] == ["django_idempotency.E008"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("idempotency_requred", "Did you mean 'idempotency_required'?"),
        ("idempotency_method", "Did you mean 'idempotency_methods'?"),
        ("get_idempotency_scop", "Did you mean 'get_idempotency_scope'?"),
        ("authorize_idempotent_replays", "Did you mean 'authorize_idempotent_replay'?"),
        ("idempotency_ttl", "Known names: authorize_idempotent_replay, get_idempotency_fingerprint,"),
    ],
)
def test_w005_name_that_nothing_reads_is_a_warning_with_the_one_that_was_meant(name: str, hint: str) -> None:
    (message,) = told(view(**{name: True}).as_view({"post": "create"}))
    assert (message.id, message.is_serious()) == ("django_idempotency.W005", False)
    assert f"Payments.{name}" in message.msg
    assert hint in str(message.hint)


def test_w005_attribute_without_the_mixin_is_in_vain() -> None:
    """The middleware does not read it either: it guards by a subclass in front."""
    plain = type("Plain", (View,), {"idempotency_required": True, "idempotency_partner": 1})
    (message,) = told(plain.as_view())
    assert (message.id, "Plain.idempotency_required" in message.msg) == ("django_idempotency.W005", True)
    assert "Put IdempotencyMixin in front" in str(message.hint)


def test_hooks_and_marks_are_no_finding() -> None:
    own = view(get_idempotency_key=lambda self, request: "k", idempotency_required=True, _idempotency_own=1)
    assert told(own.as_view({"post": "create"}), idempotent(own.as_view({"post": "create"}))) == []
    assert told(idempotency_exempt(own).as_view({"post": "create"})) == []


def test_project_without_urls_is_told_nothing(settings: Any) -> None:
    del settings.ROOT_URLCONF
    assert check_attributes(None) == []
