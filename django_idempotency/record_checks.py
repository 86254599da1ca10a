"""System checks of where the records are kept: whether the table is there, and what SQLite does not bear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags
from django.core.checks import Warning as CheckWarning
from django.core.checks import register as register_check
from django.db import connections

from django_idempotency.checks import RULES, is_readable
from django_idempotency.claims.registry import record_alias
from django_idempotency.conf import conf
from django_idempotency.http import is_never_stored
from django_idempotency.models import IdempotencyRecord


def register() -> None:
    """Register every check of this module; what asks a server runs with ``check --database`` and ``migrate`` only."""
    register_check(check_atomic_requests)
    register_check(check_stored_headers)
    register_check(Tags.database)(check_table)


def check_atomic_requests(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W007: SQLite with ATOMIC_REQUESTS: a replay takes the write lock, and a busy database is 500."""
    alias = record_alias() if is_readable() else ""
    if alias not in connections or connections[alias].vendor != "sqlite":
        return []
    if not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return []
    message = f"SQLite database {alias!r} has ATOMIC_REQUESTS: replays take its write lock, or get 500."
    hint = "Turn ATOMIC_REQUESTS off: a guarded request has a transaction of its own."
    return [CheckWarning(message, hint=hint, id="django_idempotency.W007")]


def check_stored_headers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W008: RESPONSE_HEADERS asks for what is never stored."""
    names = conf.RESPONSE_HEADERS if is_readable() else []
    never = [name for name in names if is_never_stored(name)] if RULES["RESPONSE_HEADERS"][0](names) else []
    if not never:
        return []
    message = f"IDEMPOTENCY['RESPONSE_HEADERS'] names what is never stored: {', '.join(never)}."
    hint = "Leave it out: a replay has none of the first answer's."
    return [CheckWarning(message, hint=hint, id="django_idempotency.W008")]


def check_table(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W006: no table for the records; a warning, since ``migrate`` asks before it makes the table."""
    alias = record_alias() if is_readable() else ""
    if alias not in (databases or ()) or alias not in connections:
        return []
    table = IdempotencyRecord._meta.db_table
    if table in connections[alias].introspection.table_names():
        return []
    message = f"The database {alias!r} has no table {table!r}: every keyed request gets 503."
    hint = "Run manage.py migrate; before the first one it is as it should be."
    return [CheckWarning(message, hint=hint, id="django_idempotency.W006")]
