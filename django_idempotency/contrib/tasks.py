"""``django.tasks`` (Django 6.0 and later): a task that purges."""

from __future__ import annotations

from typing import Any

from django.tasks import task

from django_idempotency.upkeep import purge


@task
def purge_idempotency_records(**limits: Any) -> int:
    """Call ``upkeep.purge()`` with these arguments, and return how many records it deleted."""
    return purge(**limits)
