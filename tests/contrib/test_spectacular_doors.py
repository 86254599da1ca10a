"""The OpenAPI schema of operations that a decorator or the middleware guards."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import clear_script_prefix, path, set_script_prefix

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.middleware import IdempotencyMiddleware
from tests.contrib.test_spectacular import header, schema_of
from tests.doors import views

pytestmark = pytest.mark.once

DOORS = {
    "handler": views.ApiHandler.as_view(),
    "as-view": idempotent(views.Api.as_view()),
    "above-api-view": idempotent(views.api_function(lambda view: view)),
    "below-api-view": views.api_function(idempotent),
    "action-below": views.ApiSet.as_view({"post": "below"}),
    "action-above": views.ApiSet.as_view({"post": "above"}),
    "mixin-and-action": views.GuardedSet.as_view({"post": "below"}),
}


def operation(view: Any) -> dict[str, Any]:
    found: dict[str, Any] = schema_of(path("x/<act>/", view))["paths"]["/x/{act}/"]["post"]
    return found


@pytest.mark.parametrize("door", DOORS)
def test_door_is_described(door: str) -> None:
    found = operation(DOORS[door])
    assert header(found)
    assert {"400", "409", "422", "503"} <= set(found["responses"])


def test_unmarked_operation_beside_a_marked_one_is_left_alone() -> None:
    assert "dempoten" not in str(operation(views.ApiSet.as_view({"post": "create"})))


def test_options_of_the_decorator_are_followed() -> None:
    view = idempotent(required=True, retention=90, store_body=False)(views.Api.as_view())
    found = operation(view)
    parameter = header(found)
    assert parameter is not None
    assert parameter["required"]
    assert "90 seconds" in found["description"]
    assert "Idempotent-Body-Omitted" in found["responses"]["200"]["headers"]
    assert header(operation(idempotent(key=str)(views.Api.as_view()))) is None
    assert "dempoten" not in str(operation(idempotent(methods=["PUT"])(views.Api.as_view())))


@pytest.mark.parametrize(("under", "guarded"), [("/x", True), ("/other", False)])
def test_middleware_is_described_on_its_paths(settings: Any, under: str, guarded: bool) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django_idempotency.middleware.IdempotencyMiddleware"]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": [under]}
    assert bool(header(operation(views.Api.as_view()))) == guarded
    assert "dempoten" not in str(operation(idempotency_exempt(views.Api.as_view())))


class Own(IdempotencyMiddleware):
    pass


def test_subclass_of_the_middleware_is_described_too(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.Own"]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/x"]}
    assert header(operation(views.Api.as_view()))


@pytest.mark.parametrize(
    "under_a_prefix",
    [
        {"FORCE_SCRIPT_NAME": "/shop"},
        {"SPECTACULAR_SETTINGS": {"SCHEMA_PATH_PREFIX": "/x", "SCHEMA_PATH_PREFIX_TRIM": True}},
        {"SPECTACULAR_SETTINGS": {"SCHEMA_PATH_PREFIX_INSERT": "/shop"}},
    ],
    ids=["FORCE_SCRIPT_NAME", "TRIM", "INSERT"],
)
def test_paths_of_the_middleware_are_those_of_the_urls_whatever_the_schema_makes_of_them(
    settings: Any, under_a_prefix: dict[str, Any]
) -> None:
    """MIDDLEWARE_PATHS count neither the prefix that a server mounts a project under, nor one of the schema."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django_idempotency.middleware.IdempotencyMiddleware"]
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/x"]}
    for name, value in under_a_prefix.items():
        setattr(settings, name, value)
    if script := under_a_prefix.get("FORCE_SCRIPT_NAME"):
        set_script_prefix(f"{script}/")
    try:
        patterns = path("x/<act>/", views.Api.as_view()), path("y/<act>/", views.Api.as_view())
        found = schema_of(*patterns)["paths"]
    finally:
        clear_script_prefix()
    (guarded,) = [where for where, methods in found.items() if header(methods["post"])]
    assert not guarded.endswith("y/{act}/")
    assert len(found) == 2
