"""The end of a record: expire it early, or delete it once it has expired."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connections, transaction
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet
from django_idempotency.signals import purged


@dataclass(frozen=True)
class PurgeLimits:
    """How much one purge may do: records a batch, records in all, and seconds; None means no limit."""

    batch_size: int = 1000
    max_rows: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class PurgeResult:
    """What a purge did: records deleted, batches, and whether expired records were left by a limit or by a lock."""

    deleted: int
    batches: int
    finished: bool


def purge_expired(
    using: str, limits: PurgeLimits, progress: Callable[[int], object] = lambda count: None
) -> PurgeResult:
    """Delete what has expired by now, oldest first, in one short transaction a batch.

    Records that a running operation or another purger has locked are passed over (SKIP LOCKED), so purgers share
    the work and a live operation never waits; nothing that is not expired is deleted. ``progress`` is called with
    the size of each batch.
    """
    now, started, deleted, batches = timezone.now(), time.monotonic(), 0, 0
    while (size := _next_size(limits, deleted, started)) > 0:
        count = delete_batch(IdempotencyRecord.objects.using(using).expired(now), size)
        if count:
            progress(count)
        deleted, batches = deleted + count, batches + bool(count)
        if count < size:
            return _result(using, deleted, batches, finished=True)
    return _result(using, deleted, batches, finished=not _any_expired(using, now))


def delete_batch(records: IdempotencyRecordQuerySet, size: int) -> int:
    """Delete up to ``size`` of ``records``, oldest expiry first, in one transaction, without waiting for any lock."""
    with transaction.atomic(using=records.db):
        ids = list(_unlocked(records).order_by("expires_at").values_list("id", flat=True)[:size])
        return records.filter(id__in=ids).delete()[0] if ids else 0


def expire_now(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> list[UUID]:
    """End the retention of the records with these ids now; return the ids of those that no operation was holding.

    From then on their keys count as unused: a retry runs the operation again.
    """
    chosen = records.filter(id__in=list(ids))
    with transaction.atomic(using=records.db):
        free = list(_unlocked(chosen).values_list("id", flat=True))
        records.filter(id__in=free).update(expires_at=timezone.now())
    return free


def purge_chosen(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> set[UUID]:
    """Delete those of the records with these ids that have expired and that no operation holds; return their ids."""
    chosen = records.filter(id__in=list(ids)).expired()
    with transaction.atomic(using=records.db):
        gone = set(_unlocked(chosen).values_list("id", flat=True))
        records.filter(id__in=gone).delete()
    return gone


def _unlocked(records: IdempotencyRecordQuerySet) -> IdempotencyRecordQuerySet:
    """Lock what can be locked at once; where the database cannot skip, its DELETE waits instead."""
    features = connections[records.db].features
    if features.has_select_for_update_skip_locked and features.supports_select_for_update_with_limit:
        return records.select_for_update(skip_locked=True)
    return records


def _next_size(limits: PurgeLimits, deleted: int, started: float) -> int:
    if limits.max_seconds is not None and time.monotonic() - started >= limits.max_seconds:
        return 0
    return limits.batch_size if limits.max_rows is None else min(limits.batch_size, limits.max_rows - deleted)


def _any_expired(using: str, now: datetime) -> bool:
    return IdempotencyRecord.objects.using(using).expired(now).exists()


def _result(using: str, deleted: int, batches: int, *, finished: bool) -> PurgeResult:
    purged.send_robust(IdempotencyRecord, count=deleted, using=using)
    return PurgeResult(deleted, batches, finished)
