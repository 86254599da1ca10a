"""Every system check: what raises it, and what makes it go away."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection, connections

from django_idempotency import admin as idempotency_admin
from django_idempotency.checks import HOOKS, RULES
from django_idempotency.conf import Defaults
from django_idempotency.door_checks import MIDDLEWARE
from django_idempotency.models import IdempotencyRecord

pytestmark = pytest.mark.django_db


def messages(**options: Any) -> list[CheckMessage]:
    return [
        message for message in run_checks(**options) if (message.id or "").startswith("django_idempotency.")
    ]


def ids(**options: Any) -> list[str]:
    return [str(message.id).partition(".")[2] for message in messages(**options)]


def test_example_project_has_nothing_to_correct() -> None:
    assert messages() == []


def test_project_without_settings_has_nothing_to_correct(settings: Any) -> None:
    del settings.IDEMPOTENCY
    assert messages() == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RETENTOIN", "Did you mean 'RETENTION'?"),
        ("retention", "Did you mean 'RETENTION'?"),
        ("zzz", "Known settings: REQUIRED, METHODS,"),
        (7, "Known settings:"),
    ],
)
def test_e001_unknown_name_is_an_error_with_the_name_that_was_meant(
    settings: Any, name: Any, hint: str
) -> None:
    settings.IDEMPOTENCY = {name: 1}
    (message,) = messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.E001", True)
    assert repr(name) in message.msg
    assert hint in (message.hint or "")
    settings.IDEMPOTENCY = {"RETENTION": 1}
    assert messages() == []


@pytest.mark.parametrize("value", [None, [], "RETENTION", 1])
def test_e001_is_all_that_is_said_of_settings_that_are_no_dict(settings: Any, value: Any) -> None:
    settings.IDEMPOTENCY = value
    assert ids(databases=["default"]) == ["E001"]


@pytest.mark.once
@pytest.mark.parametrize("value", [None, [], "ADMIN"])
def test_e001_settings_that_are_no_dict_get_as_far_as_the_checks(settings: Any, value: Any) -> None:
    """The admin, which is loaded before them, asks for a setting."""
    settings.IDEMPOTENCY = value
    importlib.reload(idempotency_admin)


VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "REQUIRED": ([1, "no", None], [True]),
    "METHODS": (["POST", ["post"], ["PSOT"], [1]], [["PUT"], ("POST",)]),
    "RETENTION": (
        [0, -1, True, "1 day", None, float("nan"), float("inf"), 1e12, timedelta(0), timedelta.max],
        [0.5, 3600, timedelta(days=30)],
    ),
    "FINGERPRINT_IGNORE": (["trace", [1]], [[], ["trace"]]),
    "HEADER": (
        ["", [], "Idempotency Key", "IDEMPOTENCY_KEY", ["HTTP_IDEMPOTENCY_KEY"], "Clé", ["-"], 1],
        ["X-Idempotency-Key", ["Idempotency-Key", "X-Key"]],
    ),
    "KEY_FORMAT": (["loose", None], ["strict"]),
    "KEY_MAX_LENGTH": ([0, 256, True, "9"], [1, 255]),
    "STORE_BODY": ([0, None], [False]),
    "STORE_REQUEST_PAYLOAD": ([0, None], [False]),
    "MAX_BODY_BYTES": ([-1, 1.5, None], [0]),
    "REDACT": (["password", [None]], [[]]),
    "ENCRYPTION_KEYS": (
        ["A" * 43 + "=", ["A" * 43], ["+" * 43 + "="], [b"A" * 43 + b"="]],
        [[], ["A" * 43 + "=", "-_" * 21 + "8="]],
    ),
    "RESPONSE_HEADERS": (["ETag", [None]], [["ETag"]]),
    "RETRIES": ([-1, 0.5, False], [0, 9]),
    "RETRY_AFTER": ([0, "1", True], [1, 60]),
    "RETRY_HINTS": (["yes", None], [False]),
    "REPLAY_HEADER": (["", "Replayed:", ["X-Replayed"], None], ["X-Replayed"]),
    "ERROR_FORMAT": (["xml", None], ["json"]),
    "DOCUMENTATION_URL": (
        [1, b"https://example.com", "not a url", "docs.example.com", "https://a.example/>", "/a\nb", ""],
        [None, "https://example.com/idempotency?a=1#b", "/docs/", "urn:example:idempotency"],
    ),
    "WAIT_SECONDS": ([-1, True, None, "10", 3601], [0, 2.5]),
    "MIDDLEWARE_PATHS": (
        ["/api/", ["api/"], [1], None, ["/checkout/*"], ["^/api/"], ["/api/$"], ["/a/<int:pk>/"], ["/a?"]],
        [["/"], ("/api/", "/probe")],
    ),
    "DATABASE": (["elsewhere", 1], [None, "default"]),
    "CLAIM": (["advisory", None], ["auto", "row_lock"]),
    "CACHE": (["elsewhere", 1, ["default"]], [None]),
    "ADMIN": ([0, "no", None], [False]),
    "COUNT_REPLAYS": ([1, None, "no"], [True, False]),
    "PURGE_AFTER_REQUESTS": ([-1, 1001, True, None, 1.5], [0, 200, 1000]),
}


def test_every_setting_has_a_rule_and_every_rule_its_values_here() -> None:
    assert set(RULES) | set(HOOKS) == set(Defaults.__annotations__)
    assert set(VALUES) == set(RULES)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in VALUES for value in VALUES[name][0]])
def test_e002_value_of_the_wrong_kind_is_an_error(settings: Any, name: str, value: Any) -> None:
    settings.IDEMPOTENCY = {name: value}
    (message,) = messages()
    assert message.id == "django_idempotency.E002"
    assert f"IDEMPOTENCY[{name!r}]" in message.msg
    assert (repr(value) in message.msg) == (name != "ENCRYPTION_KEYS")
    assert f"Set it to {RULES[name][1]}" in (message.hint or "")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in VALUES for value in VALUES[name][1]])
def test_e002_value_of_the_right_kind_is_none(settings: Any, name: str, value: Any) -> None:
    settings.IDEMPOTENCY = {name: value}
    if name == "MIDDLEWARE_PATHS":
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    assert messages() == []


@pytest.mark.parametrize(
    "value", ["", "scopes", "tests.nowhere.scope", ".scope", "..scope", "os.path.nothing", "os.sep", 3]
)
@pytest.mark.parametrize("name", HOOKS)
def test_e003_hook_that_cannot_be_called_is_an_error(settings: Any, name: str, value: Any) -> None:
    settings.IDEMPOTENCY = {name: value}
    (message,) = messages()
    assert message.id == "django_idempotency.E003"
    assert f"IDEMPOTENCY[{name!r}]" in message.msg
    for hook in (str, "os.path.basename", None):
        settings.IDEMPOTENCY = {name: hook}
        assert messages() == []


@pytest.mark.vendors("sqlite")
@pytest.mark.parametrize("mode", [None, "DEFERRED", ""])
def test_w001_sqlite_without_immediate_transactions_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"transaction_mode": mode} if mode != "" else {})
    (message,) = messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.W001", False)
    assert "IMMEDIATE" in (message.hint or "")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"transaction_mode": "immediate"})
    assert messages() == []


def test_e004_database_that_cannot_refuse_a_lock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "elderly")
    monkeypatch.setattr(connection.features, "has_select_for_update_nowait", False)
    (message,) = messages()
    assert message.id == "django_idempotency.E004"
    assert "'default'" in message.msg
    monkeypatch.setattr(connection.features, "has_select_for_update_nowait", True)
    assert messages() == []


#: What is missing, and what makes the message go away.
SETTINGS = {
    "I001": {
        "postgresql": {"client_connection_check_interval": ("0", "2000")},
        "mysql": {"max_statement_time": ("0", "2000")},
    },
    "I002": {
        "postgresql": {
            "idle_in_transaction_session_timeout": ("0", "2000"),
            "transaction_timeout": ("0", "20000"),
        },
        "mysql": {
            "idle_transaction_timeout": ("0", "20"),
            "idle_write_transaction_timeout": ("0", "20"),
        },
    },
    "I003": {
        "postgresql": {"synchronous_commit": ("off", "local")},
        "mysql": {"GLOBAL innodb_flush_log_at_trx_commit": ("2", "1")},
    },
}


def configure(name: str, value: str) -> None:
    """Change the server's setting, for this session where it can be."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET {name} = {value}")


