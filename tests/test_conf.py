"""Settings are read when they are asked for."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import override_settings

from django_idempotency.conf import Conf, Defaults, conf
from django_idempotency.http import snapshot_of

pytestmark = pytest.mark.once

DEFAULTS = {
    "REQUIRED": False, "METHODS": ["POST", "PATCH"], "RETENTION": 86400, "SCOPE": None, "FINGERPRINT": None,
    "FINGERPRINT_IGNORE": ["csrfmiddlewaretoken", "idempotency_key"], "HEADER": ["Idempotency-Key"],
    "KEY_FORMAT": "lenient",
    "KEY_MAX_LENGTH": 255, "KEY_VALIDATOR": None, "STORE": None, "STORE_BODY": True, "STORE_REQUEST_PAYLOAD": True,
    "MAX_BODY_BYTES": 1048576, "RETRIES": 2, "RETRY_AFTER": 1, "RETRY_HINTS": True,
    "REPLAY_HEADER": "Idempotent-Replayed", "ERROR_FORMAT": "problem", "DOCUMENTATION_URL": None, "DATABASE": None,
    "WAIT_SECONDS": 0, "MIDDLEWARE_PATHS": [], "ENCRYPTION_KEYS": [],
    "CLAIM": "auto",
    "ADMIN": True, "CACHE": None, "COUNT_REPLAYS": True, "PURGE_AFTER_REQUESTS": 0,
}  # fmt: skip


@override_settings(IDEMPOTENCY={})
def test_defaults() -> None:
    assert {name: getattr(conf, name) for name in DEFAULTS} == DEFAULTS
    assert set(Defaults.__annotations__) == DEFAULTS.keys() | {"REDACT", "RESPONSE_HEADERS"}
    assert "Set-Cookie" not in conf.RESPONSE_HEADERS


def test_project_without_the_setting_has_the_defaults() -> None:
    with override_settings(IDEMPOTENCY={"RETRIES": 9}):
        del settings.IDEMPOTENCY
        assert conf.RETRIES == 2


def test_override_is_seen_at_once_and_leaves_the_rest_alone() -> None:
    usual = conf.RETRIES
    with override_settings(IDEMPOTENCY={"RETRIES": 7}):
        assert (conf.RETRIES, Conf().RETRIES, conf.RETRY_AFTER) == (7, 7, 1)
    assert usual == conf.RETRIES


def test_change_within_the_setting_is_seen_at_once() -> None:
    with override_settings(IDEMPOTENCY={"RETRIES": 7}):
        settings.IDEMPOTENCY["RETRIES"] = 8
        assert conf.RETRIES == 8
        del settings.IDEMPOTENCY["RETRIES"]
        assert conf.RETRIES == 2


def test_headers_that_are_stored_follow_the_setting() -> None:
    response = HttpResponse(headers={"Content-Type": "a/b", "ETag": "x", "Set-Cookie": "c"})
    names: list[str] = []

    def stored() -> list[str]:
        return [name for name, _ in snapshot_of(response, keep_body=True).headers]

    with override_settings(IDEMPOTENCY={"RESPONSE_HEADERS": names}):
        assert stored() == []
        names.extend(["etag", "set-cookie"])
        assert stored() == ["ETag"]
    assert stored() == ["Content-Type", "ETag"]


@override_settings(
    IDEMPOTENCY={"REQUIRED": False, "DATABASE": None, "RETENTION": 0, "hook": "x", "_NAMES": 1}
)
def test_falsy_values_count_and_unknown_names_do_not() -> None:
    assert (conf.REQUIRED, conf.DATABASE, conf.RETENTION) == (False, None, 0)
    assert callable(conf.hook)
    assert not hasattr(conf, "UNKNOWN")


@pytest.mark.parametrize(("own", "value"), [(None, 7), (0, 0), (False, False), ([], []), (5, 5)])
def test_view_is_preferred_unless_it_says_nothing(own: object, value: object) -> None:
    with override_settings(IDEMPOTENCY={"RETRIES": 7}):
        assert conf.prefer(own, "RETRIES") == value


@pytest.mark.parametrize(
    ("value", "found"), [(None, None), ("collections.OrderedDict", OrderedDict), (len, len)]
)
def test_hook_is_a_callable_or_its_dotted_path(value: object, found: object) -> None:
    with override_settings(IDEMPOTENCY={"SCOPE": value}):
        assert conf.hook("SCOPE") is found


@override_settings(IDEMPOTENCY={"SCOPE": "nowhere.at_all"})
def test_dotted_path_to_nothing_is_an_error() -> None:
    with pytest.raises(ImportError):
        conf.hook("SCOPE")
