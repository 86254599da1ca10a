"""Celery: a task that purges, for beat; and what a process counts, written down between two tasks."""

from __future__ import annotations

from celery import shared_task
from celery.signals import task_postrun

from django_idempotency.upkeep import after_request, purge

task_postrun.connect(after_request, dispatch_uid="django_idempotency.upkeep")

#: ``upkeep.purge()``, with its arguments.
purge_idempotency_records = shared_task(
    name="django_idempotency.purge_idempotency_records", ignore_result=True
)(purge)
