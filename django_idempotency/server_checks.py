"""System checks that ask the database server: they run with ``check --database`` and ``migrate`` only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Info, Tags
from django.core.checks import register as register_check
from django.db import connections

from django_idempotency.claims.registry import record_alias

_READS = 1  # the bit of wsrep_sync_wait that is about SELECT


def register() -> None:
    """Register every check of this module."""
    register_check(Tags.database)(check_reads_that_are_behind)


def check_reads_that_are_behind(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """I002: a Galera node that reads what it has applied so far, so that a retry there may run the view in vain."""
    alias = record_alias() if isinstance(getattr(settings, "IDEMPOTENCY", {}), dict) else ""
    if alias not in (databases or ()) or connections[alias].vendor != "mysql":
        return []
    with connections[alias].cursor() as cursor:
        cursor.execute("SHOW VARIABLES LIKE %s", ["wsrep%"])
        found = dict(cursor.fetchall())
    if found.get("wsrep_on") != "ON" or int(found["wsrep_sync_wait"]) & _READS:
        return []
    message = (
        f"The server of {alias!r} is a Galera node whose reads may be behind (wsrep_sync_wait is 0): a retry that comes"
        " just after the first answer of another node may run the view again, and is rolled back."
    )
    hint = 'Set OPTIONS = {"init_command": "SET SESSION wsrep_sync_wait=1"}, or send all writes to one node.'
    return [Info(message, hint=hint, id="django_idempotency.I002")]
