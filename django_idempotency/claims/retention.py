"""The end of a record: expire it early, or delete it once it has expired."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from django_idempotency import replay_cache
from django_idempotency.claims.lookups import by_primary_key
from django_idempotency.models import IdempotencyHour, IdempotencyRecord, IdempotencyRecordQuerySet
from django_idempotency.signals import purged

#: How long the purge keeps the sums of replays.
HOURS_KEPT = timedelta(days=7)


@dataclass(frozen=True)
class PurgeLimits:
    """How much one purge may do: records a batch, records in all, seconds, and the pause after a batch.

    None means no limit.
    """

    batch_size: int = 1000
    max_rows: int | None = None
    max_seconds: float | None = None
    pause: float = 0


@dataclass(frozen=True)
class Found:
    """A record that belongs to a scope, and whether its key still counts."""

    id: UUID
    live: bool


@dataclass(frozen=True)
class PurgeResult:
    """What a purge did: records deleted, batches, and whether it saw the end of them, or a limit ended it before.

    Records that were locked are no part of either: the next purge finds them.
    """

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
    IdempotencyHour.objects.using(using).filter(hour__lt=now - HOURS_KEPT).delete()
    expired = IdempotencyRecord.objects.using(using).expired(now)
    while (size := _next_size(limits, deleted, started)) > 0:
        count = delete_batch(expired, size)
        if count:
            progress(count)
        deleted, batches = deleted + count, batches + bool(count)
        if count < size:
            return PurgeResult(deleted, batches, finished=True)
        if limits.pause:
            time.sleep(limits.pause)
    return PurgeResult(deleted, batches, finished=not expired.exists())


def delete_batch(records: IdempotencyRecordQuerySet, size: int) -> int:
    """Delete up to ``size`` of ``records``, oldest expiry first, in one transaction, without waiting for any lock."""
    with transaction.atomic(using=records.db):
        chosen = _unlocked(records).order_by("expires_at").values_list("id", flat=True)[:size]
        # PostgreSQL locks and deletes in one statement; others cannot, or wait.
        return _delete(records, chosen if connections[records.db].vendor == "postgresql" else list(chosen))


def expire_now(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> set[UUID]:
    """End the retention of the live records with these ids now; return the ids of those that no operation was holding.

    From then on their keys count as unused: a retry runs the operation again.
    """
    now = timezone.now()
    return _change(records, records.live(now), ids, lambda part: part.update(expires_at=now))


def extend(records: IdempotencyRecordQuerySet, ids: Iterable[UUID], period: timedelta) -> set[UUID]:
    """Move the expiry of the live records with these ids by ``period``; return the ids of those that were free.

    What has expired stays expired: its key may be in use for another request already.
    """
    later = F("expires_at") + period
    return _change(records, records.live(timezone.now()), ids, lambda part: part.update(expires_at=later))


def purge_chosen(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> set[UUID]:
    """Delete those of the records with these ids that have expired and that no operation holds; return their ids."""
    return delete_chosen(records.expired(timezone.now()), ids)


def find(using: str, scope: str, key: str | None, batch_size: int) -> Iterator[list[Found]]:
    """Yield, in batches, the records of ``scope``: a whole one, or a principal on every route; of one key, or of all.

    A key is found by its index; without one the table is read once, by primary key, and nothing is locked. Texts are
    compared here: MariaDB takes ``a``, ``A`` and ``a `` for one.
    """
    records = IdempotencyRecord.objects.using(using).filter(Q(scope=scope) | Q(scope__startswith=f"{scope} "))
    if key is not None:
        records = records.filter(key=key)
    page, now = records.order_by("id"), timezone.now()
    while rows := list(page.values_list("id", "scope", "key", "expires_at")[:batch_size]):
        yield [
            Found(record_id, expires_at > now)
            for record_id, its_scope, its_key, expires_at in rows
            if f"{its_scope} ".startswith(f"{scope} ") and key in (None, its_key)
        ]
        page = records.filter(id__gt=rows[-1][0]).order_by("id")


def delete_chosen(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> set[UUID]:
    """Delete the records with these ids, live ones too, unless an operation holds them; return their ids.

    A retry of a deleted operation runs it again.
    """
    with transaction.atomic(using=records.db):
        free = _lock_free(records, ids)
        replay_cache.forget(free, records.db)
        _delete(records, free)
    return free


def _change(
    records: IdempotencyRecordQuerySet,
    wanted: IdempotencyRecordQuerySet,
    ids: Iterable[UUID],
    change: Callable[[IdempotencyRecordQuerySet], object],
) -> set[UUID]:
    with transaction.atomic(using=records.db):
        free = _lock_free(wanted, ids)
        replay_cache.forget(free, records.db)
        for part in _one_by_one(records, free):
            change(part)
    return free


def _lock_free(records: IdempotencyRecordQuerySet, ids: Iterable[UUID]) -> set[UUID]:
    return set(_unlocked(records.filter(id__in=list(ids))).values_list("id", flat=True))


def _can_skip(using: str) -> bool:
    features = connections[using].features
    return features.has_select_for_update_skip_locked and features.supports_select_for_update_with_limit


def _unlocked(records: IdempotencyRecordQuerySet) -> IdempotencyRecordQuerySet:
    """Lock what can be locked at once; where the database cannot skip, its DELETE waits instead."""
    return records.select_for_update(skip_locked=True) if _can_skip(records.db) else records


def _delete(records: IdempotencyRecordQuerySet, ids: Collection[UUID]) -> int:
    """Delete those of ``records`` that have these ids, tell how many, and send ``purged`` once that is committed."""
    label = IdempotencyRecord._meta.label
    with by_primary_key(records.db):
        count = _by_id(records, ids).delete()[1].get(label, 0)
    if count:
        using = records.db
        transaction.on_commit(
            lambda: purged.send_robust(IdempotencyRecord, count=count, using=using), using=using
        )
    return count


def _by_id(records: IdempotencyRecordQuerySet, ids: Collection[UUID]) -> IdempotencyRecordQuerySet:
    """Return the ``records`` with these ids, which we have locked if we can.

    Then without the date that says which: beside an id MariaDB answers it by a scan, which waits for others' locks.
    """
    if _can_skip(records.db):
        records = IdempotencyRecord.objects.using(records.db)
    return records.filter(id__in=ids)


def _one_by_one(
    records: IdempotencyRecordQuerySet, ids: Collection[UUID]
) -> Iterator[IdempotencyRecordQuerySet]:
    """Split the ``records`` with these ids into queries whose UPDATE touches no other row, on MariaDB too."""
    if connections[records.db].vendor == "mysql":
        yield from (_by_id(records, [record_id]) for record_id in ids)
    else:
        yield _by_id(records, ids)


def _next_size(limits: PurgeLimits, deleted: int, started: float) -> int:
    if limits.max_seconds is not None and time.monotonic() - started >= limits.max_seconds:
        return 0
    return limits.batch_size if limits.max_rows is None else min(limits.batch_size, limits.max_rows - deleted)
