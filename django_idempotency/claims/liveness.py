"""Whether the owner of a record in progress lives: its row lock tells, no clock does."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import connections, transaction

from django_idempotency.models import IdempotencyRecord


def interrupted(using: str, ids: Collection[UUID]) -> set[UUID] | None:
    """Return which of the records in progress with these ids nobody holds, or None where that cannot be told.

    The locks that tell are given back at once, by rolling back. SQLite has no row locks, and InnoDB keeps a lock
    until the end of the transaction, roll-back to a savepoint or not: inside one, nothing is asked there.
    """
    if not ids:
        return set()
    if not _can_ask(using):
        return None
    # SKIP LOCKED and not NOWAIT, so that one held row does not hide the others. A retry that comes while we hold a
    # row is told 409 and to come again in a second, hence one short statement and nothing between it and the roll-back.
    free = IdempotencyRecord.objects.using(using).in_progress().filter(id__in=list(ids)).order_by()
    with transaction.atomic(using=using):
        found = set(free.select_for_update(skip_locked=True).values_list("id", flat=True))
        transaction.set_rollback(True, using=using)
    return found


def _can_ask(using: str) -> bool:
    connection = connections[using]
    if not connection.features.has_select_for_update_skip_locked:
        return False
    return connection.vendor == "postgresql" or not connection.in_atomic_block
