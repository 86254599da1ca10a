"""What replays and refusals came to, written when nobody waits for it, and never waiting for anybody's lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from django_idempotency.claims.sqlite import without_waiting
from django_idempotency.models import IdempotencyHour, IdempotencyRecord


@dataclass(frozen=True)
class Replays:
    """How often one record was replayed, and when last."""

    count: int
    last: datetime

    def __add__(self, other: Replays) -> Replays:
        return Replays(self.count + other.count, max(self.last, other.last))


@dataclass(frozen=True)
class Hour:
    """What one hour saw: replays, and conflicts (409 and 422)."""

    replays: int = 0
    conflicts: int = 0

    def __add__(self, other: Hour) -> Hour:
        return Hour(self.replays + other.replays, self.conflicts + other.conflicts)


def add_to_records(using: str, counts: Mapping[UUID, Replays]) -> dict[UUID, Replays]:
    """Add what can be added at once, in one short transaction, and return the rest: what somebody has locked.

    A record that is gone, or is claimed for another request meanwhile, is not counted any more. On SQLite the
    transaction raises OperationalError when the write lock is not free. May not be called inside ``atomic()``.
    """
    if not counts:
        return {}
    with _short_transaction(using):
        completed = IdempotencyRecord.objects.using(using).completed()
        free = list(_free(completed.filter(id__in=counts), using).only("replays", "last_replayed_at"))
        for record in free:
            mine = counts[record.id]
            record.replays += mine.count
            record.last_replayed_at = max(record.last_replayed_at or mine.last, mine.last)
        # One row a statement on MariaDB: an IN over many rows may read others, whose locks it would wait for.
        size = 1 if connections[using].vendor == "mysql" else None
        IdempotencyRecord.objects.using(using).bulk_update(
            free, ["replays", "last_replayed_at"], batch_size=size
        )
        left = counts.keys() - {record.id for record in free}
        locked = completed.filter(id__in=left).values_list("id", flat=True) if left else ()
        return {record_id: counts[record_id] for record_id in locked}


def add_to_hours(using: str, counts: Mapping[datetime, Hour]) -> dict[datetime, Hour]:
    """Add what can be added at once, as ``add_to_records`` does, and return the rest: locked, or not there yet."""
    left = dict(counts)
    if not counts:
        return left
    with _short_transaction(using):
        for row in _free(IdempotencyHour.objects.using(using).filter(hour__in=counts), using):
            mine = left.pop(row.hour)
            row.replays, row.conflicts = row.replays + mine.replays, row.conflicts + mine.conflicts
            row.save(using=using, force_update=True)
    return left


def open_hours(using: str, hours: Mapping[datetime, Hour]) -> None:
    """Put the rows of these hours there, empty, each in a transaction of its own that does nothing else."""
    for hour in hours:
        with without_waiting(using):
            IdempotencyHour.objects.using(using).get_or_create(hour=hour)


@contextmanager
def _short_transaction(using: str) -> Iterator[None]:
    """Begin one that is for one table only.

    Who holds a lock in one table and wants another one deadlocks with a TRUNCATE or a migration of both, and one of
    the two fails.
    """
    with without_waiting(using), transaction.atomic(using=using, durable=True):
        yield


def _free(rows: Any, using: str) -> Any:
    features = connections[using].features
    if features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True)
    return rows.select_for_update(nowait=features.has_select_for_update_nowait)