@pytest.mark.vendors("postgresql", "mysql")
@pytest.mark.parametrize("number", SETTINGS)
def test_server_that_is_open_to_an_accident_is_told_the_setting(number: str) -> None:
    choices = SETTINGS[number][connection.vendor]
    try:
        for name, (bad, good) in choices.items():
            configure(name, bad)
            assert number in ids(databases=["default"])
            configure(name, good)
            assert number not in ids(databases=["default"])
            configure(name, bad)
        (message,) = [each for each in messages(databases=["default"]) if str(each.id).endswith(number)]
        first = next(iter(choices)).removeprefix("GLOBAL ")
        assert not message.is_serious()
        assert first in message.msg
        assert f"Set {first} " in (message.hint or "")
    finally:
        for name in choices:
            configure(name, "DEFAULT")


def test_i001_asks_no_server_unless_a_database_is_named(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert messages() == []


@pytest.mark.vendors("postgresql", "mysql")
def test_i001_is_silent_where_the_server_does_not_know_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        return execute(sql, ["no_such_setting"] if params else params, *rest)

    with connection.execute_wrapper(unknown):
        assert messages(databases=["default"]) == []


@pytest.mark.vendors("sqlite")
def test_i001_has_nothing_to_say_of_sqlite() -> None:
    assert messages(databases=["default"]) == []


GALERA = "SELECT 'wsrep_on' AS Variable_name, '{}' AS Value UNION SELECT 'wsrep_sync_wait', '{}'"


@pytest.mark.vendors("mysql")
@pytest.mark.parametrize(
    ("on", "sync_wait", "told"), [("ON", 0, True), ("ON", 6, True), ("ON", 7, False), ("OFF", 0, False)]
)
def test_i004_galera_node_whose_reads_may_be_behind_is_told(on: str, sync_wait: int, told: bool) -> None:
    """A real node is asked in tests/galera/."""

    def galera(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if params == ["wsrep%"]:
            sql, params = GALERA.format(on, sync_wait), None
        return execute(sql, params, *rest)

    assert "I004" not in ids(databases=["default"]), "a server without a cluster"
    with connection.execute_wrapper(galera):
        found = [each for each in messages(databases=["default"]) if each.id == "django_idempotency.I004"]
    assert [(each.is_serious(), "wsrep_sync_wait=1" in (each.hint or "")) for each in found] == [
        (False, True)
    ] * told


def test_i004_asks_no_server_of_settings_that_cannot_be_read(settings: Any) -> None:
    settings.IDEMPOTENCY = ["RETENTION"]
    assert "I004" not in ids(databases=["default"])


def test_w006_table_that_is_missing_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """No error: that would keep ``migrate`` from making it."""
    assert "W006" not in ids(databases=["default"])
    monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated")
    (message,) = (each for each in messages(databases=["default"]) if str(each.id).endswith("W006"))
    assert not message.is_serious()
    assert "'not_migrated'" in message.msg
    assert "manage.py migrate" in str(message.hint)
    assert "W006" not in ids()


@pytest.mark.vendors("sqlite")
def test_w007_sqlite_with_atomic_requests_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    (message,) = messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.W007", False)
    assert "Turn ATOMIC_REQUESTS off" in str(message.hint)


@pytest.mark.vendors("postgresql", "mysql")
def test_w007_has_nothing_to_say_of_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert messages() == []


@pytest.mark.once
def test_w008_header_that_is_never_stored_is_a_warning(settings: Any) -> None:
    never = ["Set-Cookie", "date", "Access-Control-Max-Age", "Content-Length"]
    settings.IDEMPOTENCY = {"RESPONSE_HEADERS": ["ETag", *never]}
    (message,) = messages()
    assert (message.id, message.is_serious()) == ("django_idempotency.W008", False)
    assert message.msg.endswith(f"never stored: {', '.join(never)}.")
