"""What replays and refusals came to, written when nobody waits for it, and never waiting for anybody's lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Counts:
    """What is to be added to the records and to the hours of one database alias."""

    records: dict[UUID, Replays] = field(default_factory=dict)
    hours: dict[datetime, Hour] = field(default_factory=dict)


def add_counts(using: str, counts: Counts) -> Counts:
    """Add what can be added at once, in one short transaction, and return the rest: what somebody has locked.

    A record that is gone, or is claimed for another request meanwhile, is not counted any more. On SQLite the
    transaction raises OperationalError when the write lock is not free. May not be called inside ``atomic()``.
    """
    with without_waiting(using), transaction.atomic(using=using, durable=True):
        records = _add_to_records(using, counts.records)
        # Last, since every process writes to this one row.
        return Counts(records, _add_to_hours(using, counts.hours))


def _add_to_records(using: str, counts: Mapping[UUID, Replays]) -> dict[UUID, Replays]:
    if not counts:
        return {}
    completed = IdempotencyRecord.objects.using(using).completed()
    free = list(_free(completed.filter(id__in=counts), using).only("replays", "last_replayed_at"))
    for record in free:
        mine = counts[record.id]
        record.replays += mine.count
        record.last_replayed_at = max(record.last_replayed_at or mine.last, mine.last)
    # One row a statement on MariaDB: an IN over many rows may read others, whose locks it would wait for.
    size = 1 if connections[using].vendor == "mysql" else None
    IdempotencyRecord.objects.using(using).bulk_update(free, ["replays", "last_replayed_at"], batch_size=size)
    left = counts.keys() - {record.id for record in free}
    locked = completed.filter(id__in=left).values_list("id", flat=True) if left else ()
    return {record_id: counts[record_id] for record_id in locked}


def _add_to_hours(using: str, counts: Mapping[datetime, Hour]) -> dict[datetime, Hour]:
    hours = IdempotencyHour.objects.using(using)
    rows = {row.hour: row for row in _free(hours.filter(hour__in=counts), using)} if counts else {}
    left = {}
    for hour, mine in counts.items():
        if (row := rows.get(hour)) is not None:
            row.replays, row.conflicts = row.replays + mine.replays, row.conflicts + mine.conflicts
            row.save(using=using, force_update=True)
        else:
            left[hour] = mine
    return left


def open_hours(using: str, hours: Mapping[datetime, Hour]) -> None:
    """Put the rows of these hours there, empty, each in a transaction of its own that does nothing else."""
    for hour in hours:
        with without_waiting(using):
            IdempotencyHour.objects.using(using).get_or_create(hour=hour)


def _free(rows: Any, using: str) -> Any:
    features = connections[using].features
    if features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True)
    return rows.select_for_update(nowait=features.has_select_for_update_nowait)
