"""Checks of what stands beside this app; the recipe for CORS is tried with django-cors-headers itself."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import Client

from django_idempotency import encryption
from django_idempotency.neighbour_checks import check_cache
from tests.test_docs import TOP, blocks

pytestmark = [pytest.mark.django_db, pytest.mark.once]

ORIGIN = "https://shop.example"


@pytest.fixture
def cors(settings: Any) -> Any:
    """Install django-cors-headers, as it is by default, for one origin."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    return settings


def messages() -> dict[str, CheckMessage]:
    found = [message for message in run_checks() if (message.id or "").startswith("django_idempotency.")]
    return {str(message.id).partition(".")[2]: message for message in found}


def use_the_recipe(settings: Any) -> None:
    (block,) = [
        block
        for block in blocks(TOP / "docs/guide/choosing-settings.md", "python")
        if "CORS_ALLOW_HEADERS" in block
    ]
    names: dict[str, Any] = {}
    exec(compile(block, "choosing-settings.md", "exec"), names)
    settings.CORS_ALLOW_HEADERS = names["CORS_ALLOW_HEADERS"]
    settings.CORS_EXPOSE_HEADERS = names["CORS_EXPOSE_HEADERS"]


def test_cors_headers_by_default_get_two_warnings_that_say_what_to_add(cors: Any) -> None:
    found = messages()
    assert set(found) == {"W101", "W102"}
    assert 'CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key"]' in str(found["W101"].hint)
    assert found["W102"].hint == (
        "Add to CORS_EXPOSE_HEADERS: 'Idempotent-Replayed', 'Idempotent-Body-Omitted', 'Retry-After'."
    )
    assert not any(message.is_serious() for message in found.values())


def test_recipe_of_the_guide_leaves_nothing_to_warn_of(cors: Any) -> None:
    use_the_recipe(cors)
    assert messages() == {}


def test_only_what_is_missing_is_named_and_case_does_not_count(cors: Any) -> None:
    use_the_recipe(cors)
    cors.CORS_ALLOW_HEADERS = ["IDEMPOTENCY-KEY"]
    cors.CORS_EXPOSE_HEADERS = ["idempotent-replayed", "idempotent-body-omitted"]
    found = messages()
    assert {number: message.hint for number, message in found.items()} == {
        "W102": "Add to CORS_EXPOSE_HEADERS: 'Retry-After'."
    }


def test_names_of_the_settings_count(cors: Any) -> None:
    use_the_recipe(cors)
    cors.IDEMPOTENCY = {"HEADER": ["X-Key", "X-Other"], "REPLAY_HEADER": "X-Replayed"}
    assert '"x-key"' in str(messages()["W101"].hint)
    assert "'X-Replayed'" in str(messages()["W102"].hint)
    cors.CORS_ALLOW_HEADERS = ["x-other"]
    assert "W101" not in messages()


def test_project_without_cors_headers_is_told_nothing(settings: Any) -> None:
    settings.CORS_ALLOW_HEADERS = settings.CORS_EXPOSE_HEADERS = []
    assert messages() == {}


@pytest.mark.parametrize(
    ("value", "number"),
    [(None, "E001"), ("RETENTION", "E001"), ({"HEADER": 1}, "E002"), ({"REPLAY_HEADER": 1}, "E002")],
)
def test_settings_that_cannot_be_used_are_another_checks_matter(cors: Any, value: Any, number: str) -> None:
    cors.IDEMPOTENCY = value
    assert set(messages()) == {number}


def test_browser_of_another_origin_may_send_the_key_and_read_the_replay(cors: Any) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "idempotency-key",
    }
    preflight = Client(headers=asked).options("/probe/create/")
    assert "idempotency-key" not in preflight.headers["Access-Control-Allow-Headers"]
    use_the_recipe(cors)
    preflight = Client(headers=asked).options("/probe/create/")
    assert "idempotency-key" in preflight.headers["Access-Control-Allow-Headers"]
    client = Client(headers={"Origin": ORIGIN, "Idempotency-Key": "k"})
    answers = [client.post("/probe/create/", b"{}", content_type="application/json") for _ in range(2)]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Idempotent-Replayed" in answer.headers["Access-Control-Expose-Headers"]
    assert answers[1].headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("django.core.cache.backends.redis.RedisCache", set()),
        ("django_redis.cache.RedisCache", set()),
        ("django_valkey.cache.ValkeyCache", set()),
        ("django.core.cache.backends.db.DatabaseCache", {"E102"}),
        ("django.core.cache.backends.filebased.FileBasedCache", {"E102"}),
        ("django.core.cache.backends.locmem.LocMemCache", {"W103"}),
        ("django.core.cache.backends.dummy.DummyCache", {"W104"}),
    ],
)
def test_backend_of_the_replay_cache(settings: Any, backend: str, expected: set[str]) -> None:
    settings.CACHES = {"replays": {"BACKEND": backend, "LOCATION": "redis://localhost"}}
    settings.IDEMPOTENCY = {"CACHE": "replays"}
    found = messages()
    assert set(found) == expected
    assert all("eave CACHE out" in str(message.hint) for message in found.values())


def test_alias_of_the_replay_cache_that_is_in_no_caches(settings: Any) -> None:
    settings.IDEMPOTENCY = {"CACHE": "replay"}
    found = messages()
    assert set(found) == {"E002"}
    assert "an alias of CACHES, or None" in str(found["E002"].hint)


def test_backend_that_cannot_be_imported_is_an_error_and_no_traceback(settings: Any) -> None:
    """Of this check; one of Django's own raises then."""
    settings.CACHES = {"replays": {"BACKEND": "django_reddis.cache.RedisCache"}}
    settings.IDEMPOTENCY = {"CACHE": "replays"}
    assert [message.id for message in check_cache(None)] == ["django_idempotency.E102"]


@pytest.mark.parametrize("keys", [["A" * 43 + "="], ["no key"], "no list"])
def test_package_that_is_missing_comes_before_the_form_of_the_keys(
    settings: Any, monkeypatch: pytest.MonkeyPatch, keys: Any
) -> None:
    """The hint on their form needs the package to make one."""
    monkeypatch.setattr(encryption, "find_spec", lambda name: None)
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": keys}
    found = messages()
    assert set(found) == {"E101"}
    assert "Install the package cryptography" in str(found["E101"].hint)
    settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": None}
    assert set(messages()) == {"E002"}
