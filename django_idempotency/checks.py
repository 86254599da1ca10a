"""System checks: each has a stable id, names the setting, and says what to change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, Info, Tags, Warning
from django.core.checks import register as register_check
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from django_idempotency.claims.registry import record_alias
from django_idempotency.conf import Defaults, conf
from django_idempotency.encryption import is_installed
from django_idempotency.options import is_methods

Apps = Sequence[AppConfig] | None

_CENTURY = 100 * 365 * 86400.0
_HEADER_NAME = re.compile("[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_FERNET_KEY = re.compile("[A-Za-z0-9_-]{43}=")  # 32 bytes in URL-safe base64
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:|/)[!#-;=?-~]*")  # whole, or from the root of the site
_MAKE_KEY = """python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"""


def register() -> None:
    """Register every check; those that ask a server run with ``check --database`` and ``migrate`` only."""
    register_check(check_names)
    register_check(check_values)
    register_check(check_hooks)
    register_check(check_locking)
    register_check(Tags.database)(check_dead_clients)


def check_names(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """E001: a name in IDEMPOTENCY that no code reads; the record would silently follow the default."""
    if not is_readable():
        hint = 'Write IDEMPOTENCY = {"RETENTION": 86400}.'
        return [Error("IDEMPOTENCY must be a dict of settings.", hint=hint, id="django_idempotency.E001")]
    known = list(Defaults.__annotations__)
    return [
        Error(
            f"IDEMPOTENCY[{name!r}] is not a setting.",
            hint=_did_you_mean(name, known),
            id="django_idempotency.E001",
        )
        for name in getattr(settings, "IDEMPOTENCY", {})
        if name not in known
    ]


def is_readable() -> bool:
    """Tell whether the settings are a dict; if not, E001 says so."""
    return isinstance(getattr(settings, "IDEMPOTENCY", {}), dict)


def _record_alias() -> str:
    return record_alias() if is_readable() else ""


def _did_you_mean(name: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name).upper(), known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known settings: {', '.join(known)}."


def _is_retention(value: Any) -> bool:
    """Accept what still is a date when it is added to today."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return isinstance(seconds, int | float) and value is not True and 0 < seconds <= _CENTURY


