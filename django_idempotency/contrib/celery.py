"""Celery: a task that purges, for beat; and what a process counts, written down between two tasks."""

from __future__ import annotations

from celery import shared_task
from celery.signals import task_postrun

from django_idempotency.claims.registry import record_alias
from django_idempotency.claims.retention import PurgeLimits, purge_expired
from django_idempotency.upkeep import after_request

task_postrun.connect(after_request, dispatch_uid="django_idempotency.upkeep")


@shared_task(name="django_idempotency.purge_idempotency_records", ignore_result=True)
def purge_idempotency_records(
    using: str | None = None, batch_size: int = 1000, max_seconds: float | None = 240, pause: float = 0
) -> int:
    """Delete what has expired, for up to ``max_seconds``, and return how many records that were.

    Two that run at once share the work, and it may be run again after any failure.
    """
    limits = PurgeLimits(batch_size, max_seconds=max_seconds, pause=pause)
    return purge_expired(using or record_alias(), limits).deleted
