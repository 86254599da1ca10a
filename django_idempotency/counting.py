"""Replays and conflicts, counted in this process's memory and written down between requests.

A replay itself writes nothing, so a storm on one key queues for no lock. What a process has not written when it dies
is lost: the counts are for operators, and nothing is decided by them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import Error
from django.utils import timezone

from django_idempotency.claims.counts import Hour, Replays, add_to_hours, add_to_records, open_hours
from django_idempotency.conf import conf
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import FingerprintMismatch, IdempotencyError, InProgress
from django_idempotency.signals import rejected, replayed

logger = logging.getLogger("django_idempotency")

#: At most one write per so many seconds and process.
WRITE_EVERY = 5.0
#: Records written at a time, and records remembered at most: beyond it, only the hour's sum grows.
WRITTEN_AT_ONCE = 500
REMEMBERED = 10_000


@dataclass(frozen=True)
class Counts:
    """What is to be added to the records and to the hours of one database alias."""

    records: dict[UUID, Replays] = field(default_factory=dict)
    hours: dict[datetime, Hour] = field(default_factory=dict)


class Tally:
    """What this process has counted and not yet written, per database alias; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts: dict[str, Counts] = defaultdict(Counts)
            self._due: float | None = None

    def add(self, using: str, hour: Hour, operation: Operation | None = None) -> None:
        """Count one replay of ``operation``, or one conflict, for the hour that it is."""
        now = timezone.now()
        with self._lock:
            counts = self._counts[using]
            self._merge(counts.hours, _start_of(now), hour)
            records = counts.records
            if operation is not None and (operation.id in records or len(records) < REMEMBERED):
                self._merge(records, operation.id, Replays(1, now))
            self._due = self._due or time.monotonic() + WRITE_EVERY

    def due(self) -> list[str]:
        """Return the aliases to write to now, if WRITE_EVERY seconds have passed since the last time."""
        with self._lock:
            if self._due is None or time.monotonic() < self._due:
                return []
            self._due = time.monotonic() + WRITE_EVERY if self._counts else None
            return list(self._counts)

    def take(self, using: str) -> Counts:
        """Return what to write next, and forget it."""
        with self._lock:
            counts = self._counts.pop(using, Counts())
            chosen = dict(islice(counts.records.items(), WRITTEN_AT_ONCE))
            rest = {each: counts.records[each] for each in counts.records.keys() - chosen.keys()}
            if rest:
                self._counts[using] = Counts(rest)
            return Counts(chosen, counts.hours)

    def give_back(self, using: str, counts: Counts) -> None:
        """Remember again what could not be written."""
        if not (counts.records or counts.hours):
            return
        with self._lock:
            mine = self._counts[using]
            for hour, seen in counts.hours.items():
                self._merge(mine.hours, hour, seen)
            for record_id, replays in counts.records.items():
                self._merge(mine.records, record_id, replays)

    @staticmethod
    def _merge(counts: dict[Any, Any], name: Any, more: Any) -> None:
        counts[name] = counts[name] + more if name in counts else more


tally = Tally()


def connect() -> None:
    """Count what the signals tell."""
    replayed.connect(count_replay, dispatch_uid="django_idempotency.counting")
    rejected.connect(count_conflict, dispatch_uid="django_idempotency.counting")


def count_replay(operation: Operation, using: str, **kwargs: Any) -> None:
    """Count a replay, in memory."""
    if conf.COUNT_REPLAYS:
        tally.add(using, Hour(replays=1), operation)


def count_conflict(error: IdempotencyError, using: str, **kwargs: Any) -> None:
    """Count a request that met another one: still running (409), or different (422)."""
    if conf.COUNT_REPLAYS and isinstance(error, InProgress | FingerprintMismatch):
        tally.add(using, Hour(conflicts=1))


def write(using: str) -> None:
    """Write down what was counted for ``using``; what is locked, or cannot be written, is kept for the next time.

    Outside requests nothing calls this by itself: a worker calls it between two tasks, outside ``atomic()``.
    """
    taken = tally.take(using)
    records, hours = taken.records, taken.hours
    try:
        records = add_to_records(using, records)
        hours = add_to_hours(using, hours)
        if hours:  # locked, or the first of the hour
            open_hours(using, hours)
            hours = add_to_hours(using, hours)
    except Error as error:
        logger.info("Replays on %r are not written down yet (%s)", using, type(error).__name__)
    finally:
        tally.give_back(using, Counts(records, hours))


def _start_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