def _is_count(value: Any, low: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_wait(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 3600


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _is_paths(value: Any) -> bool:
    return _is_names(value) and all(re.fullmatch("/[^*?^$<>]*", path) for path in value)


def _is_url(value: Any) -> bool:
    return value is None or (isinstance(value, str) and _URL.fullmatch(value) is not None)


def _is_keys(value: Any) -> bool:
    return _is_names(value) and all(_FERNET_KEY.fullmatch(key) for key in value)


def _is_header(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return bool(names) and _is_names(names) and all(_HEADER_NAME.fullmatch(name) for name in names)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "REQUIRED": (_is_bool, "True or False"),
    "METHODS": (is_methods, 'a list of methods in upper case, such as ["POST", "PATCH"]'),
    "RETENTION": (_is_retention, "a number of seconds above 0, or a timedelta, up to 100 years"),
    "WAIT_SECONDS": (_is_wait, "a number of seconds from 0 to 3600"),
    "FINGERPRINT_IGNORE": (_is_names, "a list of field names"),
    "HEADER": (_is_header, 'header names, with hyphens, as sent, not the META name: ["Idempotency-Key"]'),
    "KEY_FORMAT": (lambda value: value in ("lenient", "strict"), '"lenient" or "strict"'),
    "KEY_MAX_LENGTH": (lambda value: _is_count(value, 1) and value <= 255, "a number from 1 to 255"),
    "STORE_BODY": (_is_bool, "True or False"),
    "STORE_REQUEST_PAYLOAD": (_is_bool, "True or False"),
    "MAX_BODY_BYTES": (_is_count, "a number of bytes, 0 or more"),
    "REDACT": (_is_names, "a list of field names"),
    "ENCRYPTION_KEYS": (_is_keys, f"a list of Fernet keys, made by: {_MAKE_KEY}"),
    "RESPONSE_HEADERS": (_is_names, "a list of header names"),
    "RETRIES": (_is_count, "a number, 0 or more"),
    "RETRY_AFTER": (lambda value: _is_count(value, 1), "a number of seconds, 1 or more"),
    "RETRY_HINTS": (_is_bool, "True or False"),
    "REPLAY_HEADER": (lambda value: isinstance(value, str) and _is_header(value), "a header name"),
    "ERROR_FORMAT": (lambda value: value in ("problem", "json"), '"problem" or "json"'),
    "DOCUMENTATION_URL": (_is_url, 'a URL such as "https://example.com/docs/", or None'),
    "MIDDLEWARE_PATHS": (_is_paths, 'a list of path prefixes such as ["/api/"], no patterns'),
    "DATABASE": (lambda value: value is None or value in connections, "an alias of DATABASES, or None"),
    "CLAIM": (lambda value: value in ("auto", "row_lock"), '"auto" or "row_lock"'),
    "CACHE": (lambda value: value is None or value in tuple(caches.settings), "an alias of CACHES, or None"),
    "ADMIN": (_is_bool, "True or False"),
    "COUNT_REPLAYS": (_is_bool, "True or False"),
    "PURGE_AFTER_REQUESTS": (lambda value: _is_count(value) and value <= 1000, "a number from 0 to 1000"),
}


HOOKS = ("SCOPE", "FINGERPRINT", "KEY_VALIDATOR", "STORE")


def check_values(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """E002: a value of the wrong kind."""
    return [
        Error(
            f"IDEMPOTENCY[{name!r}] has a value that cannot be used{_shown(name)}.",
            hint=f"Set it to {wanted}, or leave it out.",
            id="django_idempotency.E002",
        )
        for name, (accepts, wanted) in RULES.items()
        if is_readable() and not accepts(value := getattr(conf, name))
        # Without the package E101 comes first: a key is made with it.
        if name != "ENCRYPTION_KEYS" or not value or is_installed()
    ]


def _shown(name: str) -> str:
    return "" if name == "ENCRYPTION_KEYS" else f": {getattr(conf, name)!r}"


def check_hooks(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """E003: a hook that is neither a callable nor the dotted path of one."""
    return list(_broken_hooks(HOOKS))


def _broken_hooks(names: Iterable[str]) -> Iterator[CheckMessage]:
    for name in names:
        value = getattr(conf, name) if is_readable() else None
        if value is not None and not _is_hook(value):
            yield Error(
                f"IDEMPOTENCY[{name!r}] is neither a callable nor the dotted path of one: {value!r}.",
                hint="Correct the path, or set the callable itself.",
                id="django_idempotency.E003",
            )


def _is_hook(value: Any) -> bool:
    try:
        return callable(import_string(value) if isinstance(value, str) else value)
    except (ImportError, TypeError, ValueError):  # the last two: a path that begins with a dot
        return False


def check_locking(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """W001: SQLite that fails at once; E004: a database that cannot refuse a lock at once."""
    alias = _record_alias()
    if alias not in connections:
        return []
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return _check_sqlite(connection)
    if not connection.features.has_select_for_update_nowait:
        message = (
            f"The database {alias!r} keeps the idempotency records and has no SELECT … FOR UPDATE NOWAIT."
        )
        hint = "Use PostgreSQL, MariaDB, MySQL 8 or SQLite for IDEMPOTENCY['DATABASE']."
        return [Error(message, hint=hint, id="django_idempotency.E004")]
    return []


def _check_sqlite(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or ""
    if mode.upper() in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    options = '{"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"}'
    message = (
        f"SQLite database {connection.alias!r} is not in IMMEDIATE mode: "
        "simultaneous writers fail at once with 'database is locked'."
    )
    return [Warning(message, hint=f"Set OPTIONS = {options}.", id="django_idempotency.W001")]


def check_dead_clients(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """I001: a server that finishes a dead client's statement first, so that its key stays busy for as long (I8)."""
    alias = _record_alias()
    if alias not in (databases or ()):
        return []
    vendor = connections[alias].vendor
    if vendor not in _DEAD_CLIENTS:
        return []
    query, setting = _DEAD_CLIENTS[vendor]
    with connections[alias].cursor() as cursor:
        cursor.execute(query, [setting])
        row = cursor.fetchone()
    if row is None or float(row[-1]):  # no row: the server is too old for the setting, or MySQL
        return []
    message = (
        f"The server of {alias!r} finishes a dead client's statement before it notices ({setting} is 0)."
    )
    hint = f"Set {setting} on the server or in OPTIONS, so that a retry after a crash runs at once."
    return [Info(message, hint=hint, id="django_idempotency.I001")]


_DEAD_CLIENTS = {
    "postgresql": (
        "SELECT setting FROM pg_settings WHERE name = %s",
        "client_connection_check_interval",
    ),
    "mysql": ("SHOW VARIABLES LIKE %s", "max_statement_time"),
}
