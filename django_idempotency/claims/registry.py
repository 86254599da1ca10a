"""Which claim serves which database."""

from __future__ import annotations

from django.db import connections, router

from django_idempotency.claims.base import Claims
from django_idempotency.claims.postgresql import PostgreSQLClaims
from django_idempotency.claims.row_lock import RowLockClaims
from django_idempotency.claims.sqlite import SQLiteClaims
from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyRecord


def record_alias() -> str:
    """Return the alias that keeps the records: the setting DATABASE, else what the routers say for a write."""
    return conf.DATABASE or router.db_for_write(IdempotencyRecord)


def claims_for(using: str) -> Claims:
    """Return the claims of a database alias: its own for SQLite and PostgreSQL, the row lock everywhere else.

    The setting CLAIM ``"row_lock"`` takes the row lock on PostgreSQL too. Processes with either may run side by side.
    """
    vendor = connections[using].vendor
    if vendor == "postgresql" and conf.CLAIM != "row_lock":
        return PostgreSQLClaims(using)
    return SQLiteClaims(using) if vendor == "sqlite" else RowLockClaims(using)


class RecordAlias(set[str]):
    """The aliases for which Django must not open ATOMIC_REQUESTS' transaction: the records' alias, on access."""

    def __contains__(self, alias: object) -> bool:
        return self.is_named(alias) or alias == record_alias()

    def is_named(self, alias: object) -> bool:
        """Tell whether the project itself said ``@transaction.non_atomic_requests`` for an alias."""
        return super().__contains__(alias)
