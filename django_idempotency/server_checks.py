"""System checks that ask the records' server how it is set; they run with ``check --database`` and ``migrate`` only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.core.checks import CheckMessage, Info, Tags
from django.core.checks import register as register_check
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.claims.registry import record_alias

_READS = 1  # the bit of wsrep_sync_wait that is about SELECT
_READ = {
    "postgresql": "SELECT setting FROM pg_settings WHERE name = %s",
    "mysql": "SHOW VARIABLES LIKE %s",
}


class Watch(NamedTuple):
    """A setting that leaves a deployment open to an accident while it has one of the values ``open``.

    It is fine when any of a vendor's ``names`` has another value; a name that the server does not know is passed over.
    """

    id: str
    message: str
    hint: str
    names: dict[str, tuple[str, ...]]
    open: tuple[str, ...]


_WATCHED = (
    Watch(
        "django_idempotency.I002",
        "The server of {alias!r} waits for ever for a client that falls silent in an operation ({name} is 0).",
        "Set {name} on the server or in OPTIONS, longer than a view is silent between two statements.",
        {
            "postgresql": ("idle_in_transaction_session_timeout", "transaction_timeout"),
            "mysql": ("idle_transaction_timeout", "idle_write_transaction_timeout"),
        },
        ("0",),
    ),
    Watch(
        "django_idempotency.I003",
        "The server of {alias!r} acknowledges an operation before it is on disk ({name}).",
        "Set {name} to its default, or accept that a crash of the server undoes what clients were told.",
        {"postgresql": ("synchronous_commit",), "mysql": ("innodb_flush_log_at_trx_commit",)},
        ("off", "0", "2"),
    ),
)


def register() -> None:
    """Register every check of this module."""
    register_check(Tags.database)(check_server)


def check_server(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """I002: a silent client keeps its key for ever; I003: an operation is acknowledged before it is on disk.

    I004: a Galera node reads what it has applied so far, so that a retry there may run the view in vain.
    """
    readable = isinstance(getattr(settings, "IDEMPOTENCY", {}), dict)
    if not readable or record_alias() not in (databases or ()):
        return []
    connection = connections[record_alias()]
    watched = [message for watch in _WATCHED for message in _left_open(connection, watch)]
    return [*watched, *_reads_behind(connection)]


def _left_open(connection: BaseDatabaseWrapper, watch: Watch) -> list[CheckMessage]:
    found, names = list[str](), watch.names.get(connection.vendor, ())
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(_READ[connection.vendor], [name])
            found += [str(row[-1]) for row in cursor.fetchall()]
    if not found or not set(found) <= set(watch.open):
        return []
    words = {"alias": connection.alias, "name": names[0]}
    return [Info(watch.message.format(**words), hint=watch.hint.format(**words), id=watch.id)]


def _reads_behind(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    if connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(_READ["mysql"], ["wsrep%"])
        found = dict(cursor.fetchall())
    if found.get("wsrep_on") != "ON" or int(found["wsrep_sync_wait"]) & _READS:
        return []
    message = (
        f"The server of {connection.alias!r} is a Galera node whose reads may be behind (wsrep_sync_wait is 0): a retry"
        " just after the first answer of another node may run the view again, and is rolled back."
    )
    hint = 'Set OPTIONS = {"init_command": "SET SESSION wsrep_sync_wait=1"}, or send all writes to one node.'
    return [Info(message, hint=hint, id="django_idempotency.I004")]
